"""Answers as ASGI messages. It writes what it is given and decides nothing about caching."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
from typing import Any

from proxy.errors import ClientGone, Error
from proxy.model import Headers
from proxy.rules import directives, routes
from proxy.rules import headers as headers_
from proxy.stores.base import Bytes
from proxy.web.edge import SEEN, Seen

log = logging.getLogger("proxy")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

ABORT, GONE, INTERIM = "crates-proxy.abort", "crates-proxy.gone", "crates-proxy.interim"
"""Scope extensions of this server's protocol: to break an answer off, to ask whether its client has left, and to
tell it something before the answer."""


TURN = 1024 * 1024
"""Bytes of a body that are sent in one turn of the loop: a third of a millisecond."""


class Client:
    """One request's way back to its client."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.started = False
        self.seen: Seen = scope.get(SEEN) or Seen()
        self._receive = receive
        self._send = send

    @property
    def head_only(self) -> bool:
        return bool(self.scope["method"] == "HEAD")

    @property
    def plain(self) -> bool:
        """Whether what is sent goes to the kernel as it is."""
        return bool(self.scope["scheme"] == "http")

    async def body(self) -> AsyncGenerator[bytes]:
        """What the client sends, as it comes. Raises `ClientGone` where it breaks off."""
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone("the client broke off while it was sending")
            if message.get("body"):
                yield message["body"]
            if not message.get("more_body"):
                return

    async def whole(self, status: int, headers: Headers, body: bytes) -> None:
        """Send an answer whose body is at hand. To HEAD its length alone is told."""
        await self._start(status, measured(headers, body))
        self.seen.size += 0 if self.head_only else len(body)
        await self._send({"type": "http.response.body", "body": b"" if self.head_only else body})

    async def streamed(self, status: int, headers: Headers, pieces: AsyncGenerator[Bytes | memoryview]) -> None:
        """Send a body as it comes, until its client leaves. Where it fails, the connection is broken off."""
        gone = self.scope["extensions"][GONE]
        await self._start(status, headers)
        try:
            async with contextlib.aclosing(pieces):
                sent = 0
                async for piece in pieces:
                    self.seen.size += len(piece)
                    await self._send({"type": "http.response.body", "body": piece, "more_body": True})
                    if gone():
                        return
                    sent += len(piece)
                    if sent >= TURN:  # as long as the client keeps up, nothing else here lets others have one
                        sent = 0
                        await asyncio.sleep(0)
        except (Error, OSError) as error:
            log.debug("an answer was broken off: %s", error)
            self.abort()
            return
        await self._send({"type": "http.response.body", "body": b""})

    def interim(self, status: int, headers: Headers) -> None:
        """Send an interim answer (RFC 9110 section 15.2), while there is none yet."""
        self.scope["extensions"][INTERIM](status, headers)

    async def error(self, error: Error, cache_status: bytes, verdict: bytes = b"MISS") -> None:
        """Send an error in crates.io's own form, which cargo shows to its user."""
        self.seen.error = error.with_traceback(None)  # or both would stay, by its frames, until the collector comes by
        headers: Headers = (
            (b"content-type", b"application/json"),
            (b"cache-control", b"no-store"),
            (b"access-control-allow-origin", b"*"),
            (b"cache-status", cache_status),
            (b"x-cache", verdict),
        )
        if error.retry_after is not None:
            headers = (*headers, (b"retry-after", b"%d" % error.retry_after))
        if error.status == 405:
            changes = routes.PASSED if self.seen.path.startswith("/api/") else ()
            headers = (*headers, (b"allow", ", ".join(("GET", "HEAD", *sorted(changes))).encode("ascii")))
        await self.whole(error.status, headers, error_body(error.detail))

    def abort(self) -> None:
        """Break the answer off: what has been sent of it stands, and the client sees that it is not the whole."""
        self.scope["extensions"][ABORT]()

    async def _start(self, status: int, headers: Headers) -> None:
        self.started = True
        self.seen.status = status
        await self._send({"type": "http.response.start", "status": status, "headers": sent(status, headers)})


def error_body(detail: str) -> bytes:
    return json.dumps({"errors": [{"detail": detail}]}).encode()


def measured(headers: Headers, body: bytes) -> Headers:
    """With the length of a body that is at hand."""
    if headers_.value(headers, b"content-length") is not None:
        return headers
    return (*headers, (b"content-length", b"%d" % len(body)))


def sent(status: int, headers: Headers) -> Headers:
    """The fields as they leave."""
    if status in (204, 304):  # they have no body, whatever length upstream gave (RFC 9110 section 8.6)
        headers = tuple(item for item in headers if item[0] != b"content-length")
    return _dated(headers)


def _dated(headers: Headers) -> Headers:
    """With a Date, which an origin and a cache have to send (RFC 9110 section 6.6.1)."""
    if headers_.value(headers, b"date") is not None:
        return headers
    return ((b"date", directives.date(int(time.time()))), *headers)
