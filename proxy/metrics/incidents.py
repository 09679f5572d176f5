"""Troubles of the last days, alike ones as one: what happened, how often, when first and last, in whose words.

A bounded number of them, whatever clients or upstream do. It knows no component and gives no advice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from threading import Lock

import orjson

from proxy.rules import advice, secrets
from proxy.stores.base import Observer

KEPT = 50
"""Troubles of different kinds."""
KEEP_SECONDS = 2 * 86400.0
"""After its last time: what is over for two days is history."""
LONGEST = 500
"""Characters of what is told of one."""


@dataclass(frozen=True, slots=True)
class Incident:
    """where: the endpoint or the component; kind: the class of the error that clients were told, "" for what a
    component said by itself; status: theirs, 0 for none; detail: the last one's words."""

    where: str
    kind: str
    status: int
    detail: str
    first: float
    last: float
    count: int = 1

    @property
    def alike(self) -> tuple[str, str, int]:
        return self.where, self.kind, self.status


class Incidents:
    """Those of this process since they were last taken. It may be told in any thread."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = Lock()
        self._found: dict[tuple[str, str, int], Incident] = {}

    def failed(self, where: str, kind: str, status: int, detail: str) -> None:
        """A client was told an error."""
        self._note(where, kind, status, detail)

    def happened(self, where: str, detail: str) -> None:
        """A component is in trouble."""
        self._note(where, "", 0, detail)

    def noted(self) -> list[Incident]:
        with self._lock:
            return list(self._found.values())

    def give_back(self, taken: list[Incident]) -> None:
        """What was taken could not be written down."""
        with self._lock:
            for each in taken:
                self._keep(each)

    def take(self) -> list[Incident]:
        with self._lock:
            found, self._found = self._found, {}
        return list(found.values())

    def _note(self, where: str, kind: str, status: int, detail: str) -> None:
        now = self._clock()
        new = Incident(where, kind, status, secrets.text(detail)[:LONGEST], now, now)
        with self._lock:
            self._keep(new)

    def _keep(self, new: Incident) -> None:
        if new.alike in self._found or len(self._found) < KEPT:
            self._found[new.alike] = _joined(self._found.get(new.alike), new)


def heard(observe: Observer, incidents: Incidents) -> Observer:
    """`observe`, and what it hears of troubles is noted."""

    def heard(where: str, happened: str) -> None:
        if advice.trouble(happened):
            incidents.happened(where, happened)
        observe(where, happened)

    return heard


def unpacked(row: bytes) -> list[Incident]:
    """Those of a row, the last first; none for one that was not written here."""
    try:
        found = [Incident(**each) for each in orjson.loads(row)] if row else []
    except (ValueError, TypeError):
        return []
    return found if all(map(_sound, found)) else []


def _sound(incident: Incident) -> bool:
    texts = (incident.where, incident.kind, incident.detail)
    return (
        all(type(text) is str for text in texts)
        and all(type(number) is int and 0 <= number < 2**62 for number in (incident.status, incident.count))
        and all(type(number) in (int, float) and 0 <= number < 1e15 for number in (incident.first, incident.last))
    )


def added(row: bytes, more: list[Incident], now: float) -> bytes:
    """The row with more in it, and without what is too old or too much."""
    found = {each.alike: each for each in unpacked(row)}
    for each in more:
        found[each.alike] = _joined(found.get(each.alike), each)
    latest = sorted(found.values(), key=lambda each: -each.last)
    kept = [each for each in latest if each.last > now - KEEP_SECONDS][:KEPT]
    return orjson.dumps([asdict(each) for each in kept])


def _joined(before: Incident | None, new: Incident) -> Incident:
    if before is None:
        return new
    latest = max(before, new, key=lambda each: each.last)
    return replace(latest, first=min(before.first, new.first), count=before.count + new.count)
