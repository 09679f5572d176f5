"""How a client's request gets to whoever answers it: into the proxy's application, or straight to crates.io.

A client names URLs, as cargo does, and sees a status, fields and a body; 0 is a request that nobody answered whole.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

from proxy.server.protocol import ABORT, GONE
from tests.upstream.wire import Request
from tests.week.crates_io import URLS, CratesIo, Unreachable

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Got:
    """`fields` by lower-case name."""

    status: int
    fields: Mapping[str, str]
    body: bytes = b""


NOTHING = Got(0, {})


class Way(Protocol):
    index: str
    """The URL of the sparse index, which everything else is found by; it ends in a slash."""

    async def ask(self, method: str, url: str, fields: Mapping[str, str], body: bytes) -> Got: ...


class Straight:
    """To crates.io itself."""

    index = URLS["index"] + "/"

    def __init__(self, crates_io: CratesIo) -> None:
        self._crates_io = crates_io

    async def ask(self, method: str, url: str, fields: Mapping[str, str], body: bytes) -> Got:
        origin, target = taken_apart(url)
        host = next(name for name, its in URLS.items() if its == origin)
        try:
            reply = await self._crates_io.exchange(Request(host, method, target, tuple(fields.items()), body))
        except Unreachable:
            return NOTHING
        return Got(reply.status, dict(reply.headers), reply.sent)


class Through:
    """Into an ASGI application, as a server would hand it requests, without a socket."""

    index = "http://127.0.0.1:8080/index/"

    def __init__(self, application: Application) -> None:
        self._application = application

    async def ask(self, method: str, url: str, fields: Mapping[str, str], body: bytes) -> Got:
        origin, target = taken_apart(url)
        path, _, query = target.partition("?")
        received: list[Message] = []
        broken: list[bool] = []
        uploads = [{"type": "http.request", "body": body, "more_body": False}]
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields.items()]
        raw += [(b"host", urlsplit(origin).netloc.encode())]
        raw += [(b"content-length", b"%d" % len(body))] if body else []

        async def receive() -> Message:
            if uploads:
                return uploads.pop()
            await asyncio.Event().wait()  # this client never leaves before its answer has come
            raise AssertionError

        async def send(message: Message) -> None:
            received.append(message)

        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode("latin-1"),
            "query_string": query.encode("latin-1"),
            "headers": raw,
            "client": ("127.0.0.1", 50000),
            "server": ("127.0.0.1", 8080),
            "extensions": {ABORT: lambda: broken.append(True), GONE: lambda: bool(broken)},
        }
        await self._application(scope, receive, send)
        return NOTHING if broken else _assembled(received)


def taken_apart(url: str) -> tuple[str, str]:
    """Origin, and path with query. Nothing is encoded or decoded: cargo fills its templates in as they are."""
    scheme, _, rest = url.partition("://")
    authority, slash, target = rest.partition("/")
    return f"{scheme}://{authority}", slash + target


def _assembled(messages: list[Message]) -> Got:
    """What a server would have put on the wire, held against the length that was promised."""
    assert messages, "the application neither answered nor broke off"
    start, *pieces = messages
    assert start["type"] == "http.response.start" and not pieces[-1].get("more_body"), "the answer has no end"
    fields = {name.decode("latin-1"): value.decode("latin-1") for name, value in start["headers"]}
    body = b"".join(piece.get("body", b"") for piece in pieces)
    if "content-length" in fields and start["status"] != 304 and int(fields["content-length"]) != len(body):
        return NOTHING
    return Got(start["status"], fields, body)


@contextlib.asynccontextmanager
async def started(application: Application) -> AsyncIterator[None]:
    """The application between its lifespan's start and end, as a server runs it."""
    orders: asyncio.Queue[Message] = asyncio.Queue()
    told: asyncio.Queue[Message] = asyncio.Queue()
    state: dict[str, Any] = {}
    task = asyncio.ensure_future(application({"type": "lifespan", "state": state}, orders.get, told.put))
    for order in ("startup", "shutdown"):
        await orders.put({"type": f"lifespan.{order}"})
        said = asyncio.ensure_future(told.get())
        await asyncio.wait({said, task}, return_when=asyncio.FIRST_COMPLETED)
        if task.done() and not said.done():
            said.cancel()
            await task
        assert (await said)["type"] == f"lifespan.{order}.complete"
        if order == "startup":
            yield
    await task
