"""One connection of HTTP/2 to a host, which takes many requests at a time: httpcore's."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import AsyncIterator
from typing import Any

import httpcore
import httpx

from proxy.upstream.exchange import Sending
from proxy.upstream.wire import Wire

_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


class Multiplex:
    """A `Connection`. `idle`: seconds that it may be without a request."""

    many = True

    def __init__(self, wire: Wire, origin: httpx.URL, idle: float) -> None:
        self.served = False
        self._origin = httpcore.Origin(origin.raw_scheme, origin.raw_host, origin.port or 443)
        self._connection = httpcore.AsyncHTTP2Connection(self._origin, wire, keepalive_expiry=idle)

    def usable(self) -> bool:
        return self._connection.is_available() and not self._connection.has_expired()

    async def ask(self, sending: Sending) -> Stream:
        scheme, host, port = self._origin.scheme, self._origin.host, self._origin.port
        request = httpcore.Request(
            sending.method,
            httpcore.URL(scheme=scheme, host=host, port=port, target=sending.target),
            headers=list(sending.fields),
            content=sending.body,
            extensions={"timeout": {"read": sending.patience, "write": sending.patience}},
        )
        # Where others are answered over the same connection, httpcore would wait on with them.
        async with asyncio.timeout_at(None if sending.until == math.inf else sending.until):
            stream = Stream(await self._connection.handle_async_request(request), sending.patience)
        if not stream.sound():
            await stream.aclose()
            raise httpcore.RemoteProtocolError("a head that HTTP does not have")
        self.served = True
        return stream

    def rest(self) -> bool:
        return self.usable() or not self._connection.is_idle()

    async def aclose(self) -> None:
        await self._connection.aclose()


class Stream:
    """A `Heard`. Where its body ends is always said (RFC 9113 section 8.1)."""

    framed = True

    def __init__(self, answer: httpcore.Response, patience: float) -> None:
        self.status = answer.status
        self.fields = tuple((name.lower(), value) for name, value in answer.headers)
        content: Any = answer.stream  # httpcore tells neither that it is asynchronous nor how it is closed
        self._content = content
        self._pieces: AsyncIterator[bytes] = aiter(content)
        self._patience = patience

    def sound(self) -> bool:
        """Whether its head is one of HTTP; httpcore lets more pass, even line breaks in a field."""
        names = {name for name, _ in self.fields}
        return (
            200 <= self.status <= 599
            and not {b"content-length", b"transfer-encoding"} <= names
            and not any(_CONTROL.search(value) for _, value in self.fields)
        )

    async def piece(self) -> bytes:
        async with asyncio.timeout(self._patience):
            while True:
                piece: bytes | None = await anext(self._pieces, None)
                if piece is None:
                    return b""
                if piece:
                    return piece

    async def aclose(self) -> None:
        await self._content.aclose()
