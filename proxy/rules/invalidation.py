"""What a successful change makes worthless (RFC 9111 section 4.4): its own URI, and those that its answer names."""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit

from proxy.errors import Refused
from proxy.model import Head
from proxy.rules import headers, keys, paths, routes
from proxy.rules.endpoints import Kind, Policy

_NAMING = (b"location", b"content-location")


def outdated(target: str, head: Head, origin: str) -> frozenset[str]:
    """The keys of what must not be used any more. `target`: of the change; `origin`: of the host that it went to.

    Only rows that upstream's own headers govern: what else a change concerns is told by the crate that it is about.
    """
    if not 200 <= head.status < 400:
        return frozenset()
    named = [headers.value(head.headers, name) for name in _NAMING]
    references = [target, *(value.decode("latin-1") for value in named if value is not None)]
    found = (_key(origin, target, reference) for reference in references)
    return frozenset(key for key in found if key is not None)


def _key(origin: str, target: str, reference: str) -> str | None:
    """The key under which a read of what is referred to would be stored; None for another origin and other rows."""
    try:
        url = urljoin(origin + target, reference)
        if not url.startswith(origin + "/"):
            return None  # another origin is not ours to invalidate
        parts = urlsplit(url[len(origin) :])
        path, query = paths.path(parts.path.encode()), paths.query(parts.query.encode())
        match = routes.match("GET", path, query)
    except (Refused, ValueError):
        return None
    return keys.read(match, Policy()).key if match.endpoint.kind is Kind.TRANSPARENT else None
