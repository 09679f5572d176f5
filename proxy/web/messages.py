"""Answers as ASGI messages. It writes what it is given and decides nothing about caching."""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from proxy.errors import Error
from proxy.model import Headers
from proxy.rules import directives, verdicts

log = logging.getLogger("proxy")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

ABORT, GONE = "crates-proxy.abort", "crates-proxy.gone"
"""Scope extensions of this server's protocol: to break an answer off, and to ask whether its client has left."""


@dataclass(frozen=True, slots=True)
class Client:
    """One request's way back to its client."""

    scope: Scope
    receive: Receive
    send: Send

    @property
    def head_only(self) -> bool:
        return bool(self.scope["method"] == "HEAD")

    async def whole(self, status: int, headers: Headers, body: bytes) -> None:
        """Send an answer whose body is at hand. To HEAD its length alone is told."""
        if status not in (204, 304) and not any(name == b"content-length" for name, _ in headers):
            headers = (*headers, (b"content-length", b"%d" % len(body)))
        await self.send({"type": "http.response.start", "status": status, "headers": dated(headers)})
        await self.send({"type": "http.response.body", "body": b"" if self.head_only else body})

    async def streamed(self, status: int, headers: Headers, pieces: AsyncGenerator[bytes]) -> None:
        """Send a body as it comes, until its client leaves. Where it fails, the connection is broken off."""
        gone = self.scope["extensions"][GONE]
        await self.send({"type": "http.response.start", "status": status, "headers": dated(headers)})
        try:
            async with contextlib.aclosing(pieces):
                async for piece in pieces:
                    await self.send({"type": "http.response.body", "body": piece, "more_body": True})
                    if gone():
                        return
        except (Error, OSError) as error:
            log.debug("an answer was broken off: %s", error)
            self.scope["extensions"][ABORT]()
            return
        await self.send({"type": "http.response.body", "body": b""})

    async def error(self, error: Error) -> None:
        """Send an error in crates.io's own form, which cargo shows to its user."""
        headers: Headers = (
            (b"content-type", b"application/json"),
            (b"cache-control", b"no-store"),
            (b"access-control-allow-origin", b"*"),
            (b"cache-status", verdicts.refused(error)),
            (b"x-cache", b"MISS"),
        )
        if error.retry_after is not None:
            headers = (*headers, (b"retry-after", b"%d" % error.retry_after))
        if error.status == 405:
            headers = (*headers, (b"allow", b"GET, HEAD"))
        await self.whole(error.status, headers, error_body(error.detail))


def error_body(detail: str) -> bytes:
    return json.dumps({"errors": [{"detail": detail}]}).encode()


def dated(headers: Headers) -> Headers:
    """With a Date, which an origin and a cache have to send (RFC 9110 section 6.6.1)."""
    if any(name == b"date" for name, _ in headers):
        return headers
    return ((b"date", directives.date(int(time.time()))), *headers)
