"""The faults of Redis: it is gone, hangs, is another, is full, or answers with what was not asked for."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import redis.asyncio

from tests.redis_server import RedisServer
from tests.soak.between import Between
from tests.soak.plan import Kind
from tests.soak.windows import JSON, Windows

AFTER = 8.0
"""Seconds after the end of a fault in which nothing may be there yet: the breaker rests for five."""


class Shared:
    """Two servers, of which the one at hand is led to; the other one is there to take its place, empty."""

    def __init__(
        self,
        servers: tuple[RedisServer, RedisServer],
        between: Between,
        windows: Windows,
        dice: random.Random,
        came: Counter[Kind],
    ) -> None:
        self._server, self._other = servers
        self._between = between
        self._windows = windows
        self._dice = dice
        self._came = came

    async def befall(self, kind: Kind) -> None:
        # Index files and tarballs are on the disk as well, and must not suffer.
        does: dict[Kind, Callable[[], Coroutine[Any, Any, int]]] = {
            Kind.REDIS_REFUSED: self._refused,
            Kind.REDIS_HUNG: self._hung,
            Kind.REDIS_KILLED: self._killed,
            Kind.REDIS_FAILED_OVER: self._failed_over,
            Kind.REDIS_FULL: self._full,
            Kind.REDIS_WRONG: self._wrong,
        }
        with self._windows.disturbed(kind.value, JSON, after=AFTER):
            self._came[kind] += await does[kind]()

    async def _pause(self) -> None:
        await asyncio.sleep(self._dice.uniform(0.3, 2.0))

    async def _refused(self) -> int:
        await self._between.refuse()
        await self._pause()
        await self._between.open()
        return 1

    async def _hung(self) -> int:
        self._server.hang()
        await self._pause()
        self._server.resume()
        return 1

    async def _killed(self) -> int:
        self._server.kill()
        await self._pause()
        await asyncio.to_thread(self._server.start)
        return 1

    async def _failed_over(self) -> int:
        """The old one lives on for a moment with those who are connected; half the time it knows that it is none."""
        old, new = self._server, self._other
        await asyncio.to_thread(new.start)
        self._between.target = new.socket
        if self._dice.random() < 0.5:
            await asyncio.to_thread(old.demote)
        await self._pause()
        self._between.cut()
        await asyncio.to_thread(old.kill)
        self._server, self._other = new, old
        return 1

    async def _full(self) -> int:
        client = redis.asyncio.Redis(unix_socket_path=str(self._server.socket))
        try:
            await client.config_set("maxmemory-policy", "noeviction")
            await client.config_set("maxmemory", "1mb")
            await self._pause()
            await client.config_set("maxmemory", "0")
        finally:
            await client.aclose()
        return 1

    async def _wrong(self) -> int:
        """It counts where at least one answer was another's."""
        before = self._between.mixed
        self._between.mixing = True
        await self._pause()
        self._between.mixing = False
        return int(self._between.mixed > before)
