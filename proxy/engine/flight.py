"""One load for each key at a time; whoever comes meanwhile gets its result.

A load runs in a task of its own: a client that leaves takes nobody along, and what was begun is finished, since
the next client wants it too. An error is shared with those who wait and not remembered.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")

FIRST_BYTE = 24.0
"""Seconds until a client has the first byte of an answer or of our error: cargo gives up after 30 without any."""
MOMENT = 0.001
"""Seconds that are not worth a timer."""
TURN = 20.0
"""Seconds to wait for another member of the fleet that loads the same; less than FIRST_BYTE, to go on alone then."""


@dataclass(frozen=True, slots=True)
class Meanwhile(Generic[T]):
    """What to be content with when a load takes longer than `after` seconds, whoever began it, or once `doubted` is
    done; None where there is no such thing. `longer`: asked after that time, for how many seconds more the load is
    worth waiting for."""

    after: float
    instead: Callable[[], Awaitable[T | None]]
    doubted: asyncio.Future[str] | None = None
    longer: Callable[[], float] = lambda: 0.0


class Flights(Generic[T]):
    def __init__(self) -> None:
        self._under_way: dict[str, asyncio.Task[T]] = {}
        self._begun: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._under_way)

    def under_way(self, key: str) -> asyncio.Task[T] | None:
        return self._under_way.get(key)

    def start(self, key: str, load: Callable[[], Coroutine[Any, Any, T]]) -> asyncio.Task[T]:
        """The load of this key that is under way, else a new one. Nobody need wait for it."""
        task = self._under_way.get(key)
        if task is None:
            task = self._under_way[key] = asyncio.create_task(load())
            self._begun[key] = asyncio.get_running_loop().time()
            task.add_done_callback(lambda done: self._landed(key, done))
        return task

    async def join(
        self,
        key: str,
        load: Callable[[], Coroutine[Any, Any, T]],
        *,
        patience: float | None = None,
        meanwhile: Meanwhile[T] | None = None,
    ) -> tuple[T, bool]:
        """The result for this key, and whether the load was another's (collapsed).

        Raises what the load raises, and TimeoutError after `patience` seconds. The end of this wait, cancelled or
        not, is not the end of the load.
        """
        loop = asyncio.get_running_loop()
        collapsed = key in self._under_way
        task = self.start(key, load)
        begun = loop.time()
        if meanwhile is not None:
            waited = begun - self._begun.get(key, begun)
            watched: set[asyncio.Future[Any]] = {task} if meanwhile.doubted is None else {task, meanwhile.doubted}
            end = math.inf if patience is None else begun + patience
            after = min(max(0.0, meanwhile.after - waited), end - begun)
            while not (await asyncio.wait(watched, timeout=after, return_when=asyncio.FIRST_COMPLETED))[0]:
                after = min(meanwhile.longer(), end - loop.time())
                if after < MOMENT:
                    break
            other = None if task.done() else await meanwhile.instead()
            if other is not None:
                return other, False
        await asyncio.wait({task}, timeout=None if patience is None else begun + patience - loop.time())
        if not task.done():
            raise TimeoutError
        return task.result(), collapsed

    async def aclose(self, patience: float = 0.0) -> None:
        """Wait `patience` seconds for what is under way, then cancel the rest."""
        tasks = list(self._under_way.values())
        if tasks:
            await asyncio.wait(tasks, timeout=patience)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _landed(self, key: str, task: asyncio.Task[T]) -> None:
        del self._under_way[key], self._begun[key]
        if not task.cancelled():
            task.exception()  # seen: an error that nobody waited for is no news to asyncio
