"""What may be stored, how long it is fresh, and what may be done with it when it is not. `now` is an argument.

RFC 9111 sections 3 and 4, RFC 5861. On rows with a ttl that ttl wins over upstream's silence and over its
lifetimes; `no-store`, `private`, `Set-Cookie` and `Vary: *` always win over us.
"""

from __future__ import annotations

import math
from enum import Enum, auto

from proxy.model import Entry, Head
from proxy.rules import conditional, directives, headers
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
    """What to do with a stored entry. `changed`: when the newest soft invalidation that covers it happened."""
    if entry is None:
        return Decision.ABSENT
    left = fresh_for(entry, policy, now, changed)
    # Where upstream's headers rule there is no bound: RFC 9111 section 5.2.1.4 leaves none.
    if no_cache and (policy.ttl is None or now - entry.responded_at >= FORCED_AT_MOST_EVERY):
        return Decision.REVALIDATE
    if left > 0:
        return Decision.FRESH
    if entry.requested_at <= changed or entry.status != 200:
        return Decision.REVALIDATE
    if -left < policy.stale_while_revalidate and entry.requested_at >= changed + CHANGE_SETTLES:
        return Decision.STALE_WHILE_REVALIDATE  # THE LINE that serves stale while a new copy is fetched
    return Decision.REVALIDATE


def fresh_for(entry: Entry, policy: Policy, now: float, changed: float = -math.inf) -> float:
    """Seconds of freshness left; zero or less when it is stale.

    A clock that went backwards makes an entry stale, never fresh for longer.
    """
    if entry.requested_at <= changed or now < entry.requested_at - 1.0:
        return min(0.0, -(now - entry.responded_at))
    lifetime = _lifetime(entry, policy)
    if entry.requested_at < changed + CHANGE_SETTLES:
        lifetime = min(lifetime, CHANGED_TTL)
    return lifetime - age(entry, policy, now)


def age(entry: Entry, policy: Policy, now: float) -> float:
    """Seconds since upstream last vouched for it. Never negative.

    Where our ttl rules, the time in a CDN before us does not count, since the CDN is purged on a change.
    """
    resident = max(0.0, now - entry.responded_at)
    return resident if policy.ttl is not None else resident + entry.initial_age


def may_serve_on_error(entry: Entry, policy: Policy, now: float, changed: float = -math.inf) -> bool:
    """Whether it may be served because upstream failed (RFC 5861 section 4)."""
    staleness = -fresh_for(entry, policy, now, changed)
    return entry.status == 200 and staleness < policy.stale_if_error  # THE LINE that serves stale on an error


def storable(head: Head, policy: Policy, *, credentials: bool) -> bool:
    """Whether an answer may be stored by this shared cache (RFC 9111 section 3). Errors other than 404 never."""
    said = directives.cache_control(head.get(b"cache-control"))
    if not head.framed or "no-store" in said or "private" in said:
        return False
    if headers.value(head.headers, b"set-cookie") is not None:
        return False
    if b"*" in head.get(b"vary") or head.get(b"content-encoding", b"identity") != b"identity":
        return False
    if policy.ttl is not None:
        return head.status == 200 or (head.status == 404 and policy.negative_ttl > 0)
    varies = {token.strip().lower() for token in head.get(b"vary").split(b",")} - {b"", b"accept-encoding"}
    explicit = upstream_lifetime(head, math.inf)  # an Expires without a Date to measure it by gives none
    return (
        head.status == 200
        and not credentials
        and not varies
        and "no-cache" not in said
        and explicit is not None
        and explicit > 0
    )


def upstream_lifetime(head: Head, responded_at: float) -> float | None:
    """The freshness lifetime that upstream gives to a shared cache, None where it is silent (RFC 9111 4.2.1)."""
    said = directives.cache_control(head.get(b"cache-control"))
    for directive in ("s-maxage", "max-age"):
        if directive in said:
            return directives.seconds(said[directive]) or 0.0
    expires = headers.value(head.headers, b"expires")
    if expires is None:
        return None
    at = conditional.http_date(expires)
    date = conditional.http_date(head.get(b"date"))
    return 0.0 if at is None else max(0.0, at - (responded_at if date is None else date))


def stored(key: str, head: Head, body: bytes, *, requested_at: float, responded_at: float, transparent: bool) -> Entry:
    """The entry that an answer becomes. An entity tag is made from the body where upstream gave none."""
    kept = headers.kept_transparently(head.headers) if transparent else headers.kept(head.headers)
    given = head.get(b"etag").decode("latin-1")
    return Entry(
        key=key,
        status=head.status,
        headers=tuple(item for item in kept if item[0] != b"etag"),
        body=body,
        etag=given or directives.entity_tag(body),
        requested_at=requested_at,
        responded_at=responded_at,
        initial_age=_initial_age(head, requested_at, responded_at) if transparent else directives.age(head.get(b"age")),
        lifetime=upstream_lifetime(head, responded_at),
        validated=bool(given) or headers.value(head.headers, b"last-modified") is not None,
    )


def refreshed(entry: Entry, head: Head, *, requested_at: float, responded_at: float) -> Entry | None:
    """The entry after a 304 (RFC 9111 section 4.3.4); None where the 304 is for another representation."""
    given = head.get(b"etag").decode("latin-1")
    if given and _opaque(given) != _opaque(entry.etag):
        return None
    renewed = tuple(item for item in headers.kept(head.headers) if item[0] not in (b"etag", b"content-type"))
    names = {name for name, _ in renewed}
    merged = tuple(item for item in entry.headers if item[0] not in names) + renewed
    lifetime = upstream_lifetime(head, responded_at)
    return Entry(
        key=entry.key,
        status=entry.status,
        headers=merged,
        body=entry.body,
        etag=entry.etag,
        requested_at=requested_at,
        responded_at=responded_at,
        initial_age=directives.age(head.get(b"age")),
        lifetime=entry.lifetime if lifetime is None else lifetime,
        validated=entry.validated,
    )


def validators(entry: Entry) -> tuple[tuple[bytes, bytes], ...]:
    """The fields that make a request for this entry conditional (RFC 9111 section 4.3.1); none for an entry
    whose tag is our own, since upstream does not know it."""
    if not entry.validated or entry.status != 200:
        return ()
    modified = headers.value(entry.headers, b"last-modified")
    tag = (b"if-none-match", entry.etag.encode("latin-1"))
    if modified is None:
        return (tag,)
    since = (b"if-modified-since", modified)
    return (since,) if entry.etag == directives.entity_tag(entry.body) else (tag, since)


def _initial_age(head: Head, requested_at: float, responded_at: float) -> float:
    """How old an answer is on arrival (RFC 9111 section 4.2.3): by its Date or by its Age, whichever is more."""
    date = conditional.http_date(head.get(b"date"))
    apparent = 0.0 if date is None else responded_at - date
    return max(0.0, apparent, directives.age(head.get(b"age")) + responded_at - requested_at)


def _lifetime(entry: Entry, policy: Policy) -> float:
    if policy.ttl is None:
        return entry.lifetime or 0.0
    return policy.ttl if entry.status == 200 else policy.negative_ttl


def _opaque(tag: str) -> str:
    return tag.removeprefix("W/")
