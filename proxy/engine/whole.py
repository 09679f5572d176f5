"""The body of an upstream answer, read for the store: whole, or found too large and passed on as it is."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator

from proxy.errors import Late
from proxy.model import Head
from proxy.upstream.base import Answer

LARGEST = 4 * 1024 * 1024
"""Bytes of an answer that is stored; a larger one passes."""
LONGEST = 300.0
"""Seconds for the body of an answer that is read whole: one that drips without end would keep its key, and its
connection, for ever. That is 7 KB a second for the largest index file."""


async def whole(answer: Answer) -> bytes | Answer:
    """The body, with the answer closed; where it is too large to be stored, the answer as it was, open. Raises what
    its `body` raises, and `Late` where that does not come to its end in time."""
    pieces: list[bytes] = []
    size, body = 0, answer.body()
    try:
        async with asyncio.timeout(LONGEST):
            async for piece in body:
                pieces.append(piece)
                size += len(piece)
                if size > LARGEST:
                    return _Begun(answer, pieces, body)
    except TimeoutError:
        await answer.aclose()
        raise Late(f"an answer of crates.io's did not come to its end within {LONGEST:.0f} s; try again") from None
    except BaseException:
        await answer.aclose()
        raise
    await answer.aclose()
    return b"".join(pieces)


class _Begun:
    """An answer of which some has been read: the whole of it, all the same."""

    def __init__(self, answer: Answer, pieces: list[bytes], rest: AsyncGenerator[bytes]) -> None:
        self._answer = answer
        self._pieces = pieces
        self._rest = rest

    @property
    def head(self) -> Head:
        return self._answer.head

    async def body(self) -> AsyncGenerator[bytes]:
        async with contextlib.aclosing(self._rest) as rest:
            for piece in self._pieces:
                yield piece
            async for piece in rest:
                yield piece

    def distrust(self) -> None:
        self._answer.distrust()

    async def aclose(self) -> None:
        await self._answer.aclose()
