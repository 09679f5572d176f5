"""What is asked of a store in one tick of the event loop, done as one: one way to a thread and back, one request to a
server, one transaction.

It knows who waits for what, and no medium. For one event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")

MOST = 64
"""Asked for together: a crowd's are several, so that they can be done side by side, and none holds its medium long."""


class Gathered(Generic[K, V]):
    """`do` takes what is asked for, such as keys, any of them perhaps twice, and gives what comes of each. What it
    raises all who wait for it are told."""

    def __init__(self, do: Callable[[Sequence[K]], Awaitable[Sequence[V]]]) -> None:
        self._do = do
        self._waiting: list[tuple[K, asyncio.Future[V]]] = []
        self._under_way: set[asyncio.Task[None]] = set()

    async def get(self, asked: K) -> V:
        """Who is cancelled disturbs nobody who has asked with him."""
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._go)
        wanted: asyncio.Future[V] = loop.create_future()
        self._waiting.append((asked, wanted))
        return await wanted

    async def settled(self) -> None:
        """Wait for what is under way."""
        while self._waiting or self._under_way:
            await (asyncio.wait(self._under_way) if self._under_way else asyncio.sleep(0))

    def _go(self) -> None:
        gathered, self._waiting = self._waiting, []
        for start in range(0, len(gathered), MOST):
            task = asyncio.create_task(self._made(gathered[start : start + MOST]))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    async def _made(self, gathered: Sequence[tuple[K, asyncio.Future[V]]]) -> None:
        try:
            values = await self._do([asked for asked, _ in gathered])
        except BaseException as error:
            for _, wanted in gathered:
                if not wanted.done():
                    wanted.cancel() if isinstance(error, asyncio.CancelledError) else wanted.set_exception(error)
            if not isinstance(error, Exception):
                raise
            return
        for (_, wanted), value in zip(gathered, values, strict=True):
            if not wanted.done():
                wanted.set_result(value)
