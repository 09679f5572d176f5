"""Reads of one tick of the event loop, made as one: one way to a thread and back, one request to a server.

It knows keys and who waits for which, and no medium. For one event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

V = TypeVar("V")

MOST = 64
"""Keys of one read: a crowd's are several, so that they can be made side by side, and none holds its medium long."""


class Gathered(Generic[V]):
    """`read` takes keys, any of them perhaps twice, and gives the value of each. What it raises all who wait for it
    are told."""

    def __init__(self, read: Callable[[Sequence[str]], Awaitable[Sequence[V]]]) -> None:
        self._read = read
        self._waiting: list[tuple[str, asyncio.Future[V]]] = []
        self._under_way: set[asyncio.Task[None]] = set()

    async def get(self, key: str) -> V:
        """Who is cancelled disturbs nobody who has asked with him."""
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._go)
        wanted: asyncio.Future[V] = loop.create_future()
        self._waiting.append((key, wanted))
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

    async def _made(self, gathered: Sequence[tuple[str, asyncio.Future[V]]]) -> None:
        try:
            values = await self._read([key for key, _ in gathered])
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
