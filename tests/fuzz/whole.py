"""The real application behind the real protocol class, with no socket and no network, in virtual time.

What a client sends is bytes that are handed to the protocol; what upstream answers is handed to its connection, or
comes from the small crates.io. Whatever may not happen whatever the bytes are is raised: an answer that is no HTTP, a
500, an error in the log, a task that does not end.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from uvicorn.server import ServerState

from proxy import settings
from proxy.model import Host
from proxy.rules.endpoints import TIMED
from proxy.server import serving
from proxy.settings import Settings
from proxy.stores.disk import DiskStore
from proxy.upstream.base import Answer, Ask
from proxy.upstream.base import Upstream as Seam
from proxy.upstream.http import HttpUpstream
from proxy.web.app import App
from tests import virtual_time
from tests.proxied import GENEROUS
from tests.upstream import api, index, samples, static
from tests.upstream.routes import Site
from tests.upstream.wire import Request
from tests.week.crates_io import URLS, Arrived

PATIENCE = 20.0
"""Real seconds after which one input hangs."""
_END_OF_CLIENT = 120.0
"""Virtual seconds that a client waits: longer than every timeout of this proxy."""


class Fault(AssertionError):
    """What may not happen has happened."""


class Wire(asyncio.Transport):
    """A connection's transport, whose client reads everything at once."""

    def __init__(self) -> None:
        super().__init__({"peername": ("192.0.2.1", 5), "sockname": ("192.0.2.2", 80)})
        self.written = bytearray()
        self.closed = False
        self.protocol: Any = None

    def write(self, data: Any) -> None:
        if not self.closed:
            self.written += bytes(data)

    def writelines(self, pieces: Any) -> None:
        for piece in pieces:
            self.write(piece)

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.close()

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    def abort(self) -> None:
        self.close()

    def is_closing(self) -> bool:
        return self.closed

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class CratesIo:
    """The small crates.io as an `Upstream`, at once and without a socket. `asked`: what it was."""

    def __init__(self) -> None:
        self.asked: list[Ask] = []
        self._site = Site(samples.registry(), *(URLS[host] for host in ("api", "index", "static")))

    async def send(self, ask: Ask) -> Answer:
        self.asked.append(ask)
        body = b"".join([piece async for piece in ask.body]) if ask.body is not None else b""
        fields = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in ask.headers)
        request = Request(ask.host.value, ask.method, ask.target, (*fields, ("user-agent", "crates-proxy/0")), body)
        respond: Callable[[Site, Request], Any] = {"api": api, "index": index, "static": static}[ask.host].respond
        return Arrived(respond(self._site, request))

    async def aclose(self) -> None: ...


class Saying:
    """An `Upstream` over HTTP that is answered with these bytes, on every connection, whatever it asks."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    def reach(self, given: Settings) -> Seam:
        made = HttpUpstream(
            {Host.API: given.upstream.api, Host.INDEX: given.upstream.index, Host.STATIC: given.upstream.static},
            user_agent="crates-proxy/0",
            connect_timeout=5,
            patience=20,
        )
        for pool in (*made._shared.values(), *made._straight.values()):
            pool.way.connected = self._connected  # type: ignore[method-assign]
        return made

    async def _connected(self, patience: float) -> tuple[Any, bool]:
        return _Told(self), False


class _Told(Wire):
    """A connection, and its transport. What is told comes after the first bytes of a request, and then the end."""

    def __init__(self, saying: Saying) -> None:
        super().__init__()
        self._saying = saying
        self._silent, self._other = socket.socketpair()  # what the kernel knows of it: nothing ever comes
        self._told = False

    def lend(self, borrower: asyncio.Protocol) -> None:
        self.protocol = borrower
        borrower.connection_made(self)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._silent if name == "socket" else super().get_extra_info(name, default)

    def write(self, data: Any) -> None:
        super().write(data)
        if not self._told:
            self._told = True
            asyncio.get_running_loop().call_soon(self._tell, [*self._saying.pieces])

    def close(self) -> None:
        super().close()
        self._silent.close()
        self._other.close()

    def _tell(self, pieces: list[bytes]) -> None:
        if self.closed:
            return
        if pieces:
            self.protocol.data_received(pieces.pop(0))
            asyncio.get_running_loop().call_soon(self._tell, pieces)
        else:
            self.protocol.eof_received()
            self.close()


class _Errors(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR or record.exc_info:
            self.found.append(self.format(record))


class Whole:
    """A running proxy. `exchange` is one connection of one client."""

    def __init__(self, runner: asyncio.Runner, lifespan: _Lifespan, errors: _Errors, directory: Path) -> None:
        self._runner = runner
        self._errors = errors
        self._state = lifespan.state
        self._directory = directory
        self._config = serving.configured(lifespan.app)
        self._config.load()
        self._protocol: Any = self._config.http_protocol_class

    def exchange(self, *pieces: bytes) -> bytes:
        """What comes back for these bytes. Raises `Fault`."""
        wire: bytes = self.run(self._exchange(pieces))
        return wire

    def store(self, name: str) -> DiskStore:
        """One of its stores, opened once more, as another process opens it."""
        return DiskStore.opened(self._directory / name, name, lambda what, happened: None, reserve=0)

    def run(self, work: Any) -> Any:
        begun = time.monotonic()
        try:
            return self._runner.run(work)
        finally:
            if time.monotonic() - begun > PATIENCE:
                raise Fault(f"it took {time.monotonic() - begun:.0f} s")
            if self._errors.found:
                found, self._errors.found = self._errors.found, []
                raise Fault("logged: " + "\n".join(found))

    async def _exchange(self, pieces: Sequence[bytes]) -> bytes:
        state, wire = ServerState(), Wire()
        protocol: Any = self._protocol(self._config, state, self._state)
        wire.protocol = protocol
        protocol.connection_made(wire)
        for piece in pieces:
            if not wire.closed:
                protocol.data_received(piece)
                await asyncio.sleep(0)
        end = asyncio.get_running_loop().time() + _END_OF_CLIENT
        while not wire.closed and _under_way(protocol):
            if asyncio.get_running_loop().time() > end:
                raise Fault("no answer comes")
            await asyncio.sleep(0.01)
        wire.close()
        await asyncio.sleep(0)
        if state.tasks:
            _, left = await asyncio.wait(state.tasks, timeout=_END_OF_CLIENT)
            if left:
                raise Fault(f"a request does not end though its client has left: {left}")
        return bytes(wire.written)


def _under_way(protocol: Any) -> bool:
    """Whether an answer is still to come that does not wait for more of its request."""
    answering = protocol.answering
    if answering is None or answering.disconnected:
        return False
    return not answering.response_complete and not (answering.more_body and answering is protocol.newest)


@contextlib.contextmanager
def running(reach: Callable[[Settings], Seam], **given: object) -> Iterator[Whole]:
    """`given`: settings, `__` for the dot."""
    errors = _Errors()
    root = logging.getLogger()
    root.addHandler(errors)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch, virtual_time.running() as runner:
        overrides = {
            "cache.dir": scratch,
            **GENEROUS,
            "upstream.contact": "tests@example.org",
            **{name.replace("__", "."): value for name, value in given.items()},
        }
        loaded = settings.load(overrides, None, {}, endpoints=TIMED)
        runner.get_loop().set_exception_handler(lambda _, context: errors.found.append(str(context)))
        lifespan = _Lifespan(App(loaded.settings, Path(scratch), _clock(runner), reach))
        runner.run(lifespan.go("startup"))
        try:
            yield Whole(runner, lifespan, errors, Path(scratch))
        finally:
            runner.run(lifespan.go("shutdown"))
            root.removeHandler(errors)


def _clock(runner: asyncio.Runner) -> Callable[[], float]:
    loop = runner.get_loop()
    assert isinstance(loop, virtual_time.VirtualTimeLoop)
    return loop.clock


class _Lifespan:
    """An application's lifespan, as a server runs it, over several runs of the loop."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.state: dict[str, Any] = {}
        self._orders: asyncio.Queue[Any] = asyncio.Queue()
        self._told: asyncio.Queue[Any] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    async def go(self, order: str) -> None:
        if self._task is None:
            scope = {"type": "lifespan", "state": self.state}
            self._task = asyncio.create_task(self.app(scope, self._orders.get, self._told.put))
        await self._orders.put({"type": f"lifespan.{order}"})
        told = await self._told.get()
        assert told["type"] == f"lifespan.{order}.complete", told
