from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.model import Selection, State
from proxy.stores.base import Observer
from proxy.stores.disk import DiskStore
from proxy.stores.mirrored import Mirrored
from proxy.stores.redis import RedisStore

pytestmark = pytest.mark.anyio

KEY = "index se/rd/serde"


def _written(value: bytes) -> float:
    return float(value.partition(b" ")[0])


@pytest.fixture
async def both(anyio_backend: str, tmp_path: Path, observer: Observer) -> AsyncIterator[tuple[DiskStore, DiskStore]]:
    stores = [DiskStore.opened(tmp_path / name, name, observer) for name in ("first", "second")]
    yield stores[0], stores[1]
    for store in stores:
        await store.aclose()


async def test_what_is_put_is_in_both(both: tuple[DiskStore, DiskStore]) -> None:
    await Mirrored(*both, _written).put(KEY, b"1", tag="serde", keep=None)
    assert [await store.get(KEY) for store in both] == [b"1", b"1"]


async def test_the_newer_of_two_is_found_wherever_it_is(both: tuple[DiskStore, DiskStore]) -> None:
    mirrored, (first, second) = Mirrored(*both, _written), both
    assert await mirrored.get(KEY) is None
    await second.put(KEY, b"2 second", tag="serde", keep=None)
    assert await mirrored.get(KEY) == b"2 second"
    assert await first.get(KEY) is None  # nothing is written back
    await first.put(KEY, b"1 put before the second was, by one who could not reach it", tag="serde", keep=None)
    assert await mirrored.get(KEY) == b"2 second"
    await first.put(KEY, b"2 of the same time", tag="serde", keep=None)
    assert await mirrored.get(KEY) == b"2 of the same time"
    await first.put(KEY, b"3 by another machine", tag="serde", keep=None)
    assert await mirrored.get(KEY) == b"3 by another machine"
    await second.delete(KEY)
    assert await mirrored.get(KEY) == b"3 by another machine"


async def test_both_are_deleted_from_and_the_larger_count_is_told(both: tuple[DiskStore, DiskStore]) -> None:
    mirrored, second = Mirrored(*both, _written), both[1]
    await mirrored.put(KEY, b"1", tag="serde", keep=None)
    await second.put("index ra/nd/rand", b"1", tag="rand", keep=None)
    assert await mirrored.count(Selection()) == 2
    assert await mirrored.purge(Selection()) == 2
    await mirrored.put(KEY, b"1", tag="serde", keep=None)
    await mirrored.delete(KEY)
    assert [await store.count(Selection()) for store in both] == [0, 0]


async def test_without_the_first_all_goes_on_degraded(
    both: tuple[DiskStore, DiskStore], tmp_path: Path, observer: Observer
) -> None:
    dead = RedisStore.opened(f"unix://{tmp_path}/nobody", "crates:", "redis", observer)
    mirrored = Mirrored(dead, both[1], _written)
    await mirrored.put(KEY, b"1", tag="serde", keep=None)
    assert await mirrored.get(KEY) == b"1"
    health = await mirrored.health()
    assert (health.name, health.state) == ("redis+second", State.DEGRADED)
    assert health.detail.startswith("redis: ")
    assert await mirrored.purge(Selection(crate="serde")) == 1
    await dead.aclose()
