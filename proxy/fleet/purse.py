"""What may still be asked, in the hands of the one who decides: the hub for its machine, or a member that is alone.

It keeps the bucket and the holds. It waits for nothing and knows nobody; `now` is the time of the event loop.
"""

from __future__ import annotations

import itertools
import math
import uuid
from dataclasses import dataclass, replace

from proxy.fleet.base import Hold, Standing
from proxy.fleet.journal import SPARE, Journal, Record
from proxy.model import Host
from proxy.rules import bucket
from proxy.rules.bucket import Booked, Bucket, Limits, Refused, Urgency


@dataclass(frozen=True, slots=True)
class _Until:
    at: float
    hold: Hold


Spent = tuple[str, float]
"""A request's name, the same wherever it is told of, and when it goes or went, by the loops of this machine."""


class Names:
    """Names that nobody else gives."""

    def __init__(self) -> None:
        self._mine = uuid.uuid4().hex[:16]
        self._numbers = itertools.count()

    def new(self) -> str:
        return f"{self._mine}:{next(self._numbers)}"


class Purse:
    def __init__(self, limits: Limits, journal: Journal, now: float) -> None:
        """Go on where the journal ends."""
        self._limits = limits
        self._journal = journal
        self._bucket = Bucket()
        self._own = Names()
        self._names: dict[str, float] = {}
        self._holds: dict[Host, _Until] = {}
        self._remember(journal.read(), now)

    def book(self, now: float, urgency: Urgency, parts: int = 0, name: str = "") -> Booked | Refused:
        """Book a request. `parts`: this machine may take only one of so many, as long as it cannot see what the
        others take; 0 for all. `name`: what it is called where others hear of it."""
        held = self._holds.get(Host.API)
        until = held.at if held is not None else now
        limits = self._part(parts)
        self._bucket, answer = bucket.book(self._bucket, limits, now, urgency, held_until=until)
        if isinstance(answer, Booked):
            self._written(now, name or self._own.new(), answer.at)
        return answer

    def note(self, now: float, name: str, at: float) -> None:
        """One was booked elsewhere: it counts, whatever the limits say, and once, however often it is told."""
        if name not in self._names and now - bucket.WINDOW < at <= now + self._limits.max_wait + bucket.WINDOW:
            self._bucket = bucket.noted(self._bucket, self._limits, now, at)
            self._written(now, name, at)

    def known(self, now: float, after: Spent = ("", -math.inf), most: int | None = None) -> list[Spent]:
        """What may count yet, in order, behind that one: the first of them."""
        order = sorted((at, name) for name, at in self._names.items() if at > now - bucket.WINDOW)
        return [(name, at) for at, name in order if (at, name) > (after[1], after[0])][:most]

    def give_back(self, name: str) -> None:
        """It will not go. The journal is not told: after a restart it counts as spent."""
        at = self._names.pop(name, None)
        if at is not None:
            self._bucket = bucket.given_back(self._bucket, self._limits, at)

    def hold(self, now: float, host: Host, hold: Hold) -> bool:
        """Whether this is news: a hold that lasts at least as long already stays."""
        known = self._holds.get(host)
        if known is not None and known.at >= now + hold.seconds - 0.001:
            return False
        self._holds[host] = _Until(now + hold.seconds, hold)
        self._journal.held(host, hold)
        return True

    def held(self, now: float, host: Host) -> Hold | None:
        known = self._holds.get(host)
        if known is None or known.at <= now:
            return None
        return replace(known.hold, seconds=known.at - now)

    def holds(self, now: float) -> dict[Host, Hold]:
        return {host: hold for host in self._holds if (hold := self.held(now, host)) is not None}

    def standing(self, now: float, alone: str = "", parts: int = 0) -> Standing:
        free = 0 if self.held(now, Host.API) else bucket.free(self._bucket, self._part(parts), now)
        recent = sum(at > now - bucket.WINDOW for at in self._bucket.times)
        return Standing(free, recent, self.holds(now), alone)

    def close(self) -> None:
        self._journal.close()

    def _remember(self, record: Record, now: float) -> None:
        furthest = max((at for _, at in record.spent), default=0.0)
        for at, name in sorted((self._past(at, furthest), name) for name, at in record.spent):
            self._bucket = bucket.sent(self._bucket, self._limits, now + at)
            self._names[name] = now + at
        for host, hold in record.holds.items():
            self._holds[host] = _Until(now + hold.seconds, hold)
        self._journal.renew(self._record(now))

    def _past(self, at: float, furthest: float) -> float:
        """What lies further ahead than anybody books was written by a clock that has gone backwards since: the last of
        it counts as now, the others as so long before as they were."""
        return at if at <= self._limits.max_wait else at - furthest

    def _record(self, now: float) -> Record:
        self._names = dict(self.known(now))
        return Record(tuple((name, at - now) for name, at in self._names.items()), self.holds(now))

    def _part(self, parts: int) -> Limits:
        return self._limits.shared(parts) if parts else self._limits

    def _written(self, now: float, name: str, at: float) -> None:
        self._names[name] = at
        self._journal.spent(name, at - now)
        if self._journal.due(len(self._bucket.times)):
            self._journal.renew(self._record(now))
        elif len(self._names) > 2 * len(self._bucket.times) + SPARE:
            self._names = dict(self.known(now))
