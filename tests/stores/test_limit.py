from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.model import Crate, Selection
from proxy.stores.base import Observer
from proxy.stores.blobs import DiskBlobs
from proxy.stores.disk import DiskStore
from proxy.stores.limit import Limit

pytestmark = pytest.mark.anyio


class Held:
    """What is trimmed: numbers, and how often they were asked for."""

    def __init__(self, size: int, pinned: int = 0) -> None:
        self.size = size
        self.pinned = pinned
        self.measured = 0

    async def volume(self) -> int:
        self.measured += 1
        await asyncio.sleep(0)
        return self.size

    async def trim(self, want: int, pinned: Callable[[str], bool] | None = None) -> int:
        freed = min(want, self.size - self.pinned)
        self.size -= freed
        return freed


async def test_under_the_limit_it_hardly_ever_measures() -> None:
    blobs, index = Held(0), Held(0)
    limit = Limit(1_000_000, blobs, [index])
    for _ in range(500):
        blobs.size += 1000
        assert await limit.keep(1000) == 0
    assert blobs.measured < 12


async def test_over_the_limit_it_trims_to_95_per_cent() -> None:
    blobs = Held(0)
    limit = Limit(1_000_000, blobs, [])
    largest = 0
    for _ in range(5000):
        blobs.size += 1000
        await limit.keep(1000)
        largest = max(largest, blobs.size)
    assert 950_000 <= blobs.size <= 1_005_000
    assert largest <= 1_005_000


async def test_tarballs_give_way_first_then_the_stores_in_their_order() -> None:
    blobs, index, json = Held(400), Held(400), Held(400)
    assert await Limit(1000, blobs, [index, json]).trim() == 250
    assert (blobs.size, index.size, json.size) == (150, 400, 400)
    assert await Limit(500, blobs, [index, json]).trim() == 475
    assert (blobs.size, index.size, json.size) == (0, 75, 400)


async def test_pinned_tarballs_stay_and_are_not_tried_for_ever() -> None:
    blobs = Held(2000, pinned=1500)
    limit = Limit(1000, blobs, [])
    assert await limit.trim() == 500
    assert blobs.size == 1500
    measured = blobs.measured
    assert await limit.keep(1) == 0
    assert blobs.measured == measured


async def test_that_what_is_pinned_does_not_fit_is_told_once(tmp_path: Path) -> None:
    told: list[str] = []
    blobs = Held(2000, pinned=1500)
    limit = Limit(1000, blobs, [], told=told.append)
    for _ in range(3):
        await limit.trim()
    assert len(told) == 1 and "1500 bytes stay, more than cache.max_size" in told[0]
    blobs.size = blobs.pinned = 900
    await limit.trim()
    blobs.size = blobs.pinned = 1500
    await limit.trim()
    assert len(told) == 2


async def test_who_comes_while_it_trims_does_not_wait() -> None:
    blobs = Held(2000)
    limit = Limit(1000, blobs, [])
    freed = await asyncio.gather(*(limit.keep(0) for _ in range(5)))
    assert sorted(freed) == [0, 0, 0, 0, 1050]


async def test_pinned_index_files_stay_however_many_there_are(tmp_path: Path, observer: Observer) -> None:
    index = DiskStore.opened(tmp_path / "index", "index", observer)
    for n in range(300):
        await index.put(f"index /{n}", b"1" * 1000, tag="", keep=None)
    pinned = {f"index /{n}" for n in range(200)}
    await Limit(1, Held(0), [index], pinned.__contains__).trim()
    assert {key async for key in index.keys()} == pinned
    await index.aclose()


async def test_it_keeps_real_stores_under_the_limit(tmp_path: Path, observer: Observer) -> None:
    blobs = DiskBlobs.opened(tmp_path / "blobs", 0, observer)
    index = DiskStore.opened(tmp_path / "index", "index", observer)
    json = DiskStore.opened(tmp_path / "json", "json", observer)
    shas = [hashlib.sha256(b"%d" % n * 100_000).hexdigest() for n in range(5)]
    limit = Limit(2_000_000, blobs, [index, json], {shas[0]}.__contains__)
    for n, sha256 in enumerate(shas):
        spool = await blobs.spool(Crate("a", "1"), sha256)
        await spool.write(b"%d" % n * 100_000)
        (await spool.commit()).close()
    for n in range(20):
        await index.put(f"index {n}", b"1" * 100_000, tag="", keep=None)
        await limit.keep(100_000)
    total = await blobs.volume() + await index.volume() + await json.volume()
    assert total <= 2_000_000
    assert await blobs.volume() == 100_000
    assert await index.get("index 19") is not None
    assert 10 < await index.count(Selection()) < 20
    for store in (blobs, index, json):
        await store.aclose()
