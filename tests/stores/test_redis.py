from __future__ import annotations

import asyncio
import contextlib
import traceback
from collections.abc import AsyncIterator, Awaitable, Iterator
from typing import TypeVar

import pytest
from redis.exceptions import RedisError

from proxy.errors import SettingsError
from proxy.model import Selection, State
from proxy.rules.breaker import PAUSE
from proxy.stores import connection, envelope
from proxy.stores.base import Observer
from proxy.stores.redis import MAX_VALUE, RedisStore
from tests import virtual_time
from tests.redis_server import RedisServer, redis_server
from tests.virtual_time import really
from tests.waiting import WITHIN

pytestmark = pytest.mark.anyio

T = TypeVar("T")

KEY = "crate serde"
DOUBT = 0.5
SHORT = 0.7
"""Seconds: 0.2 for an answer, for a new connection that says hello, and for an answer there."""


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store(
    anyio_backend: str, server: RedisServer, observer: Observer, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[RedisStore]:
    """It gives a server on a busy machine its time. How long one that hangs is waited for is told in virtual time."""
    monkeypatch.setattr(connection, "_SECONDS", WITHIN)
    store = RedisStore.opened(server.url, "crates:", "redis", observer, clock)
    yield store
    await store.aclose()


async def put(store: RedisStore, value: bytes = b"1", keep: float | None = None) -> None:
    await store.put(KEY, value, tag="serde", keep=keep)


async def connections_received(store: RedisStore) -> int:
    return int((await store.client.info("stats"))["total_connections_received"])


async def reads_processed(store: RedisStore) -> int:
    return int((await store.client.info("stats"))["total_reads_processed"])


@contextlib.contextmanager
def virtually(server: RedisServer, observer: Observer, clock: Clock) -> Iterator[tuple[asyncio.Runner, RedisStore]]:
    """A store that waits in virtual time, and has put something."""

    async def filled() -> RedisStore:
        store = RedisStore.opened(server.url, "crates:", "redis", observer, clock)
        await really(put(store))
        return store

    with virtual_time.running() as runner:
        store = runner.run(filled())
        yield runner, store
        runner.run(store.aclose())


async def takes(work: Awaitable[T]) -> tuple[T, float]:
    """What comes of it, and the virtual seconds that it took."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    return await work, loop.time() - began


def test_a_dead_server_is_absent_at_once_and_told_once(
    server: RedisServer, observer: Observer, told: list[str], clock: Clock
) -> None:
    with virtually(server, observer, clock) as (runner, store):
        server.kill()

        async def use() -> None:
            for _ in range(3):
                assert await store.get(KEY) is None
                await put(store)
            await store.delete(KEY)

        assert runner.run(takes(use())) == (None, 0.0)
    assert len(told) == 1 and told[0].startswith("redis: reaching the server: ConnectionError")


def test_a_server_that_hangs_costs_one_short_wait_and_then_nothing(
    server: RedisServer, observer: Observer, told: list[str], clock: Clock
) -> None:
    with virtually(server, observer, clock) as (runner, store):

        async def reads(count: int) -> float:
            values, seconds = await takes(asyncio.gather(*(store.get(KEY) for _ in range(count))))
            assert values == [None] * count
            return seconds

        server.hang()
        try:
            assert 0.0 < runner.run(reads(1)) <= SHORT
            for _ in range(1000):
                assert runner.run(reads(1)) == 0.0
            assert store.unanswered == 1001
            clock.now += DOUBT
            assert 0.0 < runner.run(reads(1)) <= SHORT
            clock.now += DOUBT
            assert runner.run(reads(1)) == 0.0, "by now it is sure"
            clock.now += PAUSE
            assert runner.run(reads(200)) <= SHORT
        finally:
            server.resume()
        assert len(told) == 1 and "Timeout" in told[0]
        clock.now += PAUSE
        assert runner.run(really(store.get(KEY))) == b"1"
    assert told[1:] == ["redis: reaching the server: works again"]


def test_a_crowd_behind_a_hung_server_waits_no_longer_than_one(
    server: RedisServer, observer: Observer, clock: Clock
) -> None:
    with virtually(server, observer, clock) as (runner, store):

        async def crowd() -> float:
            values, seconds = await takes(asyncio.gather(*(store.get(KEY) for _ in range(500))))
            assert values == [None] * 500
            return seconds

        server.hang()
        try:
            assert runner.run(crowd()) <= SHORT
        finally:
            server.resume()


async def test_a_crowd_before_a_working_server_is_no_fault(store: RedisStore, told: list[str]) -> None:
    await put(store)
    assert await asyncio.gather(*(store.get(KEY) for _ in range(3000))) == [b"1"] * 3000
    assert told == []


async def test_who_leaves_while_a_command_is_on_its_way_has_left(server: RedisServer) -> None:
    client = connection.client(server.url)
    await client.set("a", b"1")
    left = 0
    for turns in range(50):  # of the loop, until it has its answer
        task = asyncio.ensure_future(client.get("a"))
        for _ in range(turns):
            await asyncio.sleep(0)
        if not task.cancel():
            assert task.result() == b"1"
            continue
        left += 1
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await client.get("a") == b"1", "answers stay in step"
    assert left > 1
    await client.aclose()


async def test_a_server_killed_in_mid_run_is_used_again_after_the_pause(
    store: RedisStore, server: RedisServer, clock: Clock, told: list[str]
) -> None:
    async def use(n: int) -> None:
        for _ in range(50):
            await store.put(f"crate c{n}", b"%d" % n, tag="", keep=None)
            assert await store.get(f"crate c{n}") in (b"%d" % n, None)

    using = [asyncio.ensure_future(use(n)) for n in range(20)]
    await asyncio.sleep(0.02)
    server.kill()
    await asyncio.gather(*using)
    server.start()
    assert await store.get(KEY) is None  # left alone still
    await put(store)
    assert await store.client.dbsize() == 0
    clock.now += PAUSE
    await put(store)
    assert await store.get(KEY) == b"1"
    assert told[-1] == "redis: reaching the server: works again"


def test_a_purge_asks_even_a_server_that_is_left_alone(server: RedisServer, observer: Observer, clock: Clock) -> None:
    with virtually(server, observer, clock) as (runner, store):
        server.hang()
        try:
            for _ in range(3):
                assert runner.run(store.get(KEY)) is None
            assert runner.run(takes(store.get(KEY))) == (None, 0.0)
        finally:
            server.resume()
        assert runner.run(really(store.purge(Selection(crate="serde")))) == 1
        assert runner.run(really(store.get(KEY))) is None


async def test_connections_closed_by_the_server_are_no_fault(store: RedisStore, told: list[str]) -> None:
    await put(store)
    await asyncio.gather(*(store.get(KEY) for _ in range(10)))
    await store.client.client_kill_filter(_type="normal", skipme=True)
    assert await asyncio.gather(*(store.get(KEY) for _ in range(10))) == [b"1"] * 10
    assert told == []


async def test_an_answer_meant_for_another_key_is_a_miss_and_drops_every_connection(
    store: RedisStore, told: list[str]
) -> None:
    await put(store)
    await store.client.set("crates:value1:crate rand", envelope.framed(KEY, b"1"))
    before = await connections_received(store)
    assert await store.get("crate rand") is None
    assert len(told) == 1 and "not its key's" in told[0]
    assert await store.get(KEY) == b"1"
    assert await connections_received(store) > before
    assert await store.client.exists("crates:value1:crate rand") == 0
    assert len(told) == 1


@pytest.mark.parametrize("raw", [b"", b"OK", envelope.framed(KEY, b"value")[:-1]])
async def test_a_damaged_value_is_a_miss_and_goes(store: RedisStore, raw: bytes) -> None:
    await store.client.set(f"crates:value1:{KEY}", raw)
    assert await store.get(KEY) is None
    assert await store.client.dbsize() == 0


async def test_what_is_asked_for_at_once_is_one_request_and_each_gets_his_own(
    store: RedisStore, told: list[str]
) -> None:
    for number in range(5):
        await store.put(f"crate c{number}", b"%d" % number, tag=f"c{number}", keep=None)
    await store.client.set("crates:value1:crate c1", b"junk")
    await store.client.delete("crates:value1:crate c2")
    await store.client.lpush("crates:value1:crate c2", "an item")
    before = await reads_processed(store)
    assert await asyncio.gather(*(store.get(f"crate c{number}") for number in (0, 3, 4))) == [b"0", b"3", b"4"]
    assert await reads_processed(store) - before == 2  # the other one asks for this
    gets = [asyncio.ensure_future(store.get(f"crate c{number}")) for number in (0, 1, 2, 3, 4, 5, 0)]
    await asyncio.sleep(0)
    gets[4].cancel()
    found = await asyncio.gather(*gets, return_exceptions=True)
    assert [found[at] for at in (0, 1, 2, 3, 5, 6)] == [b"0", None, None, b"3", None, b"0"]
    assert "WRONGTYPE" in told[0] and "not its key's" in told[1] and len(told) == 2
    assert await store.client.exists("crates:value1:crate c1") == 0


async def test_a_key_of_another_type_is_a_miss_and_the_server_is_not_left_alone(
    store: RedisStore, told: list[str]
) -> None:
    await store.client.sadd(f"crates:value1:{KEY}", "x")
    for _ in range(5):
        assert await store.get(KEY) is None
    assert len(told) == 1 and "WRONGTYPE" in told[0]
    await put(store)
    assert await store.get(KEY) == b"1"


@contextlib.asynccontextmanager
async def one_answer_too_many(server: RedisServer, extra: bytes) -> AsyncIterator[str]:
    """A relay that adds `extra` behind the answer to each GET of `a`."""
    writers: list[asyncio.StreamWriter] = []

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind, ahead = await asyncio.open_unix_connection(server.socket)
        writers.extend((writer, ahead))

        async def answers() -> None:
            while data := await behind.read(65536):
                # In one piece, so that the client has the one too many as soon as it has its own.
                writer.write(data + extra if data.endswith(b"of a\r\n") else data)

        answering = asyncio.ensure_future(answers())
        while data := await reader.read(65536):
            ahead.write(data)
        answering.cancel()

    # Over TCP: on a Unix socket redis-py has no maintenance notifications to turn off.
    relaying = await asyncio.start_server(relay, "127.0.0.1", 0)
    yield "redis://{}:{}".format(*relaying.sockets[0].getsockname())
    for writer in writers:
        writer.close()
    relaying.close()
    await asyncio.sleep(0)


async def test_an_answer_too_many_is_never_taken_for_the_next_one(server: RedisServer) -> None:
    # Below the store, where no envelope hides it: with redis-py's own defaults the second command reads `wrong`.
    async with one_answer_too_many(server, b"$5\r\nwrong\r\n") as url:
        client = connection.client(url)
        await client.set("a", b"value of a")
        await client.set("b", b"value of b")
        for _ in range(5):
            assert await client.get("a") == b"value of a"
            assert await client.get("b") == b"value of b"
        await client.aclose()


async def test_a_caller_who_leaves_costs_no_connection(store: RedisStore) -> None:
    await asyncio.gather(*(put(store) for _ in range(32)))
    before = await connections_received(store)
    for n in range(100):
        task = asyncio.ensure_future(store.get(KEY))
        for _ in range(n % 10):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    assert await store.get(KEY) == b"1"
    assert await connections_received(store) == before


async def test_a_value_above_the_largest_is_not_stored_and_replaces_what_was_there(store: RedisStore) -> None:
    await put(store, b"1" * MAX_VALUE)
    assert await store.get(KEY) == b"1" * MAX_VALUE
    await put(store, b"1" * (MAX_VALUE + 1))
    assert await store.get(KEY) is None


async def test_retention_is_given_to_the_server_and_none_means_none(store: RedisStore) -> None:
    await put(store, keep=60.5)
    assert 60_000 < await store.client.pttl(f"crates:value1:{KEY}") <= 60_500
    await put(store, keep=None)
    assert await store.client.pttl(f"crates:value1:{KEY}") == -1
    await put(store, keep=0)
    assert await store.get(KEY) is None


async def test_the_set_of_a_crate_expires_after_all_that_it_lists(store: RedisStore) -> None:
    await store.put("crate a", b"1", tag="serde", keep=800 * 86400)
    assert await store.client.ttl("crates:tag1:serde") >= 800 * 86400 - 1
    await store.put("crate b", b"1", tag="rand", keep=60)
    assert await store.client.ttl("crates:tag1:rand") >= 365 * 86400


async def test_a_purge_touches_nothing_of_others(store: RedisStore) -> None:
    others = ["foreign", "crates", "crates:lease:x", "crates-2:value1:crate serde", "cratesXvalue1:crate serde"]
    for key in others:
        await store.client.set(key, b"theirs")
    await put(store)
    await store.purge(Selection(crate="serde"))
    await put(store)
    await store.purge(Selection(endpoint="crate"))
    await put(store)
    await store.purge(Selection())
    assert sorted([bytes(key).decode() for key in await store.client.keys() if isinstance(key, bytes)]) == sorted(
        others
    )


async def test_a_server_without_memory_refuses_without_being_left_alone(
    observer: Observer, told: list[str], clock: Clock
) -> None:
    with redis_server("--maxmemory", "8mb", "--maxmemory-policy", "noeviction") as server:
        store = RedisStore.opened(server.url, "crates:", "redis", observer, clock)
        await put(store, b"small")
        for n in range(8):
            await store.put(f"crate {n}", b"1" * 2**20, tag="", keep=None)
        await put(store, b"2" * 2**20)
        # What was there must not be taken for what was put last.
        assert await store.get(KEY) is None
        assert len(told) == 1 and "OOM" in told[0] or "OutOfMemory" in told[0]
        assert await store.get("crate 0") == b"1" * 2**20
        assert (await store.health()).state == State.DEGRADED
        await store.aclose()


async def test_a_wrong_password_is_told_without_it(observer: Observer, told: list[str]) -> None:
    with redis_server("--requirepass", "open-sesame") as server:
        good = RedisStore.opened(f"unix://:open-sesame@{server.socket}", "crates:", "redis", observer)
        await put(good)
        assert await good.get(KEY) == b"1"
        await good.aclose()
        bad = RedisStore.opened(f"unix://:wr0ng-secret@{server.socket}", "crates:", "redis", observer)
        assert await bad.get(KEY) is None
        health = await bad.health()
        assert health.state == State.DEGRADED
        assert "invalid username-password pair" in health.detail and str(server.socket) in health.detail
        assert "wr0ng-secret" not in health.detail + " ".join(told)
        await bad.aclose()


def test_health_tells_what_is_wrong_and_is_quick(server: RedisServer, observer: Observer, clock: Clock) -> None:
    with virtually(server, observer, clock) as (runner, store):
        assert runner.run(really(store.health())).state == State.OK
        server.hang()
        try:
            health, seconds = runner.run(takes(store.health()))
            assert seconds <= SHORT
            assert (health.name, health.state) == ("redis", State.DEGRADED)
            assert str(server.socket) in health.detail and "Timeout" in health.detail
            for _ in range(3):  # asked for at once it would be one read
                runner.run(store.get(KEY))
            health, seconds = runner.run(takes(store.health()))
            assert (health.state, seconds) == (State.DEGRADED, 0.0)  # left alone: it is not even asked
        finally:
            server.resume()
        clock.now += PAUSE
        assert runner.run(really(store.health())).state == State.OK


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:6379",
        "http://:secret@localhost",
        "redis+sentinel://:secret@h1:26379/mymaster/0",
        "redis://:secret@localhost:port",
        "redis://:sec/ret@localhost",
        "redis://:secret@localhost?db=secret",
        "redis://:secret@localhost?no_such_option=secret",
        "rediss://:secret@localhost?ssl_cert_reqs=secret",
        "redis://:secret@[localhost",
        "unix://",
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_its_password(url: str, observer: Observer) -> None:
    with pytest.raises(SettingsError) as refused:
        RedisStore.opened(url, "crates:", "redis", observer)
    assert refused.value.detail.startswith("redis.url: ")
    assert "secret" not in "".join(traceback.format_exception(refused.value))


@pytest.mark.parametrize(
    "url", ["redis://localhost", "redis://u:p@h:1/2", "rediss://h?ssl_cert_reqs=none", "unix:///s"]
)
def test_the_three_schemes_are_taken_without_connecting(url: str, observer: Observer) -> None:
    RedisStore.opened(url, "crates:", "redis", observer)


def test_the_url_cannot_undo_what_keeps_a_dead_server_cheap() -> None:
    client = connection.client("redis://h:7?socket_timeout=60&max_connections=9999&timeout=60&decode_responses=1")
    options = client.connection_pool.connection_kwargs
    assert options["socket_timeout"] == options["socket_connect_timeout"] <= 0.25
    assert options["decode_responses"] is False
    assert client.connection_pool.max_connections == connection.CONNECTIONS
    assert connection.where(client) == "h:7"


async def test_a_connection_that_is_gone_while_it_is_made_is_a_fault_of_the_server(observer: Observer) -> None:
    """What uvloop raises then is no error of Redis's and none of the system's."""
    client = connection.client("redis://127.0.0.1:1/0")

    class Gone:
        def writelines(self, data: object) -> None:
            raise RuntimeError("unable to perform operation; the handler is closed")

        def close(self) -> None:
            pass

    made = client.connection_pool.make_connection()  # type: ignore[no-untyped-call]
    made._writer = Gone()
    made._reader = object()
    with pytest.raises(RedisError, match="closed"):
        await made.send_packed_command([b"PING"], check_health=False)
    await client.aclose()
