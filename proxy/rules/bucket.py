"""The arithmetic of what may be asked of the web API, and when: a bucket that takes bookings, and a window.

The bucket is the generic cell rate algorithm with reservations: a request that may not go now is given the time at
which it may, in the order of asking. The window bounds what goes in any ten minutes. It knows no clock and no host;
`now` is in seconds from anywhere, always the same clock.
"""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass, replace
from enum import StrEnum

WINDOW = 600.0
"""Seconds in which crates.io's firewall counts the requests of an address."""
FURTHEST = 7200.0
"""Seconds after which promises begin anew: two hours of them are more than any crowd keeps in mind."""


class Urgency(StrEnum):
    """For whom a request is made, the least urgent first."""

    MACHINE = "machine"  # nobody waits: only where nobody else wants to ask
    REFRESH = "refresh"  # behind an answer that was given: only where it costs nobody anything
    CONTENT = "content"  # somebody waits who can be content with a copy: books ahead, and need not come again
    CLIENT = "client"  # somebody waits and has nothing else: books ahead, or is told when to come again
    CALLER = "caller"  # in its caller's name (changes, private reads): sent at once whatever happens, and counted


@dataclass(frozen=True, slots=True)
class Limits:
    """`rate`: requests a second in the long run, `burst`: at once after a pause, `window`: in any ten minutes.
    `max_wait`: seconds that a booking may lie ahead."""

    rate: float = 1.0
    burst: int = 10
    window: int = 570
    max_wait: float = 10.0

    @property
    def spacing(self) -> float:
        """Seconds between two requests in the long run.

        Never less than the window has room for: else it would be spent before its end, and then nobody could ask
        for longer than anybody waits.
        """
        return max(1.0 / self.rate, WINDOW / self.window)

    def shared(self, parts: int) -> Limits:
        """One of so many equal parts, for those who cannot see what the others spend: no burst, no part twice."""
        window = max(1, self.window // parts)
        return replace(self, rate=self.rate / parts, burst=1, window=window)


@dataclass(frozen=True, slots=True)
class Bucket:
    """What has been booked.

    full_at: when the whole burst is there again (the algorithm's "theoretical arrival time"). times: of the latest
    requests, sent or booked, in order. promised: the last time told to those who were refused.
    """

    full_at: float = -math.inf
    times: tuple[float, ...] = ()
    promised: float = -math.inf


@dataclass(frozen=True, slots=True)
class Booked:
    """It may go at that time."""

    at: float


@dataclass(frozen=True, slots=True)
class Refused:
    """It may not go; after so many seconds it is worth another attempt."""

    retry_after: float


def book(
    bucket: Bucket, limits: Limits, now: float, urgency: Urgency, *, held_until: float = -math.inf
) -> tuple[Bucket, Booked | Refused]:
    """Book a request. Until `held_until` only callers' requests go."""
    bucket = _settled(bucket, limits, now)
    if urgency is Urgency.CALLER:
        return sent(bucket, limits, now), Booked(now)
    first = _first(bucket, limits, now)
    if held_until <= now and first <= now + _ahead(bucket, limits, now, urgency):
        return sent(bucket, limits, first), Booked(first)
    return _refused(bucket, limits, now, max(first, held_until), urgency)


def sent(bucket: Bucket, limits: Limits, at: float) -> Bucket:
    """With one more request at that time."""
    times = bucket.times
    place = bisect.bisect_right(times, at)
    return replace(
        bucket,
        full_at=max(bucket.full_at, at) + limits.spacing,
        times=(*times[:place], at, *times[place:]),
    )


def noted(bucket: Bucket, limits: Limits, now: float, at: float) -> Bucket:
    """With one that went, or goes, at that time, booked elsewhere and heard of late: no limit keeps it out."""
    bucket = _settled(bucket, limits, now)
    if not bucket.times or at >= bucket.times[-1]:
        return sent(bucket, limits, at)
    times = sent(bucket, limits, at).times
    full_at = bucket.full_at
    running = -math.inf
    for each in times:  # as if all had come in order
        running = max(running, each) + limits.spacing
    return replace(bucket, full_at=max(full_at, running), times=times)


def given_back(bucket: Bucket, limits: Limits, at: float) -> Bucket:
    """Without the booking for that time, where it is the last one; elsewhere it stays spent, since those behind it
    have been told their times."""
    if not bucket.times or bucket.times[-1] != at:
        return bucket
    return replace(bucket, full_at=bucket.full_at - limits.spacing, times=bucket.times[:-1])


def free(bucket: Bucket, limits: Limits, now: float) -> int:
    """How many requests could go now."""
    bucket = _settled(bucket, limits, now)
    in_hand = math.floor(limits.burst - (max(bucket.full_at, now) - now) / limits.spacing + _EPSILON)
    return max(0, min(in_hand, limits.window - len(bucket.times)))


LEFT = {Urgency.REFRESH: 0.5, Urgency.MACHINE: 1.0}
"""How much of the burst must be left for those to go for whom nobody waits."""
_EPSILON = 1e-6  # a microsecond, which is also how finely Redis tells the time


def _settled(bucket: Bucket, limits: Limits, now: float) -> Bucket:
    """Without what is over, and without what cannot be: a clock that went backwards blocks nobody for long."""
    times = bucket.times
    first = bisect.bisect_right(times, now - WINDOW)
    last = bisect.bisect_right(times, now + limits.max_wait + WINDOW)
    if first or last < len(times):
        times = times[first:last]
    return replace(bucket, full_at=min(bucket.full_at, now + WINDOW + limits.burst * limits.spacing), times=times)


def _first(bucket: Bucket, limits: Limits, now: float) -> float:
    """The earliest time at which one more may go."""
    first = max(now, bucket.full_at - (limits.burst - 1) * limits.spacing)
    if len(bucket.times) >= limits.window:  # THE LINE that keeps us below crates.io's limit
        first = max(first, bucket.times[-limits.window] + WINDOW)
    return first


def _ahead(bucket: Bucket, limits: Limits, now: float, urgency: Urgency) -> float:
    """Seconds that a booking may lie ahead; less than none where it may not be made at all."""
    share = LEFT.get(urgency)
    if share is None:
        return limits.max_wait
    left = limits.burst - (max(bucket.full_at, now) - now) / limits.spacing + _EPSILON
    # In the window, too, they leave room for as many people as may come at once.
    roomy = len(bucket.times) < max(1, limits.window - limits.burst)
    return 0.0 if roomy and left >= max(1.0, limits.burst * share) else -1.0


def _refused(
    bucket: Bucket, limits: Limits, now: float, earliest: float, urgency: Urgency
) -> tuple[Bucket, Booked | Refused]:
    """Each of a crowd is told a time of its own, so that they do not all come back in the same second."""
    if urgency is not Urgency.CLIENT:  # nobody hears of it, and nobody comes again because of it
        return bucket, Refused(max(earliest - now, limits.spacing))
    promised = max(earliest, bucket.promised + limits.spacing)
    if promised > max(earliest, now) + FURTHEST:
        promised = earliest
    return replace(bucket, promised=promised), Refused(promised - now)
