"""Leases over Redis: a key that expires, with a token that says whose it is, renewed while the lease is held.

Whoever waits is woken by a message on the fleet's channel. For a holder that died there is none: then the key's
own expiry is waited for. A holder that Redis took for dead has lost its lease; what it stores late does no harm.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from proxy.fleet.base import Lease
from proxy.fleet.messages import Message, line

EXPIRY = 3.0
"""Seconds for which a holder that was killed holds the others up. It is renewed three times in that time."""
BOUND = 1.0
"""Seconds that Redis may take in the end to hear that leases are over."""
MARGIN = 0.02
"""Seconds after the expiry: Redis rounds to milliseconds, and so do timers."""

# KEYS: the lease. ARGV: token, milliseconds. 0: it is ours now; else the milliseconds after which to look again.
TAKE = """
if redis.call('set', KEYS[1], ARGV[1], 'nx', 'px', ARGV[2]) then return 0 end
return math.max(1, redis.call('pttl', KEYS[1]))
"""
# KEYS: the lease. ARGV: token, milliseconds.
RENEW = """
if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('pexpire', KEYS[1], ARGV[2]) end
return 0
"""
# KEYS: the lease. ARGV: token, channel, message.
RELEASE = """
if redis.call('get', KEYS[1]) == ARGV[1] then
  redis.call('del', KEYS[1])
  redis.call('publish', ARGV[2], ARGV[3])
end
return 0
"""


@dataclass(eq=False)
class _Turn:
    """A lease held or waited for."""

    key: str
    token: str = field(default_factory=lambda: uuid.uuid4().hex)
    alone: bool = False  # of other replicas this one does not know
    stored: bool = False
    over: bool = False  # another's `done` has been heard
    woken: asyncio.Event = field(default_factory=asyncio.Event)

    def done(self) -> None:
        self.stored = True

    def tell(self, word: str) -> None:
        pass


class RedisLeases:
    def __init__(self, client: Redis, prefix: str, channel: str, reachable: Callable[[], bool]) -> None:
        self._client = client
        self._prefix = prefix + "lease:"
        self._channel = channel
        self._reachable = reachable
        self._waiting: dict[str, set[_Turn]] = {}
        self._background: set[asyncio.Task[None]] = set()

    def heard(self, message: Message) -> None:
        match message:
            case {"kind": "released", "key": str() as key, "done": bool() as done}:
                for turn in self._waiting.get(key, ()):
                    turn.over = done
                    turn.woken.set()

    def wake(self) -> None:
        """Messages may have been missed: all who wait look for themselves."""
        for turns in self._waiting.values():
            for turn in turns:
                turn.woken.set()

    @contextlib.asynccontextmanager
    async def lease(self, key: str, patience: float) -> AsyncIterator[Lease]:
        turn = _Turn(hashlib.sha256(key.encode()).hexdigest())
        renewal: asyncio.Task[None] | None = None
        asked = self._reachable()
        try:
            if asked and await self._wait(turn, patience):
                renewal = self._started(self._renew(turn))
            yield turn
        finally:
            if renewal is not None:
                renewal.cancel()
            if asked:
                self._started(self._release(turn))  # nobody's answer waits for it

    async def aclose(self) -> None:
        if self._background:
            _, late = await asyncio.wait(self._background, timeout=BOUND)
            for task in late:
                task.cancel()

    async def _wait(self, turn: _Turn, patience: float) -> bool:
        """Whether it is held in the end."""
        loop = asyncio.get_running_loop()
        end = loop.time() + patience
        self._waiting.setdefault(turn.key, set()).add(turn)
        try:
            while self._reachable():
                turn.woken.clear()
                left = await self._taken(turn)
                if left is None or left == 0:
                    return left == 0
                try:
                    async with asyncio.timeout_at(min(end, loop.time() + left + MARGIN)):
                        await turn.woken.wait()
                except TimeoutError:
                    if loop.time() >= end:
                        return False
                if turn.over:
                    return False
            return False
        finally:
            self._waiting[turn.key].discard(turn)
            if not self._waiting[turn.key]:
                del self._waiting[turn.key]

    async def _taken(self, turn: _Turn) -> float | None:
        """0 where the lease is ours now, else for how many seconds it will be another's; None if Redis fails."""
        try:
            left = await self._run(TAKE, turn, turn.token, int(EXPIRY * 1000))
        except (RedisError, OSError):
            return None
        return left / 1000

    async def _renew(self, turn: _Turn) -> None:
        held = 1
        while held:
            await asyncio.sleep(EXPIRY / 3)
            with contextlib.suppress(RedisError, OSError):
                held = await self._run(RENEW, turn, turn.token, int(EXPIRY * 1000))

    async def _release(self, turn: _Turn) -> None:
        """Also of what was waited for in vain: the request for it may have arrived after all."""
        message = line("released", key=turn.key, done=turn.stored)
        with contextlib.suppress(RedisError, OSError):
            await self._run(RELEASE, turn, turn.token, self._channel, message)

    async def _run(self, script: str, turn: _Turn, *values: str | int | bytes) -> int:
        return await cast(Awaitable[int], self._client.eval(script, 1, self._prefix + turn.key, *values))

    def _started(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task
