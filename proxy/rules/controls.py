"""What an answer says about its own caching: Cache-Control, or CDN-Cache-Control where there is one (RFC 9213)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import http_sf

from proxy.model import Head
from proxy.rules import conditional, directives, headers

_DURATIONS = frozenset(("max-age", "s-maxage", "stale-while-revalidate", "stale-if-error"))
HEURISTIC_SHARE = 0.1
"""Of the time since the last change: RFC 9111 section 4.2.2 calls it typical."""
HEURISTIC_MOST = 86400.0
"""Seconds; nothing that upstream gave no time for is believed for longer than a day."""


@dataclass(frozen=True, slots=True)
class Controls:
    """The directives in force. targeted: they are those for caches like this one, so that Expires is void too."""

    said: Mapping[str, str]
    targeted: bool = False

    def __contains__(self, directive: str) -> bool:
        return directive in self.said

    def duration(self, directive: str) -> float | None:
        """Seconds, None where the directive is absent; 0 for what cannot be read, which is the safe way."""
        value = self.said.get(directive)
        return None if value is None else directives.seconds(value) or 0.0

    def fields(self, directive: str) -> frozenset[bytes]:
        """The names of fields that `no-cache` or `private` are qualified by."""
        listed = self.said.get(directive, "").lower().encode("latin-1", "replace").split(b",")
        return frozenset(name.strip() for name in listed) - {b""}

    def unqualified(self, directive: str) -> bool:
        """Whether `no-cache` or `private` is meant for the answer as a whole."""
        return directive in self.said and not self.fields(directive)


def controls(head: Head) -> Controls:
    """The directives that govern an answer."""
    field = headers.value(head.headers, b"cdn-cache-control")
    targeted = None if field is None else _targeted(field)
    if targeted is not None:
        return Controls(targeted, targeted=True)
    return Controls(directives.cache_control(head.get(b"cache-control")))


def explicit_lifetime(head: Head, governing: Controls, responded_at: float) -> float | None:
    """The freshness lifetime that upstream gives to a shared cache, None where it is silent (RFC 9111 4.2.1)."""
    for directive in ("s-maxage", "max-age"):
        given = governing.duration(directive)
        if given is not None:
            return given
    expires = None if governing.targeted else headers.value(head.headers, b"expires")
    if expires is None:
        return None
    at = conditional.http_date(expires)
    date = conditional.http_date(head.get(b"date"))
    return 0.0 if at is None else max(0.0, at - (responded_at if date is None else date))


def heuristic_lifetime(head: Head, responded_at: float) -> float:
    """A guess from how long ago the content last changed (RFC 9111 section 4.2.2)."""
    modified = conditional.http_date(head.get(b"last-modified"))
    if modified is None:
        return 0.0
    date = conditional.http_date(head.get(b"date"))
    since = (responded_at if date is None else date) - modified
    return min(max(0.0, since * HEURISTIC_SHARE), HEURISTIC_MOST)


def _targeted(field: bytes) -> dict[str, str] | None:
    """The directives of a targeted field; None for one that is empty or no Dictionary of the right types, which
    counts as absent (RFC 9213 section 2.1)."""
    try:
        members = http_sf.parse(field, tltype="dictionary")
    except ValueError:
        return None
    if not isinstance(members, dict) or not members:
        return None
    found: dict[str, str] = {}
    for name, member in members.items():
        value = member[0] if isinstance(member, tuple) else member
        if name in _DURATIONS and (type(value) is not int or value < 0):
            return None
        found[name] = "" if value is True else str(value)
    return found
