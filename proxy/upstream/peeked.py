"""An answer of which the beginning has been read, and that is whole all the same."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator

from proxy.errors import UpstreamError
from proxy.model import Head
from proxy.upstream.base import Answer

ENOUGH = 64 * 1024
"""Bytes of a refusal that are looked at; crates.io's have some hundreds."""


class Peeked:
    """`start` is what `peek` could read; what went wrong then goes wrong again for whoever reads on."""

    def __init__(self, answer: Answer) -> None:
        self.start = b""
        self._answer = answer
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

    async def aclose(self) -> None:
        await self._answer.aclose()
