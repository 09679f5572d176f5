"""What a connection to upstream carries beside the answer that was asked for: interim answers before it, and bytes
behind its end. The only module that knows the insides of httpx and httpcore; it decides nothing.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from ssl import SSLContext
from typing import Any

import httpcore
import httpx

from proxy.model import Headers
from proxy.upstream.base import Interim
from proxy.upstream.wire import Backend

_MOST = 16
"""Interim answers of one exchange that are told; a flood of them is nobody's early hint."""
_LONGEST = 32 * 1024
"""Bytes of interim answers that are listened to; httpcore itself ends the exchange a little later."""

_BEGINNING = b"HTTP/1.1 1"
_INTERIM = re.compile(rb"HTTP/1\.1 (1[0-9]{2})(?: [^\r\n]*)?\r\n((?:[^\r\n]+\r\n)*)\r\n")
_FIELD = re.compile(rb"^([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([\t\x20-\x7e\x80-\xff]*?)[ \t]*\r$", re.MULTILINE)
_OF_THE_HOP = (100, 101)  # the one answers an Expect, the other an Upgrade; this proxy sends neither

_listener: ContextVar[Interim | None] = ContextVar("_listener", default=None)


@contextlib.contextmanager
def listening(interim: Interim | None) -> Iterator[None]:
    """While this lasts, interim answers to what this task sends are told, where the transport is overheard."""
    token = _listener.set(interim)
    try:
        yield
    finally:
        _listener.reset(token)


def wired(transport: httpx.AsyncHTTPTransport, *, overheard: bool) -> httpx.AsyncHTTPTransport:
    """The transport over `wire`. `overheard`: with interim answers (RFC 9110 section 15.2) no longer unheard, which
    httpcore drops."""
    pool: Any = transport._pool
    pool._network_backend = _Backend(Backend()) if overheard else Backend()
    return transport


def unshared(stream: Any) -> None:
    """See to it that a connection on which more has come than its answer is closed with it.

    Nobody has asked for these bytes, and they would be taken for the answer to whatever is asked next. To be called
    with the body's stream, before that is closed. What comes later is found by httpcore itself, which says of an idle
    connection that has something to read that it has expired.
    """
    with contextlib.suppress(AttributeError):  # over HTTP/2 each answer has a stream of its own
        state = stream._connection._h11_state
        if state.trailing_data[0]:
            state.send_failed()  # h11: this state is never left, so that httpcore closes the connection


class _Backend(httpcore.AsyncNetworkBackend):
    def __init__(self, inner: httpcore.AsyncNetworkBackend) -> None:
        self._inner = inner

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        return _Stream(await self._inner.connect_tcp(host, port, timeout, local_address, socket_options))

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)


class _Stream(httpcore.AsyncNetworkStream):
    """Passes every byte on as it is, and reads along from a request to the head of the final answer."""

    def __init__(self, inner: httpcore.AsyncNetworkStream) -> None:
        self._inner = inner
        self._heard: bytearray | None = None  # what of the answer has been heard, None: it does not matter any more
        self._told = 0

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data = await self._inner.read(max_bytes, timeout)
        if self._heard is not None:
            self._heard += data
            self._listen(self._heard)
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if self._heard is None and _listener.get() is not None:
            self._heard, self._told = bytearray(), 0
        await self._inner.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def start_tls(
        self, ssl_context: SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        return _Stream(await self._inner.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)

    def _listen(self, heard: bytearray) -> None:
        listener = _listener.get()
        while listener is not None and self._told < _MOST and (match := _INTERIM.match(heard)):
            status, fields = int(match[1]), _fields(match[2])
            del heard[: match.end()]
            self._told += 1
            if status not in _OF_THE_HOP:
                listener(status, fields)
        if len(heard) > _LONGEST or heard[: len(_BEGINNING)] != _BEGINNING[: len(heard)]:
            self._heard = None


def _fields(block: bytes) -> Headers:
    return tuple((name.lower(), value) for name, value in _FIELD.findall(block))
