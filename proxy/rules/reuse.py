"""Whether what is stored may answer a request where upstream's own headers rule (RFC 9111 section 4, RFC 5861).

A few comparisons on what was computed when the entry was stored. `now` is an argument.
"""

from __future__ import annotations

import math
from enum import Enum, auto

from proxy.model import Entry
from proxy.rules.freshness import CHANGE_SETTLES, CHANGED_TTL, ahead
from proxy.rules.wishes import Wish

DISCONNECTED_MOST = 30 * 86400.0
"""Seconds of staleness beyond which nothing is served because upstream cannot be reached; as on the other rows."""
FAILED = frozenset((500, 502, 503, 504))
"""The statuses that RFC 5861 section 4 calls an error."""


class Reuse(Enum):
    """What to do with a stored entry, or without one."""

    FRESH = auto()
    STALE = auto()  # the client's own max-stale allows it
    STALE_WHILE_REVALIDATE = auto()
    REVALIDATE = auto()
    ABSENT = auto()
    UNAVAILABLE = auto()  # only-if-cached, and it is not: 504


def decide(entry: Entry | None, wish: Wish, now: float, changed: float = -math.inf) -> Reuse:
    """`changed`: when the newest soft invalidation that covers the entry happened."""
    if entry is None:
        return Reuse.UNAVAILABLE if wish.only_if_cached else Reuse.ABSENT
    if not wish.no_cache:
        left = fresh_for(entry, now, changed)
        if left > 0:
            if left >= wish.min_fresh and (wish.max_age == math.inf or age(entry, now) <= wish.max_age):
                return Reuse.FRESH
        elif not entry.terms.strict and entry.requested_at > changed:
            if 0 < wish.max_stale >= -left and age(entry, now) <= wish.max_age:
                return Reuse.STALE
            if -left < entry.terms.stale_while_revalidate and wish.max_age == math.inf and wish.min_fresh == 0:
                return Reuse.STALE_WHILE_REVALIDATE  # THE LINE that serves stale while a new copy is fetched
    return Reuse.UNAVAILABLE if wish.only_if_cached else Reuse.REVALIDATE


def fresh_for(entry: Entry, now: float, changed: float = -math.inf) -> float:
    """As `freshness.fresh_for`, by the lifetime that upstream gave."""
    if entry.requested_at <= changed or ahead(entry, now):
        return min(0.0, entry.responded_at - now)
    lifetime = entry.lifetime or 0.0
    if entry.requested_at < changed + CHANGE_SETTLES:
        lifetime = min(lifetime, CHANGED_TTL)
    return lifetime - age(entry, now)


def age(entry: Entry, now: float) -> float:
    """Seconds since the origin vouched for it (RFC 9111 section 4.2.3). Never negative."""
    resident = now - entry.responded_at
    return entry.initial_age + resident if resident > 0 else entry.initial_age


def on_error(entry: Entry, now: float, changed: float = -math.inf) -> bool:
    """Whether it may answer where upstream answered with an error: only upstream itself can have allowed that."""
    window = entry.terms.stale_if_error
    return window is not None and _within(entry, window, now, changed)


def disconnected(entry: Entry, now: float, changed: float = -math.inf) -> bool:
    """Whether it may answer where upstream cannot be reached (RFC 9111 section 4.2.4)."""
    window = entry.terms.stale_if_error
    return _within(entry, DISCONNECTED_MOST if window is None else window, now, changed)


def _within(entry: Entry, window: float, now: float, changed: float) -> bool:
    left = fresh_for(entry, now, changed)
    return left > 0 or (not entry.terms.strict and -left < window)  # THE LINE that serves stale on an error


def suits(entry: Entry, variant: str, *, authorized: bool) -> bool:
    """Whether it is the variant that a request selects, and is not kept from requests with credentials."""
    return entry.terms.variant == variant and (entry.terms.shared or not authorized)
