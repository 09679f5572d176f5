"""One worker: uvicorn on sockets that others have bound, with our protocol, our words and an orderly end.

On SIGHUP what may change while it serves is read again, by somebody who knows how, and put in force.

It knows uvicorn and signals. It knows nothing of routes or settings, nor of other workers.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import math
import signal
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

import uvicorn

from proxy.errors import Error, SettingsError
from proxy.server import notify
from proxy.server.fast import Fast
from proxy.server.guard import Limits, bound
from proxy.server.handshake import counted
from proxy.server.lifespan import Lifespan
from proxy.server.sockets import url

log = logging.getLogger("proxy")

App = Callable[..., Any]  # An ASGI application: uvicorn and starlette write its type differently.


@dataclass(frozen=True)
class Tls:
    cert: str
    key: str = ""


@dataclass(frozen=True)
class Terms:
    """What may change while a server runs. `settings` are the application's own; `tls` may change, not come or go."""

    settings: Any
    tls: Tls | None = None
    drain_timeout: float = 30.0
    limits: Limits | None = None


YOUNG = 10_000
"""Objects that are made, less those that are gone, between two looks for cycles among the young (Python's own: 700)."""

Reread = Callable[[], Terms | None]
"""Reads the terms again; None where they cannot be used, which it has said."""


def unchanged() -> None:
    """There is nothing to read again."""


def announced(sockets: Sequence[socket.socket], tls: Tls | None) -> None:
    """The line that tells people, scripts and tests that the proxy serves, and where; service managers hear it too."""
    address = url(sockets[0], tls=tls is not None)
    log.info("crates-proxy: serving on %s", address)
    notify.tell("READY=1", f"STATUS=serving on {address}")


def ignored(app: App, settings: Any = None) -> None:
    """Nobody wants to know that the server drains, or what its settings are now."""


def configured(
    app: App, tls: Tls | None = None, drain_timeout: float = 30.0, limits: Limits | None = None
) -> uvicorn.Config:
    """uvicorn as this proxy needs it, wherever it is run from."""
    return uvicorn.Config(
        app,
        loop="uvloop",
        http=bound(Fast, limits or Limits()),
        ws="none",
        lifespan="on",
        interface="asgi3",
        log_config=None,
        log_level=logging.WARNING,
        access_log=False,
        proxy_headers=False,  # who is believed is a setting of ours, not of uvicorn's
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=math.ceil(drain_timeout),
        ssl_certfile=tls.cert if tls else None,
        ssl_keyfile=(tls.key or None) if tls else None,
    )


def serve(
    make_app: Callable[[], App],
    *,
    sockets: Sequence[socket.socket],
    tls: Tls | None = None,
    drain_timeout: float = 30.0,
    limits: Limits | None = None,
    on_ready: Callable[[Server], None] | None = None,
    on_drain: Callable[[App], None] = ignored,
    reread: Reread = unchanged,
    on_reload: Callable[[App, Any], None] = ignored,
) -> int:
    """Serve until SIGTERM or SIGINT, then finish what is under way and return the exit status: 0, or 1 where the
    app did not start (the reason is logged). A second SIGINT does not wait.

    on_ready is called once connections are accepted; by default it logs the line that says so, and from then on
    SIGHUP has the terms `reread`. on_drain is called with the app at the first signal, before the sockets close;
    on_reload with the app and its new settings. What make_app raises is raised.
    """
    app = make_app()
    config = configured(app, tls, drain_timeout, limits)
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        raise SettingsError([f"server.tls_cert, server.tls_key: cannot be used: {error}"]) from error
    config.lifespan_class = Lifespan
    logging.getLogger("uvicorn.error").addFilter(_not_cancelled)
    server = Server(
        config,
        on_ready=on_ready or (lambda server: _alone(server, sockets, tls, reread)),
        on_drain=lambda: on_drain(app),
        on_reload=lambda settings: on_reload(app, settings),
    )
    try:
        server.run(sockets=list(sockets))
    except SystemExit:
        return 1
    finally:
        logging.getLogger("uvicorn.error").removeFilter(_not_cancelled)
    return 0


class Server(uvicorn.Server):
    lifespan: Lifespan

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        on_ready: Callable[[Server], None],
        on_drain: Callable[[], None],
        on_reload: Callable[[Any], None],
    ) -> None:
        super().__init__(config)
        self.on_ready = on_ready
        self.on_drain = on_drain
        self.on_reload = on_reload
        self._made: Callable[[], Any]
        self._late: set[asyncio.Future[None]] = set()

    def obey(self, terms: Terms) -> None:
        """Serve on these terms from now on: connections that are there keep their certificate."""
        protocol: Any = self.config.http_protocol_class
        protocol.watch.limits = terms.limits or Limits()
        self.config.timeout_graceful_shutdown = math.ceil(terms.drain_timeout)
        if self.config.ssl is not None and terms.tls is not None:
            self.config.ssl.load_cert_chain(terms.tls.cert, terms.tls.key or None)
        self.on_reload(terms.settings)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        loop: Any = asyncio.get_running_loop()  # uvicorn has it make the servers
        loop.create_server = self._listening(loop.create_server)
        try:
            await super().startup(sockets=sockets)
        except OSError as error:
            await self.lifespan.shutdown()
            log.error("crates-proxy cannot listen: %s", error)
            raise SystemExit(1) from error
        except SystemExit:
            self._tell(self.lifespan.failure)
            raise
        _settle()
        self.on_ready(self)

    def _listening(self, create_server: Callable[..., Awaitable[asyncio.Server]]) -> Callable[..., Any]:
        protocol: Any = self.config.http_protocol_class

        async def created(made: Callable[[], Any], *, ssl: ssl.SSLContext | None, **options: Any) -> asyncio.Server:
            self._made = counted(made, ssl, protocol.watch)
            return await create_server(self._made, **options)

        return created

    def _accept(self, sockets: Sequence[socket.socket]) -> None:
        """Take all that the kernel has queued, for it resets what is queued at a socket that is closed."""
        for sock in sockets:
            with contextlib.suppress(OSError):  # no more, or no descriptor for it
                for _ in range(self.config.backlog):  # so many can be queued; whoever comes after that comes too late
                    self._late.add(asyncio.ensure_future(self._admit(sock.accept()[0])))

    async def _admit(self, accepted: socket.socket) -> None:
        accepted.setblocking(False)
        with contextlib.suppress(OSError):  # the client has left by now
            transport, protocol = await asyncio.get_running_loop().connect_accepted_socket(self._made, accepted)
            if not transport.is_closing():
                protocol.shutdown()  # uvicorn has told it to the others

    def _tell(self, failure: BaseException | str | None) -> None:
        if isinstance(failure, Error):
            log.error("crates-proxy did not start: %s", failure.detail)
        elif isinstance(failure, BaseException):
            log.error("crates-proxy did not start", exc_info=failure)
        else:
            log.error("crates-proxy did not start: %s", failure)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        notify.tell("STOPPING=1", "STATUS=finishing what is under way")
        self.on_drain()
        self._accept(sockets or [])
        await super().shutdown(sockets=sockets)  # its first step closes them
        if self.lifespan.failure is not None:
            log.error("crates-proxy did not stop cleanly: %s", self.lifespan.failure)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Unlike uvicorn's, this does not raise the signal again at the end: a drained server exits with 0."""
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        self.should_exit = True


def _settle() -> None:
    """What has been made until now stays, and need not be looked through again and again: that alone took 15 ms of each
    full collection, in which nobody is answered. The young are looked at less often, as most of what is made is no part
    of a cycle."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, 20, 20)


def usable(tls: Tls) -> str:
    """Why a certificate cannot be used; "" where it can."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tls.cert, tls.key or None)
    except (OSError, ssl.SSLError) as error:
        return f"server.tls_cert, server.tls_key: cannot be used: {error}"
    return ""


def reloading(reread: Reread) -> Terms | None:
    """Read the terms again, and let service managers know."""
    notify.tell("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")
    try:
        return reread()
    finally:
        notify.tell("READY=1")


def _alone(server: Server, sockets: Sequence[socket.socket], tls: Tls | None, reread: Reread) -> None:
    """The server is the only one, and hears the signals itself."""

    def hear() -> None:
        terms = reloading(reread)
        if terms is not None:
            server.obey(terms)

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hear)
    announced(sockets, tls)


def _not_cancelled(record: logging.LogRecord) -> bool:
    """A request that is cut off at the end of the drain timeout is told once, without a traceback for each."""
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))
