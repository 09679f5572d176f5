"""A client's request as the rules want it: canonical path and query, matched row, the fields that matter."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain

from proxy.errors import Refused
from proxy.model import Headers
from proxy.rules import headers, paths, ranges, routes, secrets, wishes
from proxy.rules.clients import Address
from proxy.rules.routes import Match
from proxy.rules.wishes import Wish
from proxy.web.messages import Scope

REQUEST = "crates-proxy.request"
"""Where the scope holds it once it is read."""
LONGEST_TARGET = 16 * 1024
"""Bytes; its canonical form may have three times as many, and httpx takes 64 KiB."""
_MISPLACED = (
    "the URL holds what looks like a token of crates.io: tokens belong into the Authorization field; others may have "
    "seen this one on its way, so revoke it at https://crates.io/settings/tokens"
)


@dataclass(frozen=True, slots=True)
class Request:
    """`scheme`, `host` and `client` are the client's own, where a trusted front server stands between; `client` is
    None for one on a Unix socket."""

    method: str
    scheme: str
    path: str = field(repr=False)  # what may hold a token is in no traceback
    query: paths.Query = field(repr=False)
    headers: Headers = field(repr=False)
    host: bytes = b""
    client: Address | None = None

    @classmethod
    def of(cls, scope: Scope) -> Request:
        """Raises `Refused` where the target cannot be read in one way only, is too long, or holds a token, which a key
        would hold as well."""
        if len(scope["raw_path"]) + len(scope["query_string"]) > LONGEST_TARGET:
            raise Refused(f"the target of a request may have {LONGEST_TARGET} bytes", status=414)
        path, query = paths.path(scope["raw_path"]), paths.query(scope["query_string"])
        if any(map(secrets.token_in, (path, *chain.from_iterable(query)))):
            raise Refused(_MISPLACED)
        return cls(
            method=scope["method"],
            scheme=scope["scheme"],
            path=path,
            query=query,
            headers=tuple(scope["headers"]),
            host=headers.value(scope["headers"], b"host") or b"",
        )

    @property
    def reading(self) -> bool:
        return self.method in ("GET", "HEAD")

    def match(self) -> Match:
        return routes.match(self.method, self.path, self.query)

    def get(self, name: bytes) -> bytes | None:
        return headers.value(self.headers, name)

    @property
    def wish(self) -> Wish:
        return wishes.wish(self.get(b"cache-control"), self.get(b"pragma"))

    @property
    def accepts_json(self) -> bool:
        """As crates.io itself decides between a redirect and `{"url"}`: "json" anywhere in Accept."""
        return b"json" in (self.get(b"accept") or b"").lower()

    @property
    def wants_part(self) -> bool:
        """Whether it asks for one range of what it reads; several, and other units, get the whole."""
        wanted = self.get(b"range")
        return self.method == "GET" and wanted is not None and ranges.asks(wanted)

    @property
    def has_body(self) -> bool:
        return any(name in (b"content-length", b"transfer-encoding") for name, _ in self.headers)
