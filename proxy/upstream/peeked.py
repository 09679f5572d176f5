"""Answers of which the beginning has been read: one that is whole all the same, and one of which that is all."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator

from proxy.errors import UpstreamError
from proxy.model import Head
from proxy.upstream.base import Answer, Wrapper

ENOUGH = 64 * 1024
"""Bytes of a refusal that are looked at; crates.io's have some hundreds."""


WITHIN = 1.0
"""Seconds for a refusal that is put away: it comes with its head, or is not worth the wait."""


class Peeked(Wrapper):
    """`start` is what `peek` could read; what went wrong then goes wrong again for whoever reads on."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer)
        self.start = b""
        self._rest = answer.body()
        self._error: UpstreamError | None = None
        self._head = answer.head

    @property
    def head(self) -> Head:
        return self._head

    async def peek(self) -> None:
        """Read the beginning; all of it where it is short."""
        try:
            async for piece in self._rest:
                self.start += piece
                if len(self.start) >= ENOUGH:
                    return
        except UpstreamError as error:
            self._error = error
        except BaseException:
            await self._answer.aclose()
            raise

    def said(self, name: bytes, value: bytes) -> None:
        """Add a field to the head."""
        self._head = Head(self._head.status, (*self._head.headers, (name, value)), self._head.framed)

    async def body(self) -> AsyncGenerator[bytes]:
        if self.start:
            yield self.start
        if self._error is not None:
            raise self._error
        async with contextlib.aclosing(self._rest) as rest:
            async for piece in rest:
                yield piece


async def put_away(answer: Answer) -> Answer:
    """A refusal without its connection: its head, and what came of its body at once."""
    kept = Peeked(answer)
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WITHIN):
                await kept.peek()
    finally:
        with contextlib.suppress(UpstreamError):
            await kept.aclose()
    return _PutAway(kept.head, kept.start)


class _PutAway:
    def __init__(self, head: Head, start: bytes) -> None:
        self._head = head
        self._start = start

    @property
    def head(self) -> Head:
        return self._head

    async def body(self) -> AsyncGenerator[bytes]:
        yield self._start

    def distrust(self) -> None:
        pass

    async def aclose(self) -> None:
        pass
