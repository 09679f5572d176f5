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
    urls = [urljoin(origin + target, value.decode("latin-1")) for value in named if value is not None]
    found = (_key(url, origin) for url in (origin + target, *urls))
    return frozenset(key for key in found if key is not None)


def _key(url: str, origin: str) -> str | None:
    """The key under which a read of this URL would be stored; None for another origin and for other rows."""
    if not url.startswith(origin + "/"):
        return None  # another origin is not ours to invalidate
    try:
        parts = urlsplit(url[len(origin) :])
        path, query = paths.path(parts.path.encode()), paths.query(parts.query.encode())
        match = routes.match("GET", path, query)
    except (Refused, ValueError):
        return None
    return keys.read(match, Policy()).key if match.endpoint.kind is Kind.TRANSPARENT else None
