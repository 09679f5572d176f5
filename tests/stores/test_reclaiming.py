from __future__ import annotations

import hashlib
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from proxy.model import Crate
from proxy.stores.base import Observer
from proxy.stores.blobs import DiskBlobs
from proxy.stores.disk import DiskStore
from proxy.stores.limit import Limit
from proxy.stores.reclaiming import Freed, Reclaiming

pytestmark = pytest.mark.anyio

DAY = 86400.0


@pytest.fixture
async def blobs(anyio_backend: str, tmp_path: Path, observer: Observer) -> AsyncIterator[DiskBlobs]:
    temporary = tmp_path / "tarballs" / "tmp"
    temporary.mkdir(parents=True)
    (temporary / "1-0123456789abcdef").write_bytes(b"of a writer that was killed")
    blobs = DiskBlobs.opened(tmp_path / "tarballs", 0, observer)
    for number in range(10):
        content = bytes([number]) * 10_000
        spool = await blobs.spool(Crate("a", f"1.0.{number}"), hashlib.sha256(content).hexdigest())
        await spool.write(content)
        (await spool.commit()).close()
    yield blobs
    await blobs.aclose()


@pytest.fixture
async def json(anyio_backend: str, tmp_path: Path, observer: Observer) -> AsyncIterator[DiskStore]:
    json = DiskStore.opened(tmp_path / "json", "json", observer)
    await json.put("crate a", b"x", tag="a", keep=365 * DAY)
    await json.put("crate b", b"x", tag="b", keep=None)
    yield json
    await json.aclose()


def reclaiming(
    directory: Path, blobs: DiskBlobs, json: DiskStore, *, clock: Callable[[], float], max_size: int, min_free: int = 0
) -> Reclaiming:
    return Reclaiming(
        directory,
        blobs=blobs,
        limit=Limit(max_size, blobs, [json]),
        kept=[json],
        named={"tarballs": blobs, "json": json},
        keep=30 * DAY,
        max_size=max_size,
        min_free=min_free,
        clock=clock,
    )


async def test_what_is_within_the_limits_stays(tmp_path: Path, blobs: DiskBlobs, json: DiskStore) -> None:
    done = await reclaiming(tmp_path, blobs, json, clock=lambda: 0.0, max_size=10**9).run(lambda freed: None)
    assert done.temporary == Freed(1, len(b"of a writer that was killed"))
    assert (done.expired, done.evicted, done.problems) == (Freed(), {"tarballs": Freed(), "json": Freed()}, [])
    assert done.stored == await blobs.volume() + await json.volume()


async def test_answers_stored_longer_ago_than_they_are_kept_now_go(
    tmp_path: Path, blobs: DiskBlobs, json: DiskStore
) -> None:
    done = await reclaiming(tmp_path, blobs, json, clock=lambda: 2e10, max_size=10**9).run(lambda freed: None)
    assert done.expired.files == 2
    assert await json.get("crate a") is None and await json.get("crate b") is None


async def test_what_is_too_much_goes_and_each_step_is_told(tmp_path: Path, blobs: DiskBlobs, json: DiskStore) -> None:
    steps: list[int] = []
    max_size = await json.volume() + 50_000
    done = await reclaiming(tmp_path, blobs, json, clock=lambda: 0.0, max_size=max_size).run(steps.append)
    assert done.stored <= max_size and not done.problems
    assert done.evicted["tarballs"].bytes == 10_000 * done.evicted["tarballs"].files == sum(steps) > 0
    assert done.evicted["json"] == Freed()


async def test_a_full_disk_takes_everything_and_that_it_is_still_full_is_told(
    tmp_path: Path, blobs: DiskBlobs, json: DiskStore
) -> None:
    min_free = shutil.disk_usage(tmp_path).total * 2
    done = await reclaiming(tmp_path, blobs, json, clock=lambda: 0.0, max_size=10**9, min_free=min_free).run(
        lambda freed: None
    )
    assert done.evicted["tarballs"].files == 10 and done.evicted["json"].files == 2
    (problem,) = done.problems
    assert "cache.min_free" in problem


async def test_what_is_pinned_stays_and_is_told_where_it_is_too_much(
    tmp_path: Path, blobs: DiskBlobs, json: DiskStore
) -> None:
    made = Reclaiming(
        tmp_path,
        blobs=blobs,
        limit=Limit(1000, blobs, [], pinned=lambda name: True),
        kept=[],
        named={"tarballs": blobs},
        keep=DAY,
        max_size=1000,
        min_free=0,
        clock=lambda: 0.0,
    )
    done = await made.run(lambda freed: None)
    assert (done.stored, done.evicted["tarballs"]) == (100_000, Freed())
    (problem,) = done.problems
    assert "cache.max_size" in problem
