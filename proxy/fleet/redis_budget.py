"""The budget of replicas that share one Redis: it decides, in one script and by its own clock.

While it cannot be reached each machine goes on with its own part of the budget: one of as many as there were machines
when it was last reached. What each spends then has no burst, so that all of them together stay within the limits.

What Redis grants the machine notes as well, in its journal, and when it has spent something by itself, or Redis has
lost its memory, it tells what it knows before it books again. With one machine no window is ever exceeded but by
requests in their callers' names. With several that all lose Redis and come back to an empty one, what all spend in ten
minutes is bounded by `window + burst + (max_wait + away) / spacing + machines`, `away` being the seconds for which the
last of them stays away longer than the first; by default and for two machines that is below what crates.io allows.
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
from proxy.fleet.messages import Message, line, understood
from proxy.fleet.redis_scripts import BOOK, GIVE_BACK, HOLD, MERGE, STANDING
from proxy.fleet.treasurer import hold_of, of_hold
from proxy.model import Host
from proxy.rules.bucket import FURTHEST, LEFT, Limits, Refused, Urgency

AT_ONCE = 8
"""Commands under way: a crowd waits for its turn here, in order, rather than for a connection."""
ATTEMPTS = 3
"""To book in a Redis that loses its memory between any two commands."""
UNTOLD = b"-"
"""The age of a Redis that has yet to be told what is spent: none has that name."""
COUNTED = 60.0
"""Seconds after which the machines are counted again."""
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
        self._keys = [f"{prefix}budget", f"{prefix}budget:times"]
        self._roster = f"{prefix}budget:machines"
        self._holds = {host: f"{prefix}hold:{host}" for host in Host}
        self._channel = channel
        self._reachable = reachable
        self._limits = limits
        self._apart = apart
        self._machine = name
        self._machines = [name]
        self._age = UNTOLD
        self._alone = 0  # bookings without Redis
        self._telling = asyncio.Lock()
        self._me = uuid.uuid4().hex
        self._numbers = itertools.count()
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._background: set[asyncio.Task[None]] = set()
        self._staying = asyncio.create_task(self._stay())

    async def book(self, urgency: Urgency) -> Turn | Refused:
        if self._reachable():
            with contextlib.suppress(*_FAULTS):
                return await self._booked(urgency)
        turn = await self._apart.book(urgency, parts=len(self._machines))
        if isinstance(turn, Turn):
            self._spent_alone()
        return turn

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
                free, recent = await self._run(STANDING, self._keys, *self._arguments())
                return Standing(0 if Host.API in apart.holds else int(free), int(recent), apart.holds)
        return replace(apart, alone=ALONE)

    def heard(self, message: Message) -> None:
        """What is said on the fleet's channel."""
        if message.get("kind") == "budget":
            self._started(self._quietly(self._tell()))
        found = hold_of(message) if message.get("kind") == "held" else None
        if found is not None:
            self._apart.hold(*found)

    async def begun(self) -> None:
        """Redis is there, perhaps again: it is told what is spent. What is held by now?"""
        with contextlib.suppress(*_FAULTS):
            await self._tell()
            for host, key in self._holds.items():
                async with self._turns:
                    value, left = await self._client.get(key), await self._client.pttl(key)
                found = hold_of(understood(value)) if isinstance(value, bytes) else None
                if found is not None and left > 0:
                    self._apart.hold(host, replace(found[1], seconds=left / 1000))

    async def aclose(self) -> None:
        self._staying.cancel()
        if self._background:
            _, late = await asyncio.wait(self._background, timeout=BOUND)
            for task in late:
                task.cancel()

    async def _booked(self, urgency: Urgency) -> Turn | Refused:
        number = f"{self._me}:{next(self._numbers)}"
        share = LEFT.get(urgency, "")
        more = (urgency.value, share, int(FURTHEST * 1e6), number)
        keys = [*self._keys, self._holds[Host.API]]
        for _ in range(ATTEMPTS):
            age = self._age
            answer, microseconds = await self._run(BOOK, keys, *self._arguments(), *more, age)
            seconds = int(microseconds) / 1e6
            match int(answer):
                case 0:
                    return Refused(seconds)
                case 1:
                    self._apart.note(number, asyncio.get_running_loop().time() + seconds)
                    return Turn(seconds, partial(self._given_back, number))
            await self._tell(age)
        raise RedisError("it forgets faster than it can be told")

    async def _tell(self, age: bytes | None = None) -> None:
        """Tell Redis what this machine knows to be spent, and that it is there; unless that age is over already."""
        async with self._telling:
            if age is not None and age != self._age:
                return  # somebody else was faster
            alone = self._alone
            known = await self._apart.known()
            now = asyncio.get_running_loop().time()
            spent = [part for name, at in known for part in (name, int((at - now) * 1e6))]
            new, word = uuid.uuid4().hex, line("budget")
            words = (new, self._channel, word, self._machine, len(self._machines), *self._machines, *spent)
            told, *machines = await self._run(MERGE, [*self._keys, self._roster], *self._arguments(), *words)
            self._machines = [each.decode() for each in machines]
            if alone == self._alone:
                self._age = told

    def _spent_alone(self) -> None:
        self._alone += 1
        self._age = UNTOLD

    async def _stay(self) -> None:
        """Be counted among the machines, and know how many they are."""
        while True:
            await asyncio.sleep(COUNTED)
            if self._reachable():
                await self._quietly(self._tell())

    def _given_back(self, number: str) -> None:
        self._apart.give_back(number)
        self._started(self._quietly(self._run(GIVE_BACK, self._keys, number, self._limits.spacing * 1e6)))

    async def _spent(self) -> None:
        if self._reachable():
            with contextlib.suppress(*_FAULTS):
                await self._booked(Urgency.CALLER)
                return
        self._apart.spend()
        self._spent_alone()

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
