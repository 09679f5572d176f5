from __future__ import annotations

import asyncio
import logging

import pytest
from redis.asyncio import Redis

from proxy.errors import SettingsError
from proxy.fleet import redis
from proxy.fleet.redis import RedisFleet
from proxy.model import Invalidation, State
from proxy.stores import connection
from tests import virtual_time
from tests.fleet.member import of
from tests.redis_server import RedisServer
from tests.virtual_time import really
from tests.waiting import WITHIN, became, happened


class Replica:
    """A member, and what became of it."""

    def __init__(self) -> None:
        self.heard: list[Invalidation] = []
        self.lost = 0
        self.fleet: RedisFleet

    def _lose(self) -> None:
        self.lost += 1

    @classmethod
    async def opened(cls, url: str, prefix: str = "test:") -> Replica:
        replica = cls()
        replica.fleet = await RedisFleet.opened(url, prefix, replica.heard.append, replica._lose)
        return replica


def _ignored(announced: object = None) -> None: ...


async def closed(*replicas: Replica) -> None:
    for replica in replicas:
        await replica.fleet.aclose()


@pytest.mark.anyio
async def test_other_prefixes_are_other_fleets(shared_redis: RedisServer) -> None:
    mine, theirs = await Replica.opened(shared_redis.url), await Replica.opened(shared_redis.url, "other:")
    friend = await Replica.opened(shared_redis.url)
    await mine.fleet.announce(of("serde"))
    await happened(lambda: friend.heard)
    await theirs.fleet.announce(of("tokio"))
    assert theirs.heard == [of("tokio")] and mine.heard == friend.heard == [of("serde")]
    await closed(mine, theirs, friend)


@pytest.mark.anyio
async def test_a_broken_subscription_is_a_loss_and_is_renewed(own_redis: RedisServer) -> None:
    first, second = await Replica.opened(own_redis.url), await Replica.opened(own_redis.url)
    own_redis.kill()
    await happened(lambda: first.lost and second.lost)
    own_redis.start()
    await happened(lambda: first.lost >= 2 and second.lost >= 2)
    await first.fleet.announce(of("serde"))
    await happened(lambda: second.heard == [of("serde")])
    assert (await first.fleet.health()).state is State.OK
    await closed(first, second)


@pytest.mark.anyio
async def test_a_connection_that_redis_closes_is_noticed(own_redis: RedisServer) -> None:
    replica = await Replica.opened(own_redis.url)
    client = connection.client(own_redis.url)
    await client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")  # type: ignore[no-untyped-call]
    await happened(lambda: replica.lost)
    friend = await Replica.opened(own_redis.url)
    await happened(lambda: replica.fleet._subscribed.is_set())
    await friend.fleet.announce(of("serde"))
    await happened(lambda: replica.heard == [of("serde")])
    await closed(replica, friend)
    await client.aclose()


@pytest.mark.anyio
async def test_what_could_not_be_announced_is_announced_later(
    own_redis: RedisServer, caplog: pytest.LogCaptureFixture, unbound: None
) -> None:
    first, second = await Replica.opened(own_redis.url), await Replica.opened(own_redis.url)
    own_redis.kill()
    async with asyncio.timeout(WITHIN):  # neither waits for nobody
        await first.fleet.announce(of("one"))
        await first.fleet.announce(of("two"))
    assert first.heard == [of("one"), of("two")]
    health = await first.fleet.health()
    assert health.state is State.DEGRADED and health.detail
    own_redis.start()
    await happened(lambda: first.lost and second.lost)
    await happened(lambda: first.fleet._subscribed.is_set() and second.fleet._subscribed.is_set())
    await first.fleet.announce(of("three"))
    await happened(lambda: of("three") in second.heard)
    await closed(first, second)
    warnings = [record for record in caplog.records if record.name == "proxy" and record.levelno >= logging.WARNING]
    assert 1 <= len(warnings) <= 2  # No more than one for each member.


def test_a_redis_that_hangs_holds_nobody_up_for_longer_than_a_second(own_redis: RedisServer) -> None:
    async def main() -> None:
        now = asyncio.get_running_loop().time
        replica = await really(Replica.opened(own_redis.url))
        own_redis.hang()
        begun = now()
        await replica.fleet.announce(of("serde"))
        assert now() - begun <= 1.0 and replica.heard == [of("serde")]
        await happened(lambda: replica.lost == 1)
        assert now() - begun <= 2 * redis.SILENCE + redis.BOUND
        begun = now()
        late = await Replica.opened(own_redis.url)
        assert now() - begun <= 1.0
        assert (await late.fleet.health()).state is State.DEGRADED
        await closed(replica, late)

    try:
        with virtual_time.running() as runner:
            runner.run(main())
    finally:
        own_redis.resume()


@pytest.mark.anyio
async def test_a_redis_that_others_leave_alone_is_not_asked(own_redis: RedisServer) -> None:
    left_alone = asyncio.Event()
    fleet = await RedisFleet.opened(own_redis.url, "test:", _ignored, _ignored, left_alone=left_alone.is_set)
    async with Redis(unix_socket_path=str(own_redis.socket)) as client:
        async with fleet.lease("crate serde", 1.0):
            assert len(await client.keys("test:lease:*")) == 1 and not (await fleet.budget.standing()).alone
        await became(lambda: client.keys("test:lease:*"), lambda keys: keys == [])
        left_alone.set()
        async with fleet.lease("crate serde", 1.0):
            assert await client.keys("test:lease:*") == [] and (await fleet.budget.standing()).alone
    await fleet.aclose()


@pytest.mark.anyio
async def test_a_redis_that_was_asked_whether_it_is_there_and_answers_is_not_lost(own_redis: RedisServer) -> None:
    async def pings(client: Redis) -> int:
        told = (await client.info("commandstats")).get("cmdstat_ping", {"calls": 0})
        return int(told["calls"])

    replica = await Replica.opened(own_redis.url)
    client = connection.client(own_redis.url)
    before = await pings(client)
    await became(lambda: pings(client), lambda calls: calls >= before + 2)  # the second, because the first was answered
    assert replica.lost == 0
    await client.aclose()
    await closed(replica)


@pytest.mark.anyio
async def test_a_redis_that_hung_is_used_again(own_redis: RedisServer) -> None:
    replica = await Replica.opened(own_redis.url)
    own_redis.hang()
    await happened(lambda: replica.lost == 1)
    own_redis.resume()
    await happened(replica.fleet._subscribed.is_set)
    friend = await Replica.opened(own_redis.url)
    await friend.fleet.announce(of("serde"))
    await happened(lambda: replica.heard == [of("serde")])
    await closed(replica, friend)


@pytest.mark.anyio
async def test_words_of_strangers_are_ignored(shared_redis: RedisServer) -> None:
    replica = await Replica.opened(shared_redis.url)
    client = connection.client(shared_redis.url)
    for words in (b"noise", b"\xff", b"[]", b'{"v":2}', b'{"v":1,"kind":"lease"}'):
        await client.publish("test:fleet", words)
    friend = await Replica.opened(shared_redis.url)
    await friend.fleet.announce(of("serde"))
    await happened(lambda: replica.heard)
    assert replica.heard == [of("serde")] and replica.lost == 0
    await closed(replica, friend)
    await client.aclose()


@pytest.mark.anyio
async def test_a_listener_with_a_bug_is_logged(shared_redis: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    def broken(_: Invalidation) -> None:
        raise ValueError("a bug")

    fleet = await RedisFleet.opened(shared_redis.url, "test:", broken, lambda: None)
    friend = await Replica.opened(shared_redis.url)
    await friend.fleet.announce(of("serde"))
    await happened(lambda: "a bug" in caplog.text)
    await fleet.aclose()
    await closed(friend)


@pytest.mark.anyio
async def test_a_redis_that_lets_nobody_publish_is_no_reason_to_forget_everything(own_redis: RedisServer) -> None:
    client = connection.client(own_redis.url)
    await client.execute_command("ACL", "SETUSER", "default", "-publish")  # type: ignore[no-untyped-call]
    replica = await Replica.opened(own_redis.url)
    await replica.fleet.announce(of("serde"))
    await asyncio.sleep(0.2)
    assert replica.lost == 0 and (await replica.fleet.health()).state is State.DEGRADED
    await closed(replica)
    await client.aclose()


@pytest.mark.anyio
async def test_a_url_that_cannot_be_is_a_mistake_in_the_settings() -> None:
    with pytest.raises(SettingsError):
        await RedisFleet.opened("http://nowhere", "test:", lambda _: None, lambda: None)
