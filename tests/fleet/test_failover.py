"""Another Redis takes over behind the same URL, while the old one lives on as a replica and closes no connection."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis

from proxy.fleet.redis import RedisFleet
from proxy.model import Invalidation, State
from proxy.rules.bucket import Urgency
from tests.fleet.member import of
from tests.redis_server import RedisServer, failover
from tests.waiting import WITHIN, became, happened

KEY = "crate serde"


async def names(server: RedisServer, pattern: str) -> list[bytes]:
    async with Redis(unix_socket_path=str(server.socket)) as client:
        return [name async for name in client.scan_iter(pattern)]


async def well(fleet: RedisFleet) -> None:
    await became(fleet.health, lambda health: health.state is State.OK)


@pytest.mark.anyio
async def test_members_meet_at_the_new_one() -> None:
    """With their leases, their budget and what they announce."""
    heard: list[Invalidation] = []
    lost = asyncio.Event()
    with failover() as failing:
        one = await RedisFleet.opened(failing.url, "test:", lambda _: None, lost.set)
        failing.done()
        async with one.lease(KEY, 1.0):
            assert await names(failing.second, "test:lease:*") != []
        async with asyncio.timeout(WITHIN):
            await lost.wait()  # what the others announced meanwhile was perhaps not heard
        await well(one)
        two = await RedisFleet.opened(failing.second.url, "test:", heard.append, lambda: None)
        async with one.lease(KEY, 1.0):
            waiting = asyncio.create_task(_held(two))
            await one.announce(of("serde"))
            await one.budget.book(Urgency.CALLER)
            await happened(lambda: heard)
            assert await names(failing.second, "test:budget") != []
            assert not waiting.done()
        await waiting
        await one.aclose()
        await two.aclose()


async def _held(fleet: RedisFleet) -> None:
    async with fleet.lease(KEY, 60.0):
        pass
