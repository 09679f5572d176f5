"""The body of an upstream answer, read to its end: what is too large passes on as it is, or is a fault."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator

from proxy.errors import Faulty
from proxy.upstream.base import Answer, Wrapper

LARGEST = 4 * 1024 * 1024
"""Bytes of an answer that is stored; a larger one passes."""


async def whole(answer: Answer) -> bytes | Answer:
    """The body, with the answer closed; where it is too large to be stored, the answer as it was, open."""
    pieces: list[bytes] = []
    size, body = 0, answer.body()
    try:
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
    """The body, with the answer left open; `Faulty` where it has more than so many bytes. `what` it is, for people."""
    pieces, size = [], 0
    async for piece in answer.body():
        pieces.append(piece)
        size += len(piece)
        if size > largest:
            raise Faulty(f"{what} is larger than {largest} bytes")
    return b"".join(pieces)


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
