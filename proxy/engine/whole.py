"""The body of an upstream answer, read to its end: what is too large passes on as it is, or is a fault."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator

from proxy.errors import Faulty, Late
from proxy.upstream.base import Answer, Wrapper

LARGEST = 4 * 1024 * 1024
"""Bytes of an answer that is stored; a larger one passes."""
LONGEST = 300.0
"""Seconds for the body of an answer that is read whole: one that drips without end would keep its key, and its
connection, for ever. A page of 20 MB, which is 2 MB in gzip, may come at 7 KB a second."""


async def whole(answer: Answer) -> bytes | Answer:
    """The body, with the answer closed; where it is too large to be stored, the answer as it was, open. Raises what
    its `body` raises, and `Late` where that does not come to its end in time."""
    pieces: list[bytes] = []
    size, body = 0, answer.body()
    try:
        async with _in_time("an answer of crates.io's"):
            async for piece in body:
                pieces.append(piece)
                size += len(piece)
                if size > LARGEST:
                    return _Begun(answer, pieces, body)
    except BaseException:
        await answer.aclose()
        raise
    await answer.aclose()
    return b"".join(pieces)


async def bounded(answer: Answer, largest: int, what: str) -> bytes:
    """The body, with the answer left open; `Faulty` where it has more than so many bytes, `Late` as for `whole`. `what`
    it is, for people."""
    pieces, size = [], 0
    async with _in_time(what):
        async for piece in answer.body():
            pieces.append(piece)
            size += len(piece)
            if size > largest:
                raise Faulty(f"{what} is larger than {largest} bytes")
    return b"".join(pieces)


@contextlib.asynccontextmanager
async def _in_time(what: str) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(LONGEST) as bound:
            yield
    except TimeoutError:
        if not bound.expired():
            raise
        raise Late(f"{what} did not come to its end within {LONGEST:.0f} s; try again") from None


class _Begun(Wrapper):
    """An answer of which some has been read: the whole of it, all the same."""

    def __init__(self, answer: Answer, pieces: list[bytes], rest: AsyncGenerator[bytes]) -> None:
        super().__init__(answer)
        self._pieces = pieces
        self._rest = rest

    async def body(self) -> AsyncGenerator[bytes]:
        async with contextlib.aclosing(self._rest) as rest:
            for piece in self._pieces:
                yield piece
            async for piece in rest:
                yield piece
