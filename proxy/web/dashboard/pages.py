"""The pages: an ASGI application for each, that gathers what its template shows.

They answer GET and HEAD to whoever may use the proxy, under the names that it goes by; what was asked wrongly is a page
too. All figures are those of the whole group, whichever worker is asked.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import orjson
from starlette.routing import BaseRoute, Route

from proxy.engine.catalogue import PAGE, Catalogue
from proxy.errors import Error, Refused
from proxy.fleet.base import Standing
from proxy.metrics.lately import Record
from proxy.metrics.table import Series
from proxy.metrics.telling import Telling
from proxy.model import Headers, Health, State
from proxy.rules import cargo_snippets, names
from proxy.rules.endpoints import Override
from proxy.web.dashboard import figures, rendering
from proxy.web.messages import Client, Receive, Scope, Send
from proxy.web.request import REQUEST, Request

_JSON: Headers = ((b"content-type", b"application/json"), (b"cache-control", b"no-store"), *rendering.SAFE)
_NO_FILE: Headers = ((b"content-type", b"text/plain"), (b"cache-control", b"no-store"), *rendering.SAFE)
_FOR_EVER = (b"cache-control", b"public, max-age=31536000, immutable")
_ASKED_ANEW = (b"cache-control", b"no-cache")

SPANS = ("hours", "days", "month")
"""Of the history: six hours, two days, a month."""
GATHERED_FOR, LONGEST = 1.0, 10.0
"""Seconds for which figures are good, at least and at most: however many look, they are gathered once."""
SHARE = 20
"""And for so many times as long as it took to gather them, so that who looks never takes much from who builds."""


@dataclass(frozen=True, slots=True)
class Mode:
    """What this proxy is set to, as far as people want to see it. `base` gives its own URL, by which a request reached
    it, and raises `Refused` for a name that is not its own; `overrides`: the times of endpoints that are set; `admin`:
    whether an admin token is set.
    """

    base: Callable[[Request], str]
    overrides: Mapping[str, Override]
    offline: bool
    read_only: bool
    feed: bool
    pinned: int
    admin: bool
    burst: int
    window: int
    max_size: int
    workers: int


@dataclass(frozen=True, slots=True)
class Gathered:
    """What the overview shows. `at`: when, in seconds since the epoch."""

    at: float
    stats: dict[str, Any]
    values: dict[Series, float]
    record: Record
    standing: Standing
    healths: Sequence[Health]


class Source:
    """Gathers, once for all who look at the same time."""

    def __init__(
        self,
        telling: Telling,
        checks: Callable[[], Sequence[Awaitable[Health]]],
        standing: Callable[[], Awaitable[Standing]],
        clock: Callable[[], float],
    ) -> None:
        self._telling = telling
        self._checks = checks
        self._standing = standing
        self._clock = clock
        self._task: asyncio.Task[Gathered] | None = None
        self._good_until = 0.0

    async def gathered(self) -> Gathered:
        if self._task is None or (self._task.done() and time.monotonic() > self._good_until):
            self._task = asyncio.create_task(self._gather())
        return await asyncio.shield(self._task)

    async def _gather(self) -> Gathered:
        begun = time.monotonic()
        try:
            return await self._asked()
        finally:
            ended = time.monotonic()
            self._good_until = ended + min(LONGEST, max(GATHERED_FOR, SHARE * (ended - begun)))

    async def _asked(self) -> Gathered:
        stats, values, record, standing, failing, *healths = await asyncio.gather(
            self._telling.stats(),
            self._telling.values(),
            self._telling.lately(),
            self._standing(),
            self._telling.failing(),
            *self._checks(),
        )
        return Gathered(self._clock(), stats, values, record, standing, figures.group(healths, failing))


class Page:
    """What all pages have in common. A page says what it shows in `shown`."""

    fields = rendering.PAGE

    def __init__(self, mode: Mode) -> None:
        self.mode = mode

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        client, request = Client(scope, receive, send), scope[REQUEST]
        try:
            if not request.reading:
                raise Refused("this page is only read: GET and HEAD", status=405)
            body = await self.shown(request, scope["path_params"], self.mode.base(request))
        except Error as error:
            body = rendering.page("refused.html", mode=self.mode, here="", error=error)
            fields = (*rendering.PAGE, (b"allow", b"GET, HEAD")) if error.status == 405 else rendering.PAGE
            await client.whole(error.status, fields, body)
            return
        await client.whole(200, self.fields, body)

    async def shown(self, request: Request, parameters: dict[str, str], base: str) -> bytes:
        """The page. `base`: this proxy's own URL. Raises `Error` for what is told instead."""
        raise NotImplementedError


class Overview(Page):
    def __init__(self, mode: Mode, source: Source) -> None:
        super().__init__(mode)
        self._source = source

    async def shown(self, request: Request, parameters: dict[str, str], base: str) -> bytes:
        found = await self._source.gathered()
        shelves = figures.shelves(found.stats)
        return rendering.page(
            "overview.html",
            here="overview",
            mode=self.mode,
            at=found.at,
            stats=found.stats,
            total=sum(found.stats["requests"].values()),
            now=figures.now(found.record, found.at),
            standing=found.standing,
            healths=found.healths,
            attention=[each for each in found.healths if each.state is not State.OK],
            endpoints=figures.endpoints(found.stats),
            clients=figures.clients(found.stats),
            slow=figures.slow(found.values),
            failing=figures.failing(found.values),
            top=figures.top(found.record),
            troubles=figures.troubles(found.record),
            shelves=shelves,
            full=figures.full(shelves, self.mode.max_size),
        )


class CratePage(Page):
    def __init__(self, mode: Mode, catalogue: Catalogue, clock: Callable[[], float]) -> None:
        super().__init__(mode)
        self._catalogue = catalogue
        self._clock = clock

    async def shown(self, request: Request, parameters: dict[str, str], base: str) -> bytes:
        name = parameters["crate"]
        if not names.is_name(name):
            raise Refused("no crate can have that name", status=404)
        found = await self._catalogue.crate(name, self.mode.overrides)
        stored = [each for each in found.versions if each.tarball is not None]
        return rendering.page(
            "crate.html",
            here="search",
            mode=self.mode,
            base=base,
            at=self._clock(),
            crate=found,
            stored=stored,
            absent=[each for each in found.versions if each.tarball is None],
            size=sum(each.tarball.size for each in stored if each.tarball is not None),
        )


class Search(Page):
    def __init__(self, mode: Mode, catalogue: Catalogue) -> None:
        super().__init__(mode)
        self._catalogue = catalogue

    async def shown(self, request: Request, parameters: dict[str, str], base: str) -> bytes:
        given = dict(request.query)
        part = given.get("q", "").encode("latin-1").decode("utf-8", "replace").strip()
        after = given.get("after", "")
        if len(part) > 64 or (after and not names.is_part(after)):
            part, after, found = part[:64], "", []
        else:
            found = await self._catalogue.search(part, after)
        more = f"/search?q={quote(part)}&after={quote(found[-1].crate)}" if len(found) == PAGE else ""
        return rendering.page(
            "search.html", here="search", mode=self.mode, part=part, after=after, found=found, more=more
        )


class SetUp(Page):
    async def shown(self, request: Request, parameters: dict[str, str], base: str) -> bytes:
        return rendering.page(
            "setup.html", here="setup", mode=self.mode, base=base, snippets=cargo_snippets.snippets(base)
        )


class History(Page):
    """The data of the chart, as JSON: `?span=hours`, `days` or `month`."""

    fields = _JSON

    def __init__(self, mode: Mode, source: Source) -> None:
        super().__init__(mode)
        self._source = source

    async def shown(self, request: Request, parameters: dict[str, str], base: str) -> bytes:
        span = dict(request.query).get("span", "")
        found = await self._source.gathered()
        return orjson.dumps(figures.history(found.record, found.stats, span if span in SPANS else SPANS[0]))


class Assets:
    """The files that pages name. One that is asked for as the version that it is may be kept for ever."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        client, request = Client(scope, receive, send), scope[REQUEST]
        found = rendering.assets().get(scope["path_params"]["name"])
        if found is None:
            await client.whole(404, _NO_FILE, b"there is no such file\n")
            return
        lasting = _FOR_EVER if dict(request.query).get("v") == found.version else _ASKED_ANEW
        tag = b'"%b"' % found.version.encode()
        fields = ((b"content-type", found.kind), (b"etag", tag), lasting, *rendering.SAFE)
        if request.get(b"if-none-match") == tag:
            await client.whole(304, fields, b"")
        else:
            await client.whole(200, fields, found.content)


def routes(mode: Mode, source: Source, catalogue: Catalogue, clock: Callable[[], float]) -> list[BaseRoute]:
    return [
        Route("/", Overview(mode, source)),
        Route("/history", History(mode, source)),
        Route("/search", Search(mode, catalogue)),
        Route("/setup", SetUp(mode)),
        Route("/crates/{crate}", CratePage(mode, catalogue, clock)),
        Route("/assets/{name}", Assets()),
    ]
