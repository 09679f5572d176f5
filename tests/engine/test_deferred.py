"""What was put off, and when it is made good: in which order, how often, and never against what is allowed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any

from proxy.engine.deferred import Deferred
from proxy.rules import endpoints, keys, routes
from proxy.rules.keys import Read
from tests import virtual_time

TTL = 300.0


def crate(number: int) -> Read:
    match = routes.match("GET", f"/api/v1/crates/crate-{number}", ())
    return keys.read(match, replace(endpoints.policy(match.endpoint, ()), ttl=TTL))


@dataclass
class Api:
    """Lets one through in so many seconds. `tried`: when, which and whether it went."""

    every: float = 1.0
    hold_until: float = 0.0
    tried: list[tuple[float, str, bool]] = field(default_factory=list)
    free_at: float = 0.0

    async def refresh(self, read: Read) -> float:
        await asyncio.sleep(0)
        assert (read.no_cache, read.only_if_cached) == (False, False), "nobody's wishes but for the thing itself"
        now = asyncio.get_running_loop().time()
        goes = now >= self.free_at
        self.tried.append((now, read.key.rpartition("/")[2], goes))
        if not goes:
            return self.free_at - now
        self.free_at = now + self.every
        return 0.0

    def held(self) -> float:
        return max(0.0, self.hold_until - asyncio.get_running_loop().time())

    @property
    def fetched(self) -> list[str]:
        return [which for _, which, goes in self.tried if goes]


@contextlib.asynccontextmanager
async def deferred(api: Api, most: int = 10_000, pace: float = 0.0) -> AsyncIterator[Deferred]:
    made = Deferred(refresh=api.refresh, held=api.held, clock=virtual_time.clock(), most=most, pace=pace)
    made.start()
    try:
        yield made
    finally:
        await made.aclose()


def played(play: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with virtual_time.running() as runner:
        runner.run(play())


def test_those_who_wait_longest_come_first_each_once_as_there_is_room() -> None:
    async def play() -> None:
        api = Api()
        async with deferred(api) as made:
            for number in (1, 2, 3, 1):
                made.note(replace(crate(number), no_cache=True, only_if_cached=True))
            assert len(made) == 3
            await asyncio.sleep(100)
            assert (api.fetched, len(made)) == (["crate-2", "crate-3", "crate-1"], 0)
            assert [at for at, _, goes in api.tried if goes] == [0.0, 1.0, 2.0]
            assert len(api.tried) == 5, "whoever was refused comes when it was told to, not before"

    played(play)


def test_nothing_is_tried_twice_within_its_ttl() -> None:
    async def play() -> None:
        api = Api()
        async with deferred(api) as made:
            for pause in (1, 100, TTL - 102, 2):
                made.note(crate(1))
                await asyncio.sleep(pause)
            assert api.fetched == ["crate-1"]
            made.note(crate(1))
            await asyncio.sleep(1)
            assert api.fetched == ["crate-1"] * 2

    played(play)


def test_while_the_api_is_held_nothing_is_tried() -> None:
    async def play() -> None:
        api = Api(hold_until=300.0)
        async with deferred(api) as made:
            made.note(crate(1))
            await asyncio.sleep(299)
            assert api.tried == []
            await asyncio.sleep(2)
            assert api.tried == [(300.0, "crate-1", True)]

    played(play)


def test_of_too_many_the_one_that_nobody_has_wanted_for_longest_is_forgotten() -> None:
    async def play() -> None:
        api = Api(hold_until=10.0)
        async with deferred(api, most=2) as made:
            for number in (1, 2, 1, 3):
                made.note(crate(number))
            assert len(made) == 2
            await asyncio.sleep(20)
            assert api.fetched == ["crate-1", "crate-3"]
            for number in (4, 1, 3):
                made.note(crate(number))
            await asyncio.sleep(20)
            assert api.fetched[2:] == ["crate-4"]
            made.note(crate(1))
            await asyncio.sleep(20)
            assert api.fetched[3:] == ["crate-1"], "nor is it kept in mind when more than so many were tried"

    played(play)


def test_where_there_is_no_hurry_one_goes_now_and_then_and_all_have_their_turn() -> None:
    async def play() -> None:
        api = Api()
        async with deferred(api, pace=100.0) as made:
            for _ in range(4):  # a tool that reads all of them again before all had their turn
                for number in range(6):
                    made.note(crate(number))
                await asyncio.sleep(160)
        assert [(at, which) for at, which, _ in api.tried] == [(100.0 * n, f"crate-{n % 6}") for n in range(7)]

    played(play)


def test_only_the_api_has_a_budget_and_after_the_end_nothing_is_tried() -> None:
    async def play() -> None:
        api = Api(every=5.0)
        async with deferred(api) as made:
            made.note(keys.index_read("le/af/leaf"))
            assert len(made) == 0
            for number in range(4):
                made.note(crate(number))
            await asyncio.sleep(6)
        tried = len(api.tried)
        await asyncio.sleep(100)
        assert api.fetched == ["crate-0", "crate-1"] and len(api.tried) == tried

    played(play)


def test_who_wants_it_while_it_is_being_fetched_is_served_by_that() -> None:
    async def play() -> None:
        going, over = asyncio.Event(), asyncio.Event()
        tried: list[Read] = []

        async def refresh(read: Read) -> float:
            tried.append(read)
            going.set()
            await over.wait()
            return 0.0

        made = Deferred(refresh=refresh, held=lambda: 0.0, clock=virtual_time.clock())
        made.note(crate(1))
        made.start()
        await going.wait()
        made.note(crate(1))
        over.set()
        await asyncio.sleep(10)
        assert (tried, len(made)) == ([crate(1)], 0)
        await made.aclose()

    played(play)
