"""How long what is stored is fresh, and, on rows with a ttl, what is stored and what may be done with it when it is
not. `now` is an argument.

RFC 9111 sections 3 and 4, RFC 5861. There our ttl wins over upstream's silence and over its lifetimes; `no-store`,
`private`, `Set-Cookie` and `Vary: *` always win over us. Where upstream's own headers govern, `rules.storing` and
`rules.reuse` say what is stored and used.
"""

from __future__ import annotations

import math
from dataclasses import replace
from enum import Enum, auto

from proxy.model import Coded, Entry, Head, Headers
from proxy.rules import codings, controls, directives, headers, storing
from proxy.rules.endpoints import Policy

CHANGE_SETTLES = 60.0
"""Seconds for which upstream's replicas may still answer with the state before a change."""
CHANGED_TTL = 1.0
"""Freshness of what was fetched in that time; cargo polls once a second after a publish."""
FORCED_AT_MOST_EVERY = 10.0
"""Seconds between two reads of one object for which a client's `no-cache` is honoured."""


class Decision(Enum):
    """What to do with a stored entry."""

    FRESH = auto()
    STALE_WHILE_REVALIDATE = auto()
    REVALIDATE = auto()
    ABSENT = auto()


def decide(
    entry: Entry | None, policy: Policy, now: float, *, changed: float = -math.inf, no_cache: bool = False
) -> Decision:
    """What to do with an entry on a row with a ttl. `changed`: when the newest invalidation that covers it happened."""
    if entry is None:
        return Decision.ABSENT
    left = fresh_for(entry, policy, now, changed)
    if no_cache and insisted(entry, now):
        return Decision.REVALIDATE
    if left > 0:
        return Decision.FRESH
    if entry.requested_at <= changed or entry.status != 200:
        return Decision.REVALIDATE
    if -left < policy.stale_while_revalidate and entry.requested_at >= changed + CHANGE_SETTLES:
        return Decision.STALE_WHILE_REVALIDATE  # THE LINE that serves stale while a new copy is fetched
    return Decision.REVALIDATE


def insisted(entry: Entry, now: float) -> bool:
    """Whether a client's `no-cache` is honoured now. It wants the answer's own host to be asked: that an index file
    has vouched for the entry meanwhile does not count."""
    fetched_at = entry.responded_at if entry.witness is None else entry.witness.fetched_at
    return now - fetched_at >= FORCED_AT_MOST_EVERY


def fresh_for(entry: Entry, policy: Policy, now: float, changed: float = -math.inf) -> float:
    """Seconds of freshness left; zero or less when it is stale.

    A clock that went backwards makes an entry stale, never fresh for longer.
    """
    if entry.requested_at <= changed or ahead(entry, now):
        return min(0.0, -(now - entry.responded_at))
    lifetime = (policy.ttl or 0.0) if entry.status == 200 else policy.negative_ttl
    if entry.requested_at < changed + CHANGE_SETTLES:
        lifetime = min(lifetime, CHANGED_TTL)
    return lifetime - age(entry, now)


def ahead(entry: Entry, now: float) -> bool:
    """Whether it is of a time that is yet to come: the clock went backwards since it was asked for, or since it came,
    between which it may have jumped as well. Within a second it is noise."""
    return now < max(entry.requested_at, entry.responded_at) - 1.0


def age(entry: Entry, now: float) -> float:
    """Seconds since upstream last vouched for it. Never negative.

    The time in a CDN before us does not count where our ttl rules, since the CDN is purged on a change.
    """
    return max(0.0, now - entry.responded_at)


def may_serve_on_error(entry: Entry, policy: Policy, now: float, changed: float = -math.inf) -> bool:
    """Whether it may be served because upstream failed (RFC 5861 section 4)."""
    staleness = -fresh_for(entry, policy, now, changed)
    return entry.status == 200 and staleness < policy.stale_if_error  # THE LINE that serves stale on an error


def storable(head: Head, policy: Policy) -> bool:
    """Whether an answer on a row with a ttl may be stored. Errors other than 404 never."""
    said = directives.cache_control(head.get(b"cache-control"))
    if not head.framed or "no-store" in said or "private" in said:
        return False
    if headers.value(head.headers, b"set-cookie") is not None:
        return False
    if b"*" in head.get(b"vary") or head.get(b"content-encoding", b"identity") != b"identity":
        return False
    return head.status == 200 or (head.status == 404 and policy.negative_ttl > 0)


def stored(
    key: str, head: Head, body: bytes, *, requested_at: float, responded_at: float, coded: bytes | None = None
) -> Entry:
    """The entry that an answer becomes. `coded`: the body in gzip, where that is how upstream sent it; else it is
    made here where it is worth it. Upstream's entity tag is that of its own bytes, other tags are made of theirs."""
    given = head.get(b"etag").decode("latin-1")
    own = coded or (codings.coded(head.get(b"content-type"), body) if head.status == 200 else None)
    tag = given if coded is not None else ""
    return Entry(
        key=key,
        status=head.status,
        headers=tuple(item for item in headers.kept(head.headers) if item[0] != b"etag"),
        body=body,
        etag=(given if coded is None else "") or directives.entity_tag(body),
        requested_at=requested_at,
        responded_at=responded_at,
        initial_age=directives.age(head.get(b"age")),
        lifetime=_upstream_lifetime(head, responded_at),
        validated=bool(given) or headers.value(head.headers, b"last-modified") is not None,
        gzip=None if own is None else Coded(own, tag or directives.entity_tag(own)),
    )


def refreshed(entry: Entry, head: Head, *, requested_at: float, responded_at: float) -> Entry | None:
    """The entry after a 304 (RFC 9111 section 4.3.4); None where the 304 is for another representation."""
    given = head.get(b"etag").decode("latin-1")
    if given and _opaque(given) not in {_opaque(each.etag) for each in (entry, entry.gzip) if each is not None}:
        return None
    renewed = tuple(item for item in headers.kept(head.headers) if item[0] not in (b"etag", b"content-type"))
    names = {name for name, _ in renewed}
    lifetime = _upstream_lifetime(head, responded_at)
    return replace(
        entry,
        headers=tuple(item for item in entry.headers if item[0] not in names) + renewed,
        requested_at=requested_at,
        responded_at=responded_at,
        initial_age=directives.age(head.get(b"age")),
        lifetime=entry.lifetime if lifetime is None else lifetime,
    )


def validators(entry: Entry) -> Headers:
    """As `storing.validators`; a stored absence has none."""
    return storing.validators(entry) if entry.status == 200 else ()


def _upstream_lifetime(head: Head, responded_at: float) -> float | None:
    return controls.explicit_lifetime(head, controls.controls(head), responded_at)


def _opaque(tag: str) -> str:
    return tag.removeprefix("W/")
