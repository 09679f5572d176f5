"""What this machine has done in the last days, for its dashboard: by endpoint and time, by crate, and what went wrong.

Each process notes what is its own in plain integers, bounded, and writes it down every few seconds; all of it is read
where all processes write. It costs a request one addition. It knows no page and gives no advice.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from proxy.metrics import incidents, slots
from proxy.metrics.incidents import Incident, Incidents
from proxy.metrics.savings import Item, Subject
from proxy.metrics.slots import CRATES, DAYS, HOURS, MINUTES, Sums
from proxy.stores.recent import Change, RecentBook, Row

NAMES = 5000
"""Crates that are counted between two writings; who comes with one more is not among the most asked for."""

_OVER_TIME = MINUTES, HOURS, DAYS
_INCIDENTS = Row("incidents", 0)


@dataclass(frozen=True, slots=True)
class Record:
    """All that is written. minutes, hours, days: the slots of the last ten minutes, six hours and two days, the oldest
    first, each with its beginning; crates: the sums of about a day, by name as it was asked for."""

    minutes: list[tuple[int, Sums]] = field(default_factory=list)
    hours: list[tuple[int, Sums]] = field(default_factory=list)
    days: list[tuple[int, Sums]] = field(default_factory=list)
    crates: Sums = field(default_factory=dict)
    incidents: list[Incident] = field(default_factory=list)


class Lately:
    def __init__(self, book: RecentBook, incidents: Incidents, clock: Callable[[], float]) -> None:
        """`incidents`: where the troubles of this process are noted."""
        self._incidents = incidents
        self._book = book
        self._clock = clock
        self._crates: dict[str, list[int]] = {}
        self._sums: defaultdict[Row, Sums] = defaultdict(dict)  # not written yet

    def asked(self, crate: str, requests: int, size: int) -> None:
        """So many requests about a crate were answered, with so many bytes together."""
        counts = self._crates.get(crate)
        if counts is None:
            if len(self._crates) >= NAMES:
                return
            counts = self._crates[crate] = [0, 0]
        counts[0] += requests
        counts[1] += size

    def failed(self, where: str, kind: str, status: int, detail: str) -> None:
        """A client was told an error."""
        self._incidents.failed(where, kind, status, detail)

    def note(self, savings: Mapping[Item, int]) -> None:
        """What was counted since the last time."""
        now, more = self._clock(), _by_endpoint(savings)
        for family in _OVER_TIME:
            slots.add(self._sums[Row(family.name, family.number(now))], more)

    async def write(self) -> None:
        """Write down what was noted. Where the disk fails it is tried again with the next, within bounds."""
        now = self._clock()
        crates, self._crates = self._crates, {}
        if crates:
            row = Row(CRATES.name, CRATES.number(now))
            counted = {name: {slots.REQUESTS: count[0], slots.BYTES: count[1]} for name, count in crates.items()}
            slots.add(self._sums[row], counted)
        sums, self._sums = {row: sums for row, sums in self._sums.items() if sums}, defaultdict(dict)
        troubles = self._incidents.take()
        if not sums and not troubles:
            return
        families = {family.name: family for family in (*_OVER_TIME, CRATES)}
        changes: dict[Row, Change] = {
            row: partial(slots.added, more=more, family=families[row.family]) for row, more in sums.items()
        }
        if troubles:
            changes[_INCIDENTS] = partial(incidents.added, more=troubles, now=now)
        oldest = {family.name: family.oldest(now) for family in families.values()}
        if not await self._book.change(changes, oldest):
            for row, more in sums.items():
                if row.number >= oldest[row.family]:
                    slots.add(self._sums[row], more)
                    self._sums[row] = slots.bounded(self._sums[row], families[row.family])
            self._incidents.give_back(troubles)

    async def read(self) -> Record:
        """All of it, of every process, but what others have not written yet: some seconds."""
        await self.write()
        now, rows = self._clock(), await self._book.read()
        found: dict[str, dict[int, Sums]] = {}
        for row, value in rows.items():
            if row != _INCIDENTS:
                found.setdefault(row.family, {})[row.number] = slots.unpacked(value)
        crates: Sums = {}
        for _, sums in slots.line(found.get(CRATES.name, {}), CRATES, now):
            slots.add(crates, sums)
        minutes, hours, days = (list(slots.line(found.get(each.name, {}), each, now)) for each in _OVER_TIME)
        return Record(minutes, hours, days, crates, self._troubles(rows.get(_INCIDENTS, b""), now))

    def _troubles(self, row: bytes, now: float) -> list[Incident]:
        """Those that are written, and those of this process that cannot be: of a disk that fails, too, people must
        hear."""
        return incidents.unpacked(incidents.added(row, self._incidents.noted(), now))


def _by_endpoint(savings: Mapping[Item, int]) -> Sums:
    found: Sums = {}
    for item, value in savings.items():
        if item.subject is Subject.ENDPOINT and value:
            found.setdefault(item.name, {})[item.field.value] = value
    return found
