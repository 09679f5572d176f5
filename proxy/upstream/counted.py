"""Counts what goes to upstream's hosts and what comes from them. A wrapper with the shape of what it wraps.

It goes next to the connections, below whatever limits or guards: what never left is not counted.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncGenerator, Callable
from typing import Protocol

from proxy.errors import Busy, Error, Offline
from proxy.model import Host
from proxy.upstream.base import Answer, Ask, Upstream, Wrapper


class Counts(Protocol):
    def asked(self, host: Host, endpoint: str, status: int | None, seconds: float) -> None:
        """A request was sent; upstream began to answer with `status`, or did not (None), after `seconds`."""
        ...

    def fetched(self, endpoint: str, size: int) -> None:
        """So many bytes of a body came."""
        ...


class CountedUpstream:
    def __init__(self, inner: Upstream, counts: Counts, clock: Callable[[], float] = time.perf_counter) -> None:
        self._inner = inner
        self._counts = counts
        self._clock = clock

    async def send(self, ask: Ask) -> Answer:
        begun = self._clock()
        try:
            answer = await self._inner.send(ask)
        except (Busy, Offline):
            raise  # nothing was sent
        except Error:
            self._counts.asked(ask.host, ask.endpoint, None, self._clock() - begun)
            raise
        self._counts.asked(ask.host, ask.endpoint, answer.head.status, self._clock() - begun)
        return _Counted(answer, ask.endpoint, self._counts)

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Counted(Wrapper):
    def __init__(self, answer: Answer, endpoint: str, counts: Counts) -> None:
        super().__init__(answer)
        self._endpoint = endpoint
        self._counts = counts

    async def body(self) -> AsyncGenerator[bytes]:
        async with contextlib.aclosing(self._answer.body()) as pieces:
            async for piece in pieces:
                self._counts.fetched(self._endpoint, len(piece))
                yield piece
