"""Another Redis takes over behind the same URL, while the old one lives on as a replica and closes no connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from proxy.model import Selection
from proxy.stores.base import Observer
from proxy.stores.redis import RedisStore
from tests.redis_server import Failover, failover

pytestmark = pytest.mark.anyio

KEY = "crate serde"


@pytest.fixture
def failing() -> Iterator[Failover]:
    with failover() as failing:
        yield failing


@pytest.fixture
async def store(anyio_backend: str, failing: Failover, observer: Observer) -> AsyncIterator[RedisStore]:
    store = RedisStore.opened(failing.url, "crates:", "redis", observer)
    yield store
    await store.aclose()


async def test_what_is_put_then_is_in_the_new_one_and_nobody_notices(
    failing: Failover, store: RedisStore, told: list[str]
) -> None:
    await store.put(KEY, b"old", tag="serde", keep=None)
    failing.done()
    await store.put(KEY, b"new", tag="serde", keep=None)
    there = RedisStore.opened(failing.second.url, "crates:", "redis", lambda *_: None)
    assert await there.get(KEY) == await store.get(KEY) == b"new"
    await there.aclose()
    assert told == [] and store.errors == 0


async def test_a_purge_reaches_the_new_one(failing: Failover, store: RedisStore) -> None:
    await store.put(KEY, b"1", tag="serde", keep=None)
    there = RedisStore.opened(failing.second.url, "crates:", "redis", lambda *_: None)
    await there.put(KEY, b"1", tag="serde", keep=None)
    failing.done()
    assert await store.purge(Selection(crate="serde")) == 1
    assert await there.get(KEY) is None
    await there.aclose()


async def test_a_crowd_of_connections_to_the_old_one_is_used_for_nothing_more(
    failing: Failover, store: RedisStore
) -> None:
    await asyncio.gather(*(store.put(f"crate c{n}", b"old", tag=f"c{n}", keep=None) for n in range(20)))
    failing.done()
    await store.delete(KEY)  # one of them learns it
    read = await asyncio.gather(*(store.get(f"crate c{n}") for n in range(20)))
    assert read == [None] * 20  # the new one is empty


async def test_a_server_that_stays_read_only_is_told_and_still_read(
    failing: Failover, store: RedisStore, told: list[str]
) -> None:
    await store.put(KEY, b"1", tag="serde", keep=None)
    failing.first.demote()
    for _ in range(5):
        await store.put(KEY, b"2", tag="serde", keep=None)
    assert await store.get(KEY) == b"1"
    assert len(told) == 1 and told[0].startswith("redis: put: ReadOnlyError")
