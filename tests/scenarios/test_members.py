"""Several members of a fleet before one upstream, each an engine as a worker or a replica runs it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import anyio.to_thread
import pytest

from proxy import settings, wiring
from proxy.errors import Error, Faulty
from proxy.model import Outcome, Verdict
from proxy.rules import endpoints, keys, routes
from proxy.rules.endpoints import TIMED
from proxy.rules.keys import Read
from proxy.wiring import Proxy
from tests.proxied import GENEROUS, ManualClock
from tests.redis_server import redis_server
from tests.upstream import Upstream, faults
from tests.waiting import became

pytestmark = pytest.mark.anyio

MEMBERS = 3
CRATE = "/api/v1/crates/leaf"


def read(path: str = CRATE) -> Read:
    match = routes.match("GET", path, ())
    return keys.read(match, endpoints.policy(match.endpoint, match.query, None))


@asynccontextmanager
async def members(kind: str, upstream: Upstream, directory: Path, clock: ManualClock) -> AsyncIterator[list[Proxy]]:
    """Workers share a directory, replicas a Redis."""
    given: dict[str, object] = {
        **GENEROUS,
        **upstream.settings(),
        "upstream.renew_ceiling": 0,
    }
    async with AsyncExitStack() as stack:
        if kind == "replicas":
            given["redis.url"] = stack.enter_context(redis_server()).url
        loaded = settings.load(given, None, {}, endpoints=TIMED).settings
        places = [directory / (str(number) if kind == "replicas" else "shared") for number in range(MEMBERS)]
        yield [await stack.enter_async_context(wiring.opened(loaded, place, clock)) for place in places]


async def all_of(proxies: list[Proxy], each: int = 5) -> list[Outcome | BaseException]:
    """What so many clients of each member get who ask at the same time."""
    asked = (proxy.answers.get(read()) for proxy in proxies for _ in range(each))
    return await asyncio.gather(*asked, return_exceptions=True)


@pytest.fixture(params=["workers", "replicas"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def test_one_asks_and_all_have_it(kind: str, upstream: Upstream, tmp_path: Path) -> None:
    async with members(kind, upstream, tmp_path, ManualClock()) as proxies:
        found = [one for one in await all_of(proxies) if isinstance(one, Outcome)]
        assert len(found) == 5 * MEMBERS
        assert len({one.entry.body for one in found}) == 1
        assert [one.verdict for one in found if not one.collapsed].count(Verdict.MISS) == 1
    assert len(upstream.asked()) == 1


async def test_an_error_is_shared_once_by_those_who_waited_and_each_member_has_one_attempt(
    kind: str, upstream: Upstream, tmp_path: Path
) -> None:
    upstream.fault("api", faults.Status(500))
    async with members(kind, upstream, tmp_path, ManualClock()) as proxies:
        found = await all_of(proxies)
        assert {type(one) for one in found} == {Faulty}
        assert len(upstream.asked()) == 2 * MEMBERS  # a server's failure is worth a second request
        upstream.heal()
        assert not [one for one in await all_of(proxies) if isinstance(one, Error)]
        assert len(upstream.asked()) == 2 * MEMBERS + 1


async def test_what_one_cannot_get_the_next_one_can(kind: str, upstream: Upstream, tmp_path: Path) -> None:
    upstream.fault("api", faults.Status(500), times=2)
    async with members(kind, upstream, tmp_path, ManualClock()) as proxies:
        found = await all_of(proxies)
        assert len([one for one in found if isinstance(one, Faulty)]) == 5
        assert len([one for one in found if isinstance(one, Outcome)]) == 5 * (MEMBERS - 1)
    assert len(upstream.asked()) == 3


async def test_a_refresh_behind_a_stale_answer_is_one_for_all(kind: str, upstream: Upstream, tmp_path: Path) -> None:
    clock = ManualClock()
    async with members(kind, upstream, tmp_path, clock) as proxies:
        await all_of(proxies)
        clock.now += 400
        upstream.hold()
        found = [one for one in await all_of(proxies) if isinstance(one, Outcome)]
        assert {(one.verdict, one.detail) for one in found} == {(Verdict.STALE, "stale-while-revalidate")}
        await anyio.to_thread.run_sync(upstream.wait_for, 2)
        upstream.release()
        await became(
            lambda: all_of(proxies),
            lambda found: {one.verdict for one in found if isinstance(one, Outcome)} == {Verdict.HIT},
        )
    assert len(upstream.asked()) == 2


async def test_an_answer_that_must_not_be_stored_is_fetched_by_each(
    kind: str, upstream: Upstream, tmp_path: Path
) -> None:
    headers = (("content-type", "application/json"), ("cache-control", "no-store"))
    upstream.fault("api", faults.Status(200, headers, b'{"crate": {}}'))
    async with members(kind, upstream, tmp_path, ManualClock()) as proxies:
        found = await all_of(proxies)
        assert {one.stored for one in found if isinstance(one, Outcome)} == {False}
    assert len(upstream.asked()) == MEMBERS


async def test_tarballs_are_fetched_once_in_each_directory(kind: str, upstream: Upstream, tmp_path: Path) -> None:
    async with members(kind, upstream, tmp_path, ManualClock()) as proxies:
        found = await asyncio.gather(*(each.downloads.get("leaf", "1.0.0") for each in proxies for _ in range(5)))
        own = [one for one in found if not one.collapsed and one.verdict is Verdict.MISS]
        for proxy, one in zip([each for each in proxies for _ in range(5)], found, strict=True):
            await proxy.downloads.done(one)
    fetches = MEMBERS if kind == "replicas" else 1
    assert len(own) == len(upstream.asked(host="static")) == fetches
    assert len(upstream.asked(host="index")) == 1
