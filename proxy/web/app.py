"""The Starlette application: the operators' routes, and everything else to `Dispatch`."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from starlette.applications import Starlette
from starlette.routing import Mount, Route

from proxy import logs, wiring
from proxy.settings import Settings
from proxy.web.admin import Healthz, Purge, Readyz
from proxy.web.dispatch import Dispatch, Site
from proxy.web.messages import Receive, Scope, Send


class App:
    """An ASGI application that opens the proxy when the server starts and closes it when it stops."""

    def __init__(self, settings: Settings, directory: Path, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._clock = clock
        self._directory = directory
        self._draining = False
        self._starlette = Starlette(lifespan=self._lifespan)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._starlette(scope, receive, send)

    def drain(self) -> None:
        """From now on `/readyz` says that this worker is about to stop."""
        self._draining = True

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        async with wiring.opened(self._settings, self._directory, self._clock) as proxy:
            app.router.routes += [
                Route("/healthz", Healthz()),
                Route("/readyz", Readyz(proxy.checks, lambda: self._draining)),
                Route("/-/purge", Purge(proxy.purging, admin_token=self._settings.access.admin_token)),
                Mount("/", _dispatch(self._settings, proxy)),
            ]
            yield


def _dispatch(settings: Settings, proxy: wiring.Proxy) -> Dispatch:
    site = Site(
        public_url=settings.server.public_url,
        hosts=frozenset(settings.server.hosts),
        origins=wiring.origins(settings),
        overrides=settings.endpoints,
        read_only=settings.access.read_only,
    )
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
