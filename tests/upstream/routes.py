"""What the handlers of all hosts share: the site they serve, and a table of routes with its look-up."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from tests.upstream.registry import Registry
from tests.upstream.wire import Headers, Reply, Request


@dataclass(frozen=True, slots=True)
class Site:
    """The registry and the base URLs of its hosts."""

    registry: Registry
    api: str
    index: str
    static: str


@dataclass(frozen=True, slots=True)
class Call:
    """A request with the values of its route's `{fields}`."""

    site: Site
    request: Request
    fields: dict[str, str]

    def __getitem__(self, field: str) -> str:
        return self.fields[field]

    @property
    def registry(self) -> Registry:
        return self.site.registry

    def param(self, name: str) -> str | None:
        """The first value of a query parameter."""
        return next((value for key, value in self.request.query if key == name), None)

    def json(self) -> Any:
        return json.loads(self.request.body or b"{}")


Handler = Callable[[Call], Reply]
Routes = tuple[tuple[str, str, Handler], ...]

NO_STORE: Headers = (("cache-control", "no-store"),)


def answer(body: object, headers: Headers = (), status: int = 200) -> Reply:
    """JSON as serde writes it."""
    text = json.dumps(body, separators=(",", ":"), ensure_ascii=False)
    return Reply(status, (("content-type", "application/json"), *headers), text.encode())


def segments(path: str) -> list[str]:
    """Path segments, decoded; empty and dot segments are resolved, but a trailing slash stays one."""
    kept: list[str] = []
    parts = path.split("/")
    for part in parts:
        if part == "..":
            kept[-1:] = []
        elif part not in ("", "."):
            kept.append(unquote(part))
    return [*kept, ""] if parts[-1] == "" else kept


def found(routes: Routes, path: str) -> dict[str, tuple[Handler, dict[str, str]]]:
    """Method -> handler and fields, for the first pattern of each method that fits the path."""
    given = segments(path)
    methods: dict[str, tuple[Handler, dict[str, str]]] = {}
    for method, pattern, handler in routes:
        wanted = pattern.strip("/").split("/")
        if len(wanted) != len(given):
            continue
        pairs = list(zip(wanted, given, strict=True))
        if all((want[0] == "{" and have) or want == have for want, have in pairs):
            fields = {want[1:-1]: have for want, have in pairs if want[0] == "{"}
            methods.setdefault(method, (handler, fields))
    return methods
