"""What becomes of an answer that upstream's own headers govern: may it be stored, and as what (RFC 9111 section 3).

Everything about its later use is computed here, once: `rules.reuse` only compares.
"""

from __future__ import annotations

from dataclasses import replace

from proxy.model import Entry, Head, Headers, Terms
from proxy.rules import conditional, controls, directives, headers, vary
from proxy.rules.controls import Controls

UNDERSTOOD = frozenset((200, 203, 204, 300, 301, 302, 303, 307, 308))
"""Statuses whose meaning for a cache is implemented here (what `must-understand` asks about)."""
HEURISTIC = frozenset((200, 203, 204, 300, 301, 308))
"""Statuses that may be given a lifetime where upstream gives none (RFC 9110 section 15.1), errors left out."""
ABSENCE_MOST = 60.0
"""Seconds; what upstream does not have is believed no longer than on the rows of the API with times of ours."""

_PARTS = frozenset((206, 304))  # no answer of their own: a part, and a word about another
# THE LINE that keeps errors out: what says something about a request or its sender, and (from 500 on) about
# upstream's own state, must never be remembered as what a URL holds.
_OF_THE_REQUEST = frozenset(range(400, 432)) - {404, 410}
_OUTAGE = 500
_NEVER = _PARTS | _OF_THE_REQUEST
# What of an answer to HEAD or of a 304 does not change the content that is stored (RFC 9111 section 3.2).
_OF_THE_CONTENT = frozenset((b"content-encoding", b"content-length", b"content-range", b"etag", b"set-cookie"))


def storable(head: Head, *, authorized: bool = False) -> bool:
    """Whether a shared cache may store this answer, and has something of it.

    Of errors only what says that something is absent, and only with a lifetime of upstream's own.
    `authorized`: the request carried credentials, so that upstream must have allowed it expressly (section 3.5).
    """
    governing = controls.controls(head)
    if not head.framed or not 200 <= head.status < _OUTAGE or head.status in _NEVER:
        return False
    if "must-understand" in governing:
        if head.status not in UNDERSTOOD:
            return False
    elif "no-store" in governing:
        return False
    if governing.unqualified("private") or (authorized and not _shared(governing)):
        return False
    if headers.value(head.headers, b"set-cookie") is not None or vary.names(head.headers) is None:
        return False
    return _lifetime(head, governing, 0.0) > 0 or (not absent(head.status) and _has_validator(head))


def absent(status: int) -> bool:
    """Whether such an answer, where it is storable at all, says that upstream has nothing (any more). That is
    believed only while upstream's own lifetime for it lasts, and never served stale: it might be an outage."""
    return status >= 400


def stored(key: str, head: Head, body: bytes, *, requested_at: float, responded_at: float, sent: Headers = ()) -> Entry:
    """The entry that an answer becomes. `sent`: the fields of the request as they went upstream."""
    governing = controls.controls(head)
    withheld = governing.fields("no-cache") | governing.fields("private") | {b"etag"}
    given = head.get(b"etag").decode("latin-1")
    names = vary.names(head.headers) or ()
    if head.get(b"content-encoding", b"identity").lower() != b"identity":  # whether upstream says so or not
        names = tuple(sorted({*names, "accept-encoding"}))
    kept = tuple(item for item in headers.kept_transparently(head.headers) if item[0] not in withheld)
    if headers.value(kept, b"date") is None:  # RFC 9110 section 6.6.1
        kept = (*kept, (b"date", directives.date(int(responded_at))))
    return Entry(
        key=key,
        status=head.status,
        headers=kept,
        body=body,
        etag=given or directives.entity_tag(body),
        requested_at=requested_at,
        responded_at=responded_at,
        initial_age=_initial_age(head, requested_at, responded_at),
        lifetime=_lifetime(head, governing, responded_at),
        validated=_has_validator(head),
        terms=Terms(
            stale_while_revalidate=governing.duration("stale-while-revalidate") or 0.0,
            stale_if_error=governing.duration("stale-if-error"),
            strict=_strict(governing) or absent(head.status),
            shared=_shared(governing),
            vary=names,
            variant=vary.variant(names, sent),
        ),
    )


def renewed(entry: Entry, head: Head, *, requested_at: float, responded_at: float) -> Entry | None:
    """The entry after a 304, or after a 200 to HEAD (RFC 9111 sections 4.3.4 and 4.3.5); None where the answer is
    about another representation."""
    given = head.get(b"etag").decode("latin-1")
    if given and _tagged(entry) and given.removeprefix("W/") != entry.etag.removeprefix("W/"):
        return None
    merged = merged_head(entry, head, responded_at)
    again = stored(entry.key, merged, entry.body, requested_at=requested_at, responded_at=responded_at)
    # Its age counts from this answer; by which request it was selected has not changed.
    return replace(
        again,
        etag=entry.etag,
        initial_age=_initial_age(head, requested_at, responded_at),
        terms=replace(again.terms, vary=entry.terms.vary, variant=entry.terms.variant),
    )


def merged_head(entry: Entry, head: Head, responded_at: float) -> Head:
    """The stored fields, with those of a newer answer in their place."""
    new = tuple(item for item in headers.kept_transparently(head.headers) if item[0] not in _OF_THE_CONTENT)
    if headers.value(new, b"date") is None:
        new = (*new, (b"date", directives.date(int(responded_at))))
    names = {name for name, _ in new}
    old = tuple(item for item in entry.headers if item[0] not in names)
    tag = () if not _tagged(entry) else ((b"etag", entry.etag.encode("latin-1")),)
    return Head(entry.status, (*old, *new, *tag))


def matches_head(entry: Entry, head: Head) -> bool:
    """Whether a 200 to HEAD is about what is stored (RFC 9111 section 4.3.5): its validators and its length."""
    length = headers.value(head.headers, b"content-length")
    modified = headers.value(head.headers, b"last-modified")
    return (
        entry.status == head.status
        and length in (None, b"%d" % len(entry.body))
        and modified in (None, headers.value(entry.headers, b"last-modified"))
    )


def validators(entry: Entry) -> Headers:
    """The fields that make a request for this entry conditional (RFC 9111 section 4.3.1); none for an entry
    whose tag is our own, since upstream does not know it."""
    if not entry.validated:
        return ()
    modified = headers.value(entry.headers, b"last-modified")
    since = () if modified is None else ((b"if-modified-since", modified),)
    tag = upstream_tag(entry)
    return since if tag is None else ((b"if-none-match", tag.encode("latin-1")), *since)


def upstream_tag(entry: Entry) -> str | None:
    """The entity tag that upstream gave to what it sent, in gzip or not; None where all tags are our own."""
    if not entry.validated:
        return None
    representations = ((entry.etag, entry.body), *([(entry.gzip.etag, entry.gzip.body)] if entry.gzip else []))
    return next((tag for tag, body in representations if tag != directives.entity_tag(body)), None)


def _tagged(entry: Entry) -> bool:
    return upstream_tag(entry) is not None


def _has_validator(head: Head) -> bool:
    return any(headers.value(head.headers, name) is not None for name in (b"etag", b"last-modified"))


def _shared(governing: Controls) -> bool:
    return any(directive in governing for directive in ("public", "s-maxage", "must-revalidate"))


def _strict(governing: Controls) -> bool:
    kin = ("must-revalidate", "proxy-revalidate", "s-maxage")
    return governing.unqualified("no-cache") or any(directive in governing for directive in kin)


def _lifetime(head: Head, governing: Controls, responded_at: float) -> float:
    if governing.unqualified("no-cache"):
        return 0.0
    given = controls.explicit_lifetime(head, governing, responded_at)
    if absent(head.status):
        return min(given or 0.0, ABSENCE_MOST)
    if given is not None:
        return given
    if head.status in HEURISTIC or "public" in governing:
        return controls.heuristic_lifetime(head, responded_at)
    return 0.0


def _initial_age(head: Head, requested_at: float, responded_at: float) -> float:
    """How old an answer is on arrival (RFC 9111 section 4.2.3): by its Date or by its Age, whichever is more."""
    date = conditional.http_date(head.get(b"date"))
    apparent = 0.0 if date is None else responded_at - date
    return max(0.0, apparent, directives.age(head.get(b"age")) + responded_at - requested_at)
