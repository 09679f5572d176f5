"""The budget of replicas that share one Redis: it decides, in one script and by its own clock.

While it cannot be reached each machine goes on with its own part of the budget: one of as many as there were machines
when it was last reached. What each spends then has no burst, so that all of them together stay within the limits.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import os
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from proxy.fleet.base import Hold, Standing, Turn
from proxy.fleet.bookings import Bookings
from proxy.fleet.messages import Message, understood
from proxy.fleet.redis_scripts import BOOK, GIVE_BACK, HOLD, STANDING
from proxy.fleet.treasurer import hold_of, of_hold
from proxy.model import Host
from proxy.rules.bucket import FURTHEST, LEFT, Limits, Refused, Urgency

AT_ONCE = 8
"""Commands under way: a crowd waits for its turn here, in order, rather than for a connection."""
BOUND = 1.0
"""Seconds that Redis may take in the end to hear what is still to be said."""
ALONE = "Redis cannot be reached: each machine takes its own part of the budget"
_FAULTS = (RedisError, OSError)


def machine(directory: Path) -> str:
    """The same for all processes of this machine that share `cache.dir`, and for no others."""
    place = f"{uuid.getnode()} {os.path.realpath(directory)}"
    return hashlib.sha256(place.encode()).hexdigest()[:16]


class RedisBudget:
    """A `Budget`. `apart` is the machine's own, for when Redis cannot be reached."""

    def __init__(
        self,
        client: Redis,
        prefix: str,
        channel: str,
        reachable: Callable[[], bool],
        limits: Limits,
        apart: Bookings,
        name: str,
    ) -> None:
        self._client = client
        self._keys = [f"{prefix}budget", f"{prefix}budget:times", f"{prefix}budget:machines"]
        self._holds = {host: f"{prefix}hold:{host}" for host in Host}
        self._channel = channel
        self._reachable = reachable
        self._limits = limits
        self._apart = apart
        self._machine = name
        self._machines = 1
        self._me = uuid.uuid4().hex
        self._numbers = itertools.count()
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._background: set[asyncio.Task[None]] = set()

    async def book(self, urgency: Urgency) -> Turn | Refused:
        if self._reachable():
            with contextlib.suppress(*_FAULTS):
                return await self._booked(urgency)
        return await self._apart.book(urgency, parts=self._machines)

    def spend(self) -> None:
        self._started(self._spent())

    def hold(self, host: Host, hold: Hold) -> None:
        self._apart.hold(host, hold)
        self._started(self._written(host, hold))

    def held(self, host: Host) -> Hold | None:
        return self._apart.held(host)

    async def standing(self) -> Standing:
        apart = await self._apart.standing()
        if self._reachable():
            with contextlib.suppress(*_FAULTS):
                free, recent = await self._run(STANDING, self._keys[:2], *self._arguments())
                return Standing(0 if Host.API in apart.holds else int(free), int(recent), apart.holds)
        return replace(apart, alone=ALONE)

    def heard(self, message: Message) -> None:
        """What is said on the fleet's channel."""
        found = hold_of(message) if message.get("kind") == "held" else None
        if found is not None:
            self._apart.hold(*found)

    async def begun(self) -> None:
        """Redis is there, perhaps again: what is held by now?"""
        with contextlib.suppress(*_FAULTS):
            for host, key in self._holds.items():
                async with self._turns:
                    value, left = await self._client.get(key), await self._client.pttl(key)
                found = hold_of(understood(value)) if isinstance(value, bytes) else None
                if found is not None and left > 0:
                    self._apart.hold(host, replace(found[1], seconds=left / 1000))

    async def aclose(self) -> None:
        if self._background:
            _, late = await asyncio.wait(self._background, timeout=BOUND)
            for task in late:
                task.cancel()

    async def _booked(self, urgency: Urgency) -> Turn | Refused:
        number = f"{self._me}:{next(self._numbers)}"
        share = LEFT.get(urgency, "")
        more = (urgency.value, share, int(FURTHEST * 1e6), number, self._machine)
        keys = [*self._keys, self._holds[Host.API]]
        granted, microseconds, machines = await self._run(BOOK, keys, *self._arguments(), *more)
        self._machines = max(1, int(machines))
        seconds = int(microseconds) / 1e6
        if not granted:
            return Refused(seconds)
        return Turn(seconds, partial(self._given_back, number))

    def _given_back(self, number: str) -> None:
        self._started(self._quietly(self._run(GIVE_BACK, self._keys[:2], number, self._limits.spacing * 1e6)))

    async def _spent(self) -> None:
        if self._reachable():
            with contextlib.suppress(*_FAULTS):
                await self._booked(Urgency.CALLER)
                return
        self._apart.spend()

    async def _written(self, host: Host, hold: Hold) -> None:
        message = of_hold("held", host, hold)
        milliseconds = max(1, int(hold.seconds * 1000))
        await self._quietly(self._run(HOLD, [self._holds[host]], message, milliseconds, self._channel))

    def _arguments(self, now: float | None = None) -> tuple[str | float | int, ...]:
        limits = self._limits
        at = "" if now is None else f"{now * 1e6:.0f}"
        return at, limits.spacing * 1e6, limits.burst, limits.window, int(limits.max_wait * 1e6)

    async def _quietly(self, work: Awaitable[Any]) -> None:
        with contextlib.suppress(*_FAULTS):
            await work

    async def _run(self, script: str, keys: list[str], *values: str | int | float | bytes) -> Any:
        async with self._turns:
            return await self._client.eval(script, len(keys), *keys, *values)

    def _started(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
