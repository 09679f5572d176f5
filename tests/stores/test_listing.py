"""What every medium promises that can be looked through by crate."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from proxy.model import Crate
from proxy.stores.base import Shelved, Store
from proxy.stores.blobs import DiskBlobs
from proxy.stores.disk import DiskStore
from proxy.stores.redis import RedisStore
from tests.redis_server import RedisServer

pytestmark = pytest.mark.anyio


def disk(directory: Path, server: RedisServer) -> DiskStore:
    return DiskStore.opened(directory / "store", "disk", lambda name, what: None)


def redis(directory: Path, server: RedisServer) -> RedisStore:
    return RedisStore.opened(server.url, f"crates[{uuid.uuid4()}]*:", "redis", lambda name, what: None)


@pytest.fixture(params=[disk, redis], ids=lambda opening: opening.__name__)
async def store(
    request: pytest.FixtureRequest, anyio_backend: str, tmp_path: Path, shared_redis: RedisServer
) -> AsyncIterator[DiskStore | RedisStore]:
    opening: Callable[[Path, RedisServer], DiskStore | RedisStore] = request.param
    store = opening(tmp_path, shared_redis)
    yield store
    await store.aclose()


async def filled(store: Store) -> None:
    for name in ("serde", "serde-json", "serde-derive", "toml", "a"):
        for page in range(len(name)):
            await store.put(f"crate /api/v1/crates/{name}?page={page}", b"x" * 100, tag=name, keep=None)
    await store.put("search /api/v1/crates?q=serde", b"no crate's", tag="", keep=None)


async def test_crates_are_found_by_a_part_of_their_name(store: DiskStore | RedisStore) -> None:
    await filled(store)
    assert [each.crate for each in await store.crates("", "", 50)] == [
        "a",
        "serde",
        "serde-derive",
        "serde-json",
        "toml",
    ]
    assert [each.crate for each in await store.crates("rde", "", 50)] == ["serde", "serde-derive", "serde-json"]
    assert [each.entries for each in await store.crates("-", "", 50)] == [len("serde-derive"), len("serde-json")]
    for nowhere in ("*", "?", "[a-z]", "%", "_", "rust", "'", "serde'--"):
        assert await store.crates(nowhere, "", 50) == []


async def test_pages_follow_one_another(store: DiskStore | RedisStore) -> None:
    await filled(store)
    found: list[str] = []
    while page := await store.crates("e", found[-1] if found else "", 2):
        assert len(page) <= 2
        found += [each.crate for each in page]
    assert found == ["serde", "serde-derive", "serde-json"]


async def test_the_keys_of_a_crate_are_told_in_their_order_and_bounded(store: DiskStore | RedisStore) -> None:
    await filled(store)
    keys = [f"crate /api/v1/crates/toml?page={page}" for page in range(4)]
    assert await store.tagged("toml", 50) == keys
    assert await store.tagged("toml", 2) == keys[:2]
    assert await store.tagged("tom", 50) == await store.tagged("%", 50) == []


async def test_what_is_past_its_time_or_deleted_is_not_there(store: DiskStore | RedisStore) -> None:
    await store.put("crate short", b"x", tag="short", keep=-1.0)
    await store.put("crate gone", b"x", tag="gone", keep=60)
    await store.delete("crate gone")
    assert await store.tagged("short", 50) == await store.tagged("gone", 50) == []


async def test_of_a_page_of_names_that_are_past_their_time_the_next_is_told(tmp_path: Path) -> None:
    store = DiskStore.opened(tmp_path, "disk", lambda name, what: None)
    for number in range(10):
        await store.put(f"crate {number}", b"x", tag=f"old-{number}", keep=-1.0 if number < 8 else None)
    assert [each.crate for each in await store.crates("old", "", 3)] == ["old-8", "old-9"]
    await store.aclose()


async def test_tarballs_are_told_by_crate_with_when_they_were_used(tmp_path: Path) -> None:
    now = [1000.0]
    blobs = DiskBlobs.opened(tmp_path, 0, lambda name, what: None, lambda: now[0])
    for name, version in (("serde", "1.0.0"), ("serde", "1.0.1"), ("Serde_JSON", "1.0.0")):
        content = f"{name} {version}".encode()
        spool = await blobs.spool(Crate(name, version), hashlib.sha256(content).hexdigest())
        await spool.write(content)
        (await spool.commit()).close()
        now[0] += 1
    assert await blobs.crates("", "", 50) == [Shelved("serde", 2, 22), Shelved("serde-json", 1, 16)]
    assert await blobs.crates("json", "", 50) == [Shelved("serde-json", 1, 16)]
    assert await blobs.crates("", "serde", 50) == [Shelved("serde-json", 1, 16)]
    assert await blobs.crates("", "", 1) == [Shelved("serde", 2, 22)]
    (one,) = await blobs.of("serde-json")
    assert (one.crate, one.size, one.stored, one.used) == (Crate("Serde_JSON", "1.0.0"), 16, 1002.0, 1002.0)
    now[0] = 5000.0
    blobs.used(one.sha256)
    assert [each.used for each in await blobs.of("serde-json")] == [5000.0]
    assert {each.crate.version for each in await blobs.of("serde")} == {"1.0.0", "1.0.1"}
    assert await blobs.of("toml") == []
    await blobs.aclose()
