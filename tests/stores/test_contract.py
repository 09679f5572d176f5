"""What every Store promises, asked of each of them."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from proxy.model import Selection, State
from proxy.stores.base import Store
from proxy.stores.disk import DiskStore
from proxy.stores.mirrored import Mirrored
from proxy.stores.redis import RedisStore
from tests.redis_server import RedisServer

pytestmark = pytest.mark.anyio

Told = list[tuple[str, str]]
Opening = Callable[[Path, RedisServer, Told], Store]


def disk(directory: Path, server: RedisServer, told: Told) -> Store:
    return DiskStore.opened(directory / "store", "disk", lambda name, what: told.append((name, what)))


def redis(directory: Path, server: RedisServer, told: Told) -> Store:
    # Characters that are special to SCAN belong into the prefix here.
    prefix = f"crates[{uuid.uuid4()}]*:"
    return RedisStore.opened(server.url, prefix, "redis", lambda name, what: told.append((name, what)))


def mirrored(directory: Path, server: RedisServer, told: Told) -> Store:
    return Mirrored(redis(directory, server, told), disk(directory, server, told), len)


@pytest.fixture(params=[disk, redis, mirrored], ids=lambda opening: opening.__name__)
async def store(
    request: pytest.FixtureRequest, anyio_backend: str, tmp_path: Path, shared_redis: RedisServer
) -> AsyncIterator[Store]:
    told: Told = []
    opening: Opening = request.param
    store = opening(tmp_path, shared_redis, told)
    yield store
    await store.aclose()
    assert told == []


async def test_what_was_never_put_is_absent(store: Store) -> None:
    assert await store.get("crate serde") is None


@pytest.mark.parametrize(
    "value",
    [b"", b"\0\n\r" * 100, bytes(range(256)) * 4096, b"\n" * 100_000],
    ids=["empty", "small", "a MiB", "lines"],
)
async def test_what_was_put_is_got_byte_for_byte(store: Store, value: bytes) -> None:
    await store.put("crate serde", value, tag="serde", keep=None)
    assert await store.get("crate serde") == value


async def test_the_last_value_put_counts(store: Store) -> None:
    for value in (b"small", b"large" * 100_000, b"small again"):
        await store.put("crate serde", value, tag="serde", keep=60)
        assert await store.get("crate serde") == value


async def test_keys_that_look_alike_are_apart(store: Store) -> None:
    keys = [
        "crate a",
        "crate A",
        "crate a ",
        "crate  a",
        "crate é",
        "crate a\0",
        "crate a?page=1",
        "crate " + "a" * 4000,
    ]
    for key in keys:
        await store.put(key, key.encode(), tag="a", keep=None)
    assert [await store.get(key) for key in keys] == [key.encode() for key in keys]


async def test_a_deleted_value_is_absent_and_deleting_it_again_is_no_error(store: Store) -> None:
    await store.put("crate serde", b"1", tag="serde", keep=None)
    await store.delete("crate serde")
    await store.delete("crate serde")
    assert await store.get("crate serde") is None


async def test_a_value_may_go_when_its_retention_is_over(store: Store) -> None:
    await store.put("crate serde", b"1", tag="serde", keep=0.01)
    await asyncio.sleep(0.02)
    assert await store.get("crate serde") is None
    assert await store.count(Selection()) == 0


async def test_a_value_put_without_retention_replaces_one_with_it(store: Store) -> None:
    await store.put("crate serde", b"1", tag="serde", keep=0.01)
    await store.put("crate serde", b"2", tag="serde", keep=None)
    await asyncio.sleep(0.02)
    assert await store.get("crate serde") == b"2"


FILLED = {
    "crate serde": "serde",
    "versions serde": "serde",
    "crate serde-json": "serde-json",
    "crate-index x": "x",
    "crat y": "y",
    "search q=serde": "",
}


@pytest.mark.parametrize(
    ("selection", "taken"),
    [
        (Selection(crate="serde"), ["crate serde", "versions serde"]),
        (Selection(crate="serde_json"), []),
        (Selection(crate="rand"), []),
        (Selection(endpoint="crate"), ["crate serde", "crate serde-json"]),
        (Selection(endpoint="crat"), ["crat y"]),
        (Selection(endpoint="c*"), []),
        (Selection(endpoint="summary"), []),
        (Selection(crate="serde", endpoint="crate"), ["crate serde"]),
        (Selection(), list(FILLED)),
    ],
    ids=repr,
)
async def test_a_purge_takes_its_selection_and_nothing_else(
    store: Store, selection: Selection, taken: list[str]
) -> None:
    for key, tag in FILLED.items():
        await store.put(key, key.encode(), tag=tag, keep=60)
    assert await store.count(selection) == len(taken)
    assert await store.purge(selection) == len(taken)
    left = [key for key in FILLED if await store.get(key) is not None]
    assert left == [key for key in FILLED if key not in taken]
    assert await store.purge(selection) == 0
    assert await store.count(selection) == 0


async def test_a_purge_counts_and_drops_a_thousand_values(store: Store) -> None:
    await asyncio.gather(*(store.put(f"crate many?page={n}", b"1", tag="many", keep=None) for n in range(1200)))
    await store.put("crate one", b"1", tag="one", keep=None)
    assert await store.count(Selection(crate="many")) == 1200
    assert await store.purge(Selection(crate="many")) == 1200
    assert await store.get("crate one") == b"1"
    assert await store.purge(Selection()) == 1


async def test_what_is_put_after_a_purge_stays_and_is_purged_again(store: Store) -> None:
    for _ in range(2):
        await store.put("crate serde", b"1", tag="serde", keep=None)
        assert await store.purge(Selection(crate="serde")) == 1
        assert await store.get("crate serde") is None


async def test_the_keys_are_told_ascending_and_each_once(store: Store) -> None:
    expected = sorted([*FILLED, *(f"crate é{n}" for n in range(1200))])
    for key in expected:
        await store.put(key, b"1", tag="", keep=None)
    await store.put("crate gone", b"1", tag="", keep=0.01)
    await store.put("crate deleted", b"1", tag="", keep=None)
    await store.delete("crate deleted")
    await asyncio.sleep(0.02)
    assert [key async for key in store.keys()] == expected


async def test_a_store_may_change_while_its_keys_are_told(store: Store) -> None:
    for n in range(1000, 2200):
        await store.put(f"crate {n}", b"1", tag="", keep=None)
    found = []
    async for key in store.keys():
        await store.delete(key)
        found.append(key)
    assert found == [f"crate {n}" for n in range(1000, 2200)]
    assert [key async for key in store.keys()] == []


async def test_many_at_once_each_get_their_own(store: Store) -> None:
    async def use(n: int) -> None:
        key, value = f"crate c{n % 50}", f"c{n % 50}".encode() * 1000
        await store.put(key, value, tag=f"c{n % 50}", keep=60)
        assert await store.get(key) == value

    await asyncio.gather(*(use(n) for n in range(200)))


async def test_a_caller_who_leaves_spoils_nothing_for_others(store: Store) -> None:
    for n in range(20):
        await store.put(f"crate c{n}", b"%d" % n, tag="", keep=None)
    for n in range(60):
        task = asyncio.ensure_future(store.get(f"crate c{n % 20}"))
        for _ in range(n % 7):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            assert await task == b"%d" % (n % 20)
        assert await store.get(f"crate c{(n + 1) % 20}") == b"%d" % ((n + 1) % 20)


async def test_a_put_goes_on_when_its_caller_leaves(store: Store) -> None:
    task = asyncio.ensure_future(store.put("crate serde", b"1" * 100_000, tag="serde", keep=None))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    await store.aclose()


async def test_a_working_store_is_well(store: Store) -> None:
    health = await store.health()
    assert (health.state, health.detail) == (State.OK, "")


async def test_a_closed_store_has_nothing_and_closes_again(
    request: pytest.FixtureRequest, tmp_path: Path, shared_redis: RedisServer
) -> None:
    told: Told = []
    store = disk(tmp_path, shared_redis, told)
    await store.put("crate serde", b"1", tag="serde", keep=None)
    await store.aclose()
    await store.aclose()
    assert await store.get("crate serde") is None


@pytest.mark.parametrize("opening", [disk, redis, mirrored])
async def test_a_key_that_utf8_cannot_spell_is_not_stored(
    opening: Opening, tmp_path: Path, shared_redis: RedisServer
) -> None:
    told: Told = []
    store = opening(tmp_path, shared_redis, told)
    await store.put("crate \udcff", b"1", tag="", keep=None)
    assert await store.get("crate \udcff") is None
    assert told
    await store.aclose()
