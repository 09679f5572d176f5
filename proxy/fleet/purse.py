"""What may still be asked, in the hands of the one who decides: the hub for its machine, or a member that is alone.

It keeps the bucket and the holds. It waits for nothing and knows nobody; `now` is the time of the event loop.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from proxy.fleet.base import Hold, Standing
from proxy.fleet.journal import Journal, Record
from proxy.model import Host
from proxy.rules import bucket
from proxy.rules.bucket import Booked, Bucket, Limits, Refused, Urgency


@dataclass(frozen=True, slots=True)
class _Until:
    at: float
    hold: Hold


class Purse:
    def __init__(self, limits: Limits, journal: Journal, now: float) -> None:
        """Go on where the journal ends."""
        self._limits = limits
        self._journal = journal
        self._bucket = Bucket()
        self._holds: dict[Host, _Until] = {}
        self._remember(journal.read(), now)

    def book(self, now: float, urgency: Urgency, parts: int = 0) -> Booked | Refused:
        """Book a request. `parts`: this machine may take only one of so many, as long as it cannot see what the
        others take; 0 for all."""
        held = self._holds.get(Host.API)
        until = held.at if held is not None else now
        limits = self._limits.shared(parts) if parts else self._limits
        self._bucket, answer = bucket.book(self._bucket, limits, now, urgency, held_until=until)
        if isinstance(answer, Booked):
            self._journal.spent(answer.at - now)
            if self._journal.due(len(self._bucket.times)):
                self._journal.renew(self._record(now))
        return answer

    def give_back(self, at: float) -> None:
        """The journal is not told: after a restart it counts as spent."""
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

    def standing(self, now: float, alone: str = "") -> Standing:
        free = 0 if self.held(now, Host.API) else bucket.free(self._bucket, self._limits, now)
        recent = sum(at > now - bucket.WINDOW for at in self._bucket.times)
        return Standing(free, recent, self.holds(now), alone)

    def close(self) -> None:
        self._journal.close()

    def _remember(self, record: Record, now: float) -> None:
        for at in record.spent:
            # What lies further ahead than anybody books comes from a clock that went backwards: it counts as now.
            sent = now + (at if at <= self._limits.max_wait else 0.0)
            self._bucket = bucket.sent(self._bucket, self._limits, sent)
        for host, hold in record.holds.items():
            self._holds[host] = _Until(now + hold.seconds, hold)
        self._journal.renew(self._record(now))

    def _record(self, now: float) -> Record:
        recent = tuple(at - now for at in self._bucket.times if at > now - bucket.WINDOW)
        return Record(recent, self.holds(now))
