"""The application, of Starlette's routes: the operators', and everything else to `Dispatch`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any

from starlette.routing import BaseRoute, Mount, Route, Router

from proxy import logs, wiring
from proxy.errors import Error, Refused
from proxy.lasting import lasting
from proxy.model import Health
from proxy.rules import secrets, verdicts
from proxy.rules.clients import Networks
from proxy.rules.labels import Labels
from proxy.server.fast import SHORTCUT, Shortcut
from proxy.settings import Settings
from proxy.tracing.base import Tracing, Untraced
from proxy.web.access import Access
from proxy.web.admin import Healthz, Metrics, Purge, Readyz, Stats
from proxy.web.dashboard import pages
from proxy.web.dashboard.pages import Mode, Source
from proxy.web.dispatch import Dispatch, Site
from proxy.web.edge import SEEN, Edge, Ended, Seen, request_id
from proxy.web.hits import Hits
from proxy.web.messages import Client, Message, Receive, Scope, Send
from proxy.web.request import REQUEST, Request
from proxy.wiring.tracing import reached, traced

log = logging.getLogger("proxy")

_HEADS = 16
"""The heads of requests that are remembered may take this part of what objects in memory may."""


class App:
    """An ASGI application that opens the proxy when the server starts and closes it when it stops."""

    def __init__(
        self, settings: Settings, directory: Path, clock: wiring.Clock = time.time, reach: wiring.Reach | None = None
    ) -> None:
        """`clock` and `reach` as `wiring.opened` takes them."""
        self._settings = settings
        self._clock = clock
        self._reach = reach
        self._directory = directory
        self._draining = False
        self._proxy: wiring.Proxy | None = None
        self._state: dict[str, Any] = {}  # what the server's protocol finds in the state of the lifespan
        self._hits: Hits | None = None
        self._ended: Ended = lambda scope, seen, seconds: None
        self._tracing: Tracing = Untraced()
        self._admit(settings)
        # Without Starlette's middleware, which would answer what fails in words of its own.
        self._router = Router(redirect_slashes=False, lifespan=self._lifespan)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            self._state = scope["state"]
            await self._router(scope, receive, send)
            return
        seen = scope[SEEN] = Seen()
        begun = time.perf_counter()
        try:
            with self._tracing.answering(scope, seen):
                await self._answer(scope, receive, send)
        finally:
            self._ended(scope, seen, time.perf_counter() - begun)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = Client(scope, receive, send)
        try:
            if self._hits is None or not await self._hits.sent(client):
                await self._routed(client, scope, receive, send)
        except Exception:
            name = request_id(scope)
            fields = {"request": name, "method": scope["method"], "path": secrets.path(client.seen.path)}
            log.exception("a request failed inside this proxy", extra={"event": fields})
            if client.started:
                client.abort()
            else:
                failed = Error(f"this proxy failed on that request; its log says how, of request {name}")
                await client.error(failed, verdicts.refused(failed))

    async def _routed(self, client: Client, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            # Every route is matched on the canonical form of the raw path, never on what somebody decoded.
            request = self._access.seen(Request.of(scope), scope)
        except Refused as error:
            await client.error(error, verdicts.refused(error))
            return
        client.seen.path, client.seen.client = request.path, request.client
        await self._router({**scope, "path": request.path, REQUEST: request}, receive, _noted(client, send))

    def drain(self) -> None:
        """From now on `/readyz` says that this worker is about to stop."""
        self._draining = True

    def reload(self, settings: Settings) -> None:
        """From now on these rule, as far as they can change while it serves (`rereading`). What is in memory may live
        by times that do not count any more, and is forgotten."""
        if self._proxy is not None:
            self._admit(settings)
            self._serve(self._proxy)
            self._proxy.forget()

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: object) -> AsyncIterator[None]:
        async with (
            traced(os.environ) as tracing,
            wiring.opened(
                self._settings, self._directory, self._clock, reached(tracing, self._reach), serving=True
            ) as proxy,
        ):
            self._proxy, self._tracing = proxy, tracing
            self._serve(proxy)
            upkeep = self._upkeep(proxy)
            yield
            self._proxy = None
            if upkeep is not None:
                upkeep.cancel()
                await asyncio.wait({upkeep})

    def _upkeep(self, proxy: wiring.Proxy) -> asyncio.Task[None] | None:
        if not self._settings.cache.pinned:
            return None
        return asyncio.create_task(lasting("the upkeep of what is pinned", proxy.ready.upkeep.run))

    def _admit(self, settings: Settings) -> None:
        """What is known of clients, from the settings alone."""
        self._settings = settings
        self._labels = Labels.of(settings.stats.client_header, settings.stats.clients)
        self._access = Access(
            trusted=Networks.of(settings.server.trusted_proxies), allowed=Networks.of(settings.access.networks)
        )

    def _serve(self, proxy: wiring.Proxy) -> None:
        """Answer from what is opened, as the settings say."""
        self._ended, site = self._edge(proxy), _site(self._settings)
        self._router.routes[:] = [
            Route("/healthz", Healthz()),
            Route("/readyz", Readyz(lambda: _checks(self._settings, proxy), lambda: self._draining)),
            Route("/metrics", Metrics(proxy.telling)),
            Route("/-/stats", Stats(proxy.telling)),
            Route("/-/purge", Purge(proxy.purging, admin_token=self._settings.access.admin_token)),
            *self._pages(site, proxy),
            Mount("/", _dispatch(site, proxy)),
        ]
        self._shorten(site, proxy)

    def _pages(self, site: Site, proxy: wiring.Proxy) -> list[BaseRoute]:
        settings = self._settings
        mode = Mode(
            base=site.base,
            overrides=site.overrides,
            offline=settings.upstream.offline,
            read_only=settings.access.read_only,
            feed=settings.upstream.follow_feed,
            pinned=len(settings.cache.pinned),
            admin=bool(settings.access.admin_token),
            burst=settings.upstream.burst,
            window=settings.upstream.window_requests,
            max_size=settings.cache.max_size,
            workers=settings.server.workers,
        )
        source = Source(proxy.telling, lambda: _checks(settings, proxy), proxy.standing, self._clock)
        return pages.routes(mode, source, proxy.catalogue, self._clock)

    def _shorten(self, site: Site, proxy: wiring.Proxy) -> None:
        """Open the short way, unless each request has to come by here, to have its line in the log, its span, or to be
        counted as its client's. Who is connected by an earlier one takes the long way from now on."""
        earlier = self._state.pop(SHORTCUT, None)
        if earlier is not None:
            earlier.close()
        if self._settings.log.access or self._labels.wanted or self._tracing.on:
            return
        room = self._settings.cache.memory
        hits = self._hits = Hits(
            proxy.answers, proxy.downloads, self._access, site, self._clock, room, proxy.lately.asked
        )
        proxy.counters.adopt(hits.tallies)
        self._state[SHORTCUT] = Shortcut(hits, room // _HEADS)

    def _edge(self, proxy: wiring.Proxy) -> Edge:
        log = self._settings.log
        told = logs.AccessLines(json_lines=log.format == "json") if log.access else None
        return Edge(proxy.counters, self._labels, told, self._clock, proxy.lately)


def _checks(settings: Settings, proxy: wiring.Proxy) -> list[Awaitable[Health]]:
    pinned = [proxy.ready.upkeep.health()] if settings.cache.pinned else []
    return [*proxy.stores(), *proxy.upstream(), *pinned]


def _noted(client: Client, send: Send) -> Send:
    """`send`, and whether it was used is noted: an answer that has started cannot become another."""

    async def noted(message: Message) -> None:
        client.started = True
        await send(message)

    return noted


def _site(settings: Settings) -> Site:
    return Site(
        public_url=settings.server.public_url,
        hosts=frozenset(settings.server.hosts),
        origins=wiring.origins(settings),
        overrides=settings.endpoints,
        read_only=settings.access.read_only,
        label=settings.stats.client_header.lower().encode("ascii"),
    )


def _dispatch(site: Site, proxy: wiring.Proxy) -> Dispatch:
    return Dispatch(
        site=site,
        answers=proxy.answers,
        downloads=proxy.downloads,
        passing=proxy.passing,
        transparent=proxy.transparent,
    )


def made(given: tuple[Settings, Path]) -> App:
    """The application of a worker. Its process may be a new one, in which nothing is configured yet."""
    settings, directory = given
    logs.configure(level=settings.log.level, json_lines=settings.log.format == "json")
    return App(settings, directory)


def drain(app: object) -> None:
    """The server's word to an application that `made` made: it is about to stop."""
    assert isinstance(app, App)
    app.drain()


def reload(app: object, given: tuple[Settings, Path]) -> None:
    """The server's word to it: its settings have changed. `given` as `made` takes it."""
    assert isinstance(app, App)
    settings, _ = given
    logs.configure(level=settings.log.level, json_lines=settings.log.format == "json")
    app.reload(settings)
