"""A connection's bytes, on the event loop's own transports: what httpcore reads from and writes to for HTTP/2, and what
is lent to those that do without it.

httpcore's own streams open a scope of cancellation at each read and each write. Here a timer is set where there is
nothing to read. It knows no HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections import deque
from ssl import SSLContext, SSLError
from typing import Any

import httpcore

_FULL = 256 * 1024
"""Bytes that wait to be read, and the other end has to wait, too."""


async def dialled(host: str, port: int, timeout: float | None) -> Wire:
    """Connects as httpcore does by itself, to the first of a host's addresses that answers, and takes over then."""
    connected = await httpcore.AnyIOBackend().connect_tcp(host, port, timeout)
    sock = socket.socket(fileno=os.dup(connected.get_extra_info("socket").fileno()))
    await connected.aclose()
    try:
        transport, received = await asyncio.get_running_loop().create_connection(_Received, sock=sock)
    except BaseException:
        sock.close()
        raise
    return Wire(transport, received)


class Wire(httpcore.AsyncNetworkStream):
    """One connection."""

    def __init__(self, transport: asyncio.Transport, received: _Received) -> None:
        self._transport = transport
        self._received = received

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """The next piece, however many bytes were asked for: to cut one would be to copy it."""
        received = self._received
        if not received.there_is() and not await received.more(timeout):
            raise httpcore.ReadTimeout
        data = received.taken()
        if not data and received.fault is not None:
            raise httpcore.ReadError(str(received.fault))
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if not buffer:
            return
        if self._transport.is_closing():
            raise httpcore.WriteError("the connection is closed")
        self._transport.write(buffer)
        if self._received.full and not await self._received.drained(timeout):
            raise httpcore.WriteTimeout
        if self._received.fault is not None:
            raise httpcore.WriteError(str(self._received.fault))

    async def aclose(self) -> None:
        # At once: over TLS there would be a farewell to wait for.
        self._transport.abort()

    async def start_tls(
        self, ssl_context: SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> Wire:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout):
                transport = await loop.start_tls(
                    self._transport, self._received, ssl_context, server_hostname=server_hostname
                )
        except BaseException as error:
            self._transport.abort()
            if isinstance(error, TimeoutError):
                raise httpcore.ConnectTimeout(str(error)) from error
            if isinstance(error, SSLError | OSError):
                raise httpcore.ConnectError(str(error)) from error
            raise
        if transport is None:
            raise httpcore.ConnectError("the connection ended")
        self._received.transport = transport
        return Wire(transport, self._received)

    def lend(self, borrower: asyncio.Protocol) -> None:
        """Its bytes are another's from now on, until they are taken back. Raises `httpcore.RemoteProtocolError` where
        some have come already, be it the end, and closes it."""
        if self._received.there_is() or self._transport.is_closing():
            self._transport.abort()
            raise httpcore.RemoteProtocolError("the other end has spoken first, or gone")
        self._transport.set_protocol(borrower)
        borrower.connection_made(self._transport)

    def take_back(self) -> None:
        self._transport.set_protocol(self._received)

    def get_extra_info(self, info: str) -> Any:
        return self._transport.get_extra_info(info)


class _Received(asyncio.Protocol):
    """What has come and was not read yet, and whether what was written can leave."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.fault: Exception | None = None  # what the connection died of
        self.full = False  # the other end does not read
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._ended = False
        self._stopped = False
        self._waiting: set[asyncio.Future[bool]] = set()

    def there_is(self) -> bool:
        """Something to read, be it the end."""
        return bool(self._pieces) or self._ended

    def taken(self) -> bytes:
        """The next piece, as it came; none at the end."""
        if not self._pieces:
            return b""
        data = self._pieces.popleft()
        self._size -= len(data)
        if self._stopped and self._size < _FULL:
            self._stopped = False
            with contextlib.suppress(RuntimeError):  # it is closing
                self.transport.resume_reading()
        return data

    async def more(self, timeout: float | None) -> bool:
        """Wait until there is something to read; False where there is nothing for so long."""
        return self.there_is() or await self._woken(timeout)

    async def drained(self, timeout: float | None) -> bool:
        """Wait until there is room for more to be written; False where there is none for so long."""
        while self.full and not self._ended:
            if not await self._woken(timeout):
                return False
        return True

    async def _woken(self, timeout: float | None) -> bool:
        loop = asyncio.get_running_loop()
        woken: asyncio.Future[bool] = loop.create_future()
        self._waiting.add(woken)
        timer = None if timeout is None else loop.call_later(timeout, _settled, woken, False)
        try:
            return await woken
        finally:
            self._waiting.discard(woken)
            if timer is not None:
                timer.cancel()

    def _wake(self) -> None:
        for woken in self._waiting:
            _settled(woken, True)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._pieces.append(data)
        self._size += len(data)
        if self._size >= _FULL and not self._stopped:
            self._stopped = True
            self.transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        self._ended = True
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = True
        self.fault = exc
        self._wake()

    def pause_writing(self) -> None:
        self.full = True

    def resume_writing(self) -> None:
        self.full = False
        self._wake()


def _settled(woken: asyncio.Future[bool], result: bool) -> None:
    if not woken.done():
        woken.set_result(result)
