"""The connections to one host, as a transport of httpx. To take one and to give it back costs the same however many
there are; httpcore's own pool looks at all its connections, and at all who wait, each time.

It bounds nothing and nobody waits here: whoever uses it says how many requests may be under way. What goes over a
connection is httpcore's; its exceptions leave as httpx's of the same names.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpcore
import httpx

from proxy.upstream import connection

REUSED = "reused"
"""Among the extensions of a request that was sent: has its connection served before? Then the other end may have closed
it while the request was on its way."""

TARGET = "wanted"
"""Among the extensions of every request: what it asks for, in bytes, as it is to go. Its URL is the origin alone, which
httpx need not parse anew each time. httpcore's own "target" would become that of the tunnel through a proxy, too."""

_FOREIGN = (
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    httpcore.TimeoutException,
    httpcore.UnsupportedProtocol,
)


@dataclass(eq=False, slots=True)
class _Held:
    """A connection. `many`: it takes many requests at a time (HTTP/2)."""

    connection: httpcore.AsyncConnectionInterface
    served: bool = False
    many: bool = False


class Pool(httpx.AsyncBaseTransport):
    """`transport` makes the connections and is used for nothing else. `kept`: so many idle ones stay open."""

    def __init__(self, transport: httpx.AsyncHTTPTransport, origin: httpx.URL, *, kept: int) -> None:
        self._maker: Any = transport._pool
        port = origin.port or {"http": 80, "https": 443}.get(origin.scheme, 0)
        self._origin = httpcore.Origin(origin.raw_scheme, origin.raw_host, port)
        self._kept = kept
        self._open: set[_Held] = set()
        self._idle: deque[_Held] = deque()  # on the right the one that was used last
        self._shared: _Held | None = None  # takes many requests, or may turn out to
        self._one_each = False  # the host was last seen to speak HTTP/1.1

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        scheme, host, port = self._origin.scheme, self._origin.host, self._origin.port
        asked = httpcore.Request(
            request.method,
            httpcore.URL(scheme=scheme, host=host, port=port, target=request.extensions[TARGET]),
            headers=request.headers.raw,
            content=request.stream,
            extensions=request.extensions,
        )
        try:
            held, answer = await self._answered(request, asked)
        except _FOREIGN as error:
            raise _translated(error) from error
        held.served = True
        held.many = answer.extensions.get("http_version") == b"HTTP/2"
        self._one_each = not held.many
        if held.many:
            self._shared = self._shared or held
        elif self._shared is held:
            self._shared = None
        return httpx.Response(
            answer.status,
            headers=answer.headers,
            stream=Body(self, held, answer.stream),
            extensions=answer.extensions,
        )

    async def aclose(self) -> None:
        closing, self._open, self._shared = self._open, set(), None
        self._idle.clear()
        for held in closing:
            await held.connection.aclose()

    async def given_back(self, held: _Held, *, distrusted: bool = False) -> None:
        """A request is through with its connection, however that went. What was `distrusted` is closed, but where each
        answer says to which request it is one (HTTP/2)."""
        used = held.connection
        if distrusted and not held.many:
            await self._closed(held)
        elif used.is_available() and held in self._open:
            if held is not self._shared:
                self._idle.append(held)
                # The one that has been idle for longest is looked at, so that none stays for nothing.
                if len(self._idle) > self._kept or self._idle[0].connection.has_expired():
                    await self._closed(self._idle.popleft())
        elif used.is_idle() or not held.many:
            await self._closed(held)
        # else it is at its end, and whoever gets his answer over it last closes it

    async def _answered(self, request: httpx.Request, asked: httpcore.Request) -> tuple[_Held, httpcore.Response]:
        while True:
            held = await self._taken()
            request.extensions[REUSED] = held.served
            try:
                return held, await held.connection.handle_async_request(asked)
            except httpcore.ConnectionNotAvailable:
                if self._shared is held:  # it was thought to take many
                    self._shared = None
            except (httpcore.NetworkError, httpcore.RemoteProtocolError):
                await self.given_back(held)
                # Where upstream has closed one that was idle it closes others: who asks again gets a new one.
                while held.served and self._idle:
                    await self._closed(self._idle.popleft())
                raise
            except BaseException:
                await self.given_back(held)
                raise

    async def _taken(self) -> _Held:
        shared = self._shared
        if shared is not None:
            if shared.connection.is_available() and not shared.connection.has_expired():
                return shared
            self._shared = None
            if shared.connection.is_idle():
                await self._closed(shared)
        while self._idle:
            held = self._idle.pop()
            if not held.connection.has_expired():
                return held
            await self._closed(held)
        held = _Held(self._maker.create_connection(self._origin))
        self._open.add(held)
        if held.connection.is_available() and not self._one_each:  # while it connects nobody knows what it will speak
            self._shared = held
        return held

    async def _closed(self, held: _Held) -> None:
        self._open.discard(held)
        if self._shared is held:
            self._shared = None
        await held.connection.aclose()


class Body(httpx.AsyncByteStream):
    """The body of an answer; with it the connection is given back."""

    def __init__(self, pool: Pool, held: _Held, stream: Any) -> None:
        self._pool = pool
        self._held: _Held | None = held
        self._stream = stream
        self._distrusted = False

    def distrust(self) -> None:
        """The connection serves nobody after this."""
        self._distrusted = True

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for piece in self._stream:
                yield piece
        except _FOREIGN as error:
            raise _translated(error) from error

    async def aclose(self) -> None:
        held, self._held = self._held, None
        if held is None:
            return
        connection.unshared(self._stream)
        try:
            await self._stream.aclose()
        finally:
            await self._pool.given_back(held, distrusted=self._distrusted)


def _translated(error: Exception) -> Exception:
    return getattr(httpx, type(error).__name__)(str(error))  # type: ignore[no-any-return]
