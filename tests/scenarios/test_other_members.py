"""Several members of a fleet on the row `other`: one request upstream where its answer may be everybody's."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import anyio.to_thread
import pytest

from proxy.engine.passing import Passage
from proxy.engine.transparent import Passed
from proxy.errors import Faulty
from proxy.model import Outcome
from proxy.rules import endpoints, keys, routes, wishes
from proxy.wiring import Proxy
from tests.proxied import ManualClock
from tests.scenarios.test_members import MEMBERS, members
from tests.upstream import Upstream, faults

pytestmark = pytest.mark.anyio

PATH = "/api/v1/something/new"
EACH = 5
FOR_ALL = (("cache-control", "max-age=60"),)
NOBODY: Mapping[str, str] = {}


@pytest.fixture(params=["workers", "replicas"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def ask(proxy: Proxy, fields: Mapping[str, str] = NOBODY) -> Outcome | Passed:
    match = routes.match("GET", PATH, ())
    given = tuple((name.encode(), value.encode()) for name, value in fields.items())
    wish = wishes.wish(None, None)
    found = await proxy.transparent.get(keys.read(match, endpoints.Policy()), Passage(match, "GET", PATH, given), wish)
    if isinstance(found, Passed):
        await found.answer.aclose()
    return found


async def all_of(proxies: list[Proxy], *variants: Mapping[str, str]) -> list[Outcome | Passed | BaseException]:
    """What so many clients of each member get who ask at the same time."""
    asked = (ask(proxy, fields) for proxy in proxies for _ in range(EACH) for fields in variants or (NOBODY,))
    return await asyncio.gather(*asked, return_exceptions=True)


async def test_one_asks_and_all_have_it(kind: str, upstream: Upstream, tmp_path: Path) -> None:
    upstream.fault("api", faults.Status(200, FOR_ALL, b"x"))
    async with members(kind, upstream, tmp_path, ManualClock()) as proxies:
        found = await all_of(proxies)
        assert [one.entry.body for one in found if isinstance(one, Outcome)] == [b"x"] * EACH * MEMBERS
        assert len([one for one in found if isinstance(one, Outcome) and one.stored and not one.collapsed]) == 1
    assert len(upstream.asked()) == 1


async def test_a_stale_copy_is_renewed_by_one(kind: str, upstream: Upstream, tmp_path: Path) -> None:
    clock = ManualClock()
    upstream.fault("api", faults.Status(200, (*FOR_ALL, ("etag", '"a"')), b"x"), times=1)
    upstream.fault("api", faults.Status(304, (*FOR_ALL, ("etag", '"a"')), b""))
    async with members(kind, upstream, tmp_path, clock) as proxies:
        await all_of(proxies)
        clock.now += 61
        found = await all_of(proxies)
        assert {one.entry.body for one in found if isinstance(one, Outcome)} == {b"x"}
    assert [asked.status for asked in upstream.asked()] == [200, 304]


async def test_each_variant_is_asked_for_once(kind: str, upstream: Upstream, tmp_path: Path) -> None:
    upstream.fault("api", faults.Status(200, (*FOR_ALL, ("vary", "accept-encoding")), b"x"))
    async with members(kind, upstream, tmp_path, ManualClock()) as proxies:
        found = await all_of(proxies[:1], NOBODY, {"accept-encoding": "gzip"}, {"accept-encoding": "gzip, br"})
        assert {type(one) for one in found} == {Outcome}
        assert len(upstream.asked()) == 3
        await all_of(proxies[1:], NOBODY, {"accept-encoding": "gzip"}, {"accept-encoding": "gzip, br"})
    assert len(upstream.asked()) == 3


async def test_what_may_not_be_stored_is_asked_for_by_each_and_nobody_waits_in_a_row(
    kind: str, upstream: Upstream, tmp_path: Path
) -> None:
    upstream.fault("api", faults.Status(200, (("cache-control", "no-store"),), b"x"))
    upstream.hold()
    async with members(kind, upstream, tmp_path, ManualClock()) as proxies:
        asking = asyncio.create_task(all_of(proxies))
        await anyio.to_thread.run_sync(upstream.wait_for, 1)
        upstream.release()
        upstream.hold()
        # Once it is known of the first that it was for nobody else, all others are on their way at once.
        await anyio.to_thread.run_sync(upstream.wait_for, EACH + MEMBERS - 1)
        upstream.release()
        assert {type(one) for one in await asking} == {Passed}
    assert len(upstream.asked()) == EACH * MEMBERS


async def test_who_shows_credentials_waits_for_nobody(kind: str, upstream: Upstream, tmp_path: Path) -> None:
    upstream.fault("api", faults.Status(200, FOR_ALL, b"x"))
    upstream.hold()
    async with members(kind, upstream, tmp_path, ManualClock()) as proxies:
        anybody = asyncio.create_task(ask(proxies[0]))
        await anyio.to_thread.run_sync(upstream.wait_for, 1)
        somebody = asyncio.create_task(all_of(proxies, {"authorization": "cio1"}, {"cookie": "a=b"}))
        await anyio.to_thread.run_sync(upstream.wait_for, 1 + 2 * EACH * MEMBERS)
        upstream.release()
        assert {type(one) for one in await somebody} == {Passed}
        assert isinstance(await anybody, Outcome)


async def test_what_one_cannot_get_the_next_one_can(kind: str, upstream: Upstream, tmp_path: Path) -> None:
    upstream.fault("api", faults.Garbage(), times=1)
    upstream.fault("api", faults.Status(200, FOR_ALL, b"x"))
    async with members(kind, upstream, tmp_path, ManualClock()) as proxies:
        found = await all_of(proxies)
        assert len([one for one in found if isinstance(one, Faulty)]) == EACH
        assert len([one for one in found if isinstance(one, Outcome)]) == EACH * (MEMBERS - 1)
    assert len(upstream.asked()) == 2


async def test_the_processes_of_the_machine_have_a_line_of_their_own(
    kind: str, upstream: Upstream, tmp_path: Path
) -> None:
    async with members(kind, upstream, tmp_path, ManualClock()) as proxies:
        names = [(await health).name for health in proxies[0].stores()]
    assert names[3:] == (["fleet"] if kind == "workers" else ["fleet", "machine"])
