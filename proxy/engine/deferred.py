"""Makes good on reads that were put off: what got a copy because the API might not be asked is fetched when it may.

It keeps who is to be served, in what order and how often. It refuses to know what a fetch is, or the budget: that
tells, through what `refresh` returns, when there may be something to spare. Each worker has its own, one of them for
what is only not as new as it ought to be; where two want the same, the lease of the flight makes one fetch of it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import replace

from proxy.lasting import lasting
from proxy.model import Host
from proxy.rules.keys import Read

MOST = 10_000
"""Reads that are kept in mind, about half a kilobyte each: in three hours the API lets one address have as many."""


class Deferred:
    """`refresh`: fetch one where that costs nobody anything; 0, or the seconds after which it is worth another attempt.
    `held`: seconds for which the API must be left alone, 0 for none.

    `pace`: seconds from one to the next, where there is no hurry: then each keeps its place however often it is wanted,
    so that all have their turn though there are always more than can be fetched."""

    def __init__(
        self,
        *,
        refresh: Callable[[Read], Awaitable[float]],
        held: Callable[[], float],
        clock: Callable[[], float],
        most: int = MOST,
        pace: float = 0.0,
    ) -> None:
        self._refresh = refresh
        self._held = held
        self._clock = clock
        self._most = most
        self._pace = pace
        self._wanted: OrderedDict[str, Read] = OrderedDict()  # by key; whose last demand is the longest ago first
        self._tried: OrderedDict[str, float] = OrderedDict()  # by key: when at last, the longest ago first
        self._trying = ""
        self._something = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._wanted)

    def note(self, read: Read) -> None:
        """Somebody wanted it and was put off. Of too many the one that nobody has wanted for longest is forgotten.

        What was tried within its ttl is not noted again, so that what cannot be had is not asked for in a circle.
        """
        if read.endpoint.host is not Host.API or read.key == self._trying or self._rests(read):
            return
        self._wanted[read.key] = replace(read, no_cache=False, only_if_cached=False)
        if not self._pace:
            self._wanted.move_to_end(read.key)
        if len(self._wanted) > self._most:
            self._wanted.popitem(last=False)
        self._something.set()

    def start(self) -> None:
        self._task = asyncio.create_task(lasting("what was put off", self._run))

    async def aclose(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        """For ever, one at a time: it is in no hurry, and the budget is about one a second."""
        while True:
            await self._something.wait()
            pause = self._held() or await self._first()
            if pause > 0:
                await asyncio.sleep(pause)
            if not self._wanted:
                self._something.clear()

    async def _first(self) -> float:
        """Try the first one; it keeps its place where it could not be sent, and the seconds until it may are told."""
        key, read = next(iter(self._wanted.items()))
        self._trying = key
        try:
            pause = await self._refresh(read)
        finally:
            self._trying = ""
        if pause > 0:
            return pause
        self._wanted.pop(key, None)
        self._tried[key] = self._clock()
        self._tried.move_to_end(key)
        if len(self._tried) > self._most:
            self._tried.popitem(last=False)
        return self._pace

    def _rests(self, read: Read) -> bool:
        tried = self._tried.get(read.key)
        return tried is not None and 0.0 <= self._clock() - tried < (read.policy.ttl or 0.0)
