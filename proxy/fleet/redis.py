"""Replicas that share one Redis: announcements over a channel, leases (`redis_leases`), the budget (`redis_budget`).

Redis keeps nothing for who is not listening, so a member is `lost` when its subscription breaks and when there is
a new one. What it could not announce meanwhile it announces then.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from collections import deque
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import ConnectionError, RedisError

from proxy.fleet.base import Lease, Listener, Lost, Told, deaf
from proxy.fleet.bookings import Bookings
from proxy.fleet.messages import invalidation, line, of_invalidation, understood
from proxy.fleet.redis_budget import RedisBudget
from proxy.fleet.redis_leases import RedisLeases
from proxy.model import Health, Invalidation, State
from proxy.rules.bucket import Limits
from proxy.stores import connection

log = logging.getLogger("proxy")

BOUND = 1.0
"""Seconds that an announcement may take: the contract's, for a purge to be everywhere."""
SILENCE = 1.0
"""Seconds without a word from Redis until it is asked for one, and again until it is held for dead."""
PAUSE, LONGEST_PAUSE = 0.05, 2.0
"""Seconds between attempts to subscribe."""
UNSAID = 1000
"""Announcements that wait for Redis. The oldest go first: what they are about is likely to have expired."""


class RedisFleet:
    def __init__(
        self,
        client: Redis,
        prefix: str,
        hear: Listener,
        lost: Lost,
        limits: Limits,
        apart: Bookings,
        name: str,
        left_alone: Callable[[], bool],
    ) -> None:
        self._client = client
        self._channel = prefix + "fleet"
        self._hear = hear
        self._lost = lost
        self._name = uuid.uuid4().hex
        self._subscribed = asyncio.Event()
        self._subscriptions = 0
        self._left_alone = left_alone
        reachable = self._reachable
        self._leases = RedisLeases(client, prefix, self._channel, reachable)
        self.budget = RedisBudget(client, prefix, self._channel, reachable, limits, apart, name)
        self._unsaid: deque[bytes] = deque(maxlen=UNSAID)
        self._trouble = ""
        self._pause = PAUSE
        self._task = asyncio.create_task(self._stay())

    @classmethod
    async def opened(
        cls,
        url: str,
        prefix: str,
        hear: Listener,
        lost: Lost,
        *,
        limits: Limits = Limits(),  # noqa: B008  # frozen
        apart: Bookings | None = None,
        machine: str = "",
        left_alone: Callable[[], bool] = lambda: False,
    ) -> RedisFleet:
        """Join the replicas on this Redis. Whoever cannot is alone, and goes on trying. SettingsError for a URL
        that cannot be used. For its `budget`: what the machine, of this name, has `apart` while there is no Redis.
        `left_alone`: whether others have found out that it does not answer at the moment."""
        client = connection.client(url)
        fleet = cls(client, prefix, hear, lost, limits, apart or Bookings(limits), machine, left_alone)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(BOUND):
                await fleet._subscribed.wait()
        return fleet

    async def announce(self, announced: Invalidation) -> None:
        self._hear(announced)
        self._unsaid.append(line("invalidation", **{"from": self._name}, **of_invalidation(announced)))
        await self._tried()

    async def _tried(self) -> None:
        try:
            async with asyncio.timeout(BOUND):
                await self._say()
        except (RedisError, OSError, TimeoutError) as error:
            self._noted(error)

    async def _say(self) -> None:
        while self._unsaid:
            data = self._unsaid[0]
            await self._client.publish(self._channel, data)
            if self._unsaid and self._unsaid[0] is data:  # Nobody else was faster.
                self._unsaid.popleft()

    def _reachable(self) -> bool:
        return self._subscribed.is_set() and not self._left_alone()

    def lease(self, key: str, patience: float, told: Told = deaf) -> AbstractAsyncContextManager[Lease]:
        return self._leases.lease(key, patience)  # a replica on another machine could not use any word

    async def health(self) -> Health:
        if self._subscribed.is_set() and not self._unsaid:
            return Health("fleet", State.OK)
        return Health("fleet", State.DEGRADED, self._trouble or "alone: the other replicas cannot be reached")

    async def aclose(self) -> None:
        while not self._task.done():
            self._task.cancel()  # redis-py may swallow one that comes together with a timeout of its own
            await asyncio.wait({self._task}, timeout=BOUND)
        await self._leases.aclose()
        await self.budget.aclose()
        await self._client.aclose()

    async def _stay(self) -> None:
        """Be subscribed, for ever."""
        while True:
            subscription = self._client.pubsub()
            try:
                async with asyncio.timeout(BOUND):
                    await subscription.subscribe(self._channel)
                await self._listen(subscription)
            except (RedisError, OSError, TimeoutError) as error:
                self._noted(error)
            finally:
                with contextlib.suppress(RedisError, OSError):
                    await subscription.aclose()  # type: ignore[no-untyped-call]  # redis-py
            if self._subscribed.is_set():
                self._subscribed.clear()
                self._leases.wake()
                self._safely(self._lost)
            await asyncio.sleep(self._pause)
            self._pause = min(self._pause * 2, LONGEST_PAUSE)

    async def _listen(self, subscription: PubSub) -> None:
        asked = False
        while True:
            message = await subscription.get_message(timeout=SILENCE)
            if connection.outdated(subscription):
                raise ConnectionError("another Redis has taken over")
            if message is None:
                if asked:
                    raise TimeoutError("Redis is silent")
                async with asyncio.timeout(BOUND):
                    await subscription.ping()
                asked = True
                continue
            asked = False
            if message["type"] == "subscribe":
                await self._begun()
                continue
            self._pause = PAUSE  # This subscription is worth its name.
            if message["type"] == "message":
                self._told(message["data"])

    async def _begun(self) -> None:
        """The client subscribes again by itself when its connection breaks, and says nothing else about it."""
        self._subscriptions += 1
        await self.budget.begun()  # before anybody books here
        if self._subscriptions > 1:
            self._leases.wake()
            self._safely(self._lost)
        self._subscribed.set()
        self._trouble = ""
        await self._tried()

    def _told(self, data: bytes) -> None:
        message = understood(data)
        self._leases.heard(message)
        self.budget.heard(message)
        announced = invalidation(message)
        if announced is not None and message.get("from") != self._name:
            self._safely(lambda: self._hear(announced))

    def _safely(self, call: Lost) -> None:
        try:
            call()
        except Exception:
            log.exception("fleet: a member does not do what it was told")

    def _noted(self, error: BaseException) -> None:
        """A trouble is logged once, not at every attempt."""
        told = f"{connection.where(self._client)}: {connection.told(self._client, error)}"
        if not self._trouble:
            log.warning("fleet: alone: %s", told)
        self._trouble = told
