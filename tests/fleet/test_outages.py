"""The limits hold, too, where Redis or a hub is lost and comes back knowing nothing."""

from __future__ import annotations

import asyncio
import bisect
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.fleet.base import Budget, Turn
from proxy.fleet.bookings import Bookings
from proxy.fleet.journal import Nowhere
from proxy.fleet.local import LocalFleet
from proxy.fleet.purse import Purse
from proxy.fleet.redis import RedisFleet
from proxy.fleet.redis_scripts import BOOK, MERGE
from proxy.rules import bucket
from proxy.rules.bucket import FURTHEST, WINDOW, Booked, Bucket, Limits, Urgency
from proxy.stores import connection
from tests.redis_server import RedisServer
from tests.waiting import became

CLIENT = Urgency.CLIENT
LIMITS = Limits(rate=0.05, burst=4, window=30, max_wait=60.0)  # one in 20 s
Outage = tuple[float, float, bool]  # seconds until it, and that it lasts, and whether Redis forgets


def worst(limits: Limits, machines: int, outages: Sequence[Outage]) -> int:
    """The most that went in any ten minutes, where all ask for as much as they get, and lose Redis together."""
    shared, apart = Purse(limits, Nowhere(), 0.0), [Purse(limits, Nowhere(), 0.0) for _ in range(machines)]
    sent, now, number = list[float](), 0.0, 0

    def asked(purse: Purse, parts: int, own: Purse) -> bool:
        nonlocal number
        number += 1
        answer = purse.book(now, CLIENT, parts, str(number))
        if isinstance(answer, Booked):
            sent.append(answer.at)
            own.note(now, str(number), answer.at)
        return isinstance(answer, Booked)

    for until, lasts, forgets in [*outages, (2 * WINDOW, 0.0, False)]:
        end = now + until
        while now < end:
            while any([asked(shared, 0, own) for own in apart]):
                pass
            now += 5.0
        end = now + lasts
        while now < end:
            while any([asked(own, machines, own) for own in apart]):
                pass
            now += 5.0
        if forgets:
            shared = Purse(limits, Nowhere(), now)
        for own in apart:
            for name, at in own.known(now):
                shared.note(now, name, at)
    sent.sort()
    return max(bisect.bisect_left(sent, at + WINDOW) - first for first, at in enumerate(sent))


outages_ = st.lists(
    st.tuples(st.sampled_from([5.0, 60.0, 150.0, 400.0]), st.sampled_from([0.0, 5.0, 90.0, 400.0]), st.booleans()),
    max_size=5,
)


@settings(deadline=None, max_examples=60)
@given(outages_)
def test_one_machine_never_passes_the_window_whatever_happens_to_redis(outages: list[Outage]) -> None:
    assert worst(LIMITS, 1, outages) <= LIMITS.window


@settings(deadline=None, max_examples=60)
@given(st.integers(2, 4), outages_)
def test_several_machines_pass_it_by_little(machines: int, outages: list[Outage]) -> None:
    assert (
        worst(LIMITS, machines, outages) <= LIMITS.window + LIMITS.burst + LIMITS.max_wait / LIMITS.spacing + machines
    )


async def all_of(budget: Budget) -> int:
    """How often it lets somebody go until it does not."""
    count = 0
    while isinstance(await budget.book(CLIENT), Turn):
        count += 1
    return count


async def alone(budget: Budget, expected: bool) -> None:
    await became(budget.standing, lambda standing: bool(standing.alone) is expected)


async def replica(redis: RedisServer, place: Path, name: str, limits: Limits) -> tuple[RedisFleet, LocalFleet]:
    place.mkdir()
    local = await LocalFleet.opened(place, lambda _: None, lambda: None, limits=limits)
    fleet = await RedisFleet.opened(
        redis.url, "t:", lambda _: None, lambda: None, limits=limits, apart=local.budget, machine=name
    )
    return fleet, local


@pytest.mark.anyio
async def test_no_change_between_redis_and_alone_gives_a_burst_anew(own_redis: RedisServer, tmp_path: Path) -> None:
    limits = Limits(rate=0.1, burst=5, window=500, max_wait=25.0)
    fleet, local = await replica(own_redis, tmp_path / "a", "a", limits)
    assert await all_of(fleet.budget) == 7  # the burst, and two ahead
    own_redis.kill()
    await alone(fleet.budget, True)
    assert await all_of(fleet.budget) == 0
    own_redis.start()
    await alone(fleet.budget, False)
    assert (await fleet.budget.standing()).recent == 7
    assert await all_of(fleet.budget) == 0
    await fleet.aclose()
    await local.aclose()


@pytest.mark.anyio
async def test_a_redis_that_forgets_while_all_stay_connected_is_told_before_anybody_books(
    own_redis: RedisServer, tmp_path: Path
) -> None:
    limits = Limits(rate=0.1, burst=5, window=500, max_wait=25.0)
    made = [await replica(own_redis, tmp_path / name, name, limits) for name in "ab"]
    (one, _), (other, _) = made
    other.budget.spend()
    await became(other.budget.standing, lambda standing: standing.recent)
    assert await all_of(one.budget) == 6
    client = connection.client(own_redis.url)
    for _ in range(3):
        await client.flushall()
        assert await all_of(one.budget) <= 1, "what the other spent is unknown until it hears of it"
        await became(one.budget.standing, lambda standing: standing.recent >= 7)
        assert await all_of(one.budget) == 0
    await client.aclose()
    for fleet, local in made:
        await fleet.aclose()
        await local.aclose()


@pytest.mark.anyio
async def test_all_machines_know_how_many_they_are_even_those_that_never_asked(
    own_redis: RedisServer, tmp_path: Path
) -> None:
    limits = Limits(rate=0.1, burst=5, window=500, max_wait=100.0)
    made = [await replica(own_redis, tmp_path / name, name, limits) for name in "abcd"]
    client = connection.client(own_redis.url)
    await became(lambda: client.zcard("t:budget:machines"), lambda machines: machines == 4)
    await client.aclose()
    await asyncio.gather(*(alone(fleet.budget, False) for fleet, _ in made))
    assert isinstance(await made[0][0].budget.book(CLIENT), Turn)
    own_redis.kill()
    await asyncio.gather(*(alone(fleet.budget, True) for fleet, _ in made))
    # Of four parts each is one in 40 s.
    assert [await all_of(fleet.budget) for fleet, _ in made[1:]] == [3, 3, 3]
    for fleet, local in made:
        await fleet.aclose()
        await local.aclose()


@pytest.mark.anyio
async def test_a_hub_is_told_what_was_spent_without_it(tmp_path: Path) -> None:
    limits = Limits(rate=0.1, burst=5, window=500, max_wait=25.0)
    fleet = await LocalFleet.opened(tmp_path, lambda _: None, lambda: None, limits=limits)
    budget = Bookings(limits)
    for number in range(900):
        budget.note(f"{number:04}", asyncio.get_running_loop().time() - 1)
    assert len(await budget.known()) == 900
    reader, writer = await asyncio.open_unix_connection(tmp_path / "fleet.sock")
    budget.joined(writer.write)
    budget.joined(writer.write)  # the same once more counts once
    await became(fleet.budget.standing, lambda standing: standing.recent >= 900)
    assert (await fleet.budget.standing()).recent == 900
    assert len(await fleet.budget.known()) == 900, "told in pages"
    writer.close()
    await fleet.aclose()


@settings(deadline=None, max_examples=20)
@given(st.permutations(range(12)), st.lists(st.floats(-500.0, 5.0), min_size=12, max_size=12))
@pytest.mark.anyio
async def test_redis_takes_what_it_is_told_as_the_arithmetic_does(
    shared_redis: RedisServer, order: list[int], ages: list[float]
) -> None:
    limits, now = Limits(rate=0.1, burst=5, window=500, max_wait=100.0), 1_700_000_000.0
    ages = [round(each, 3) for each in ages]
    client = connection.client(shared_redis.url)
    await client.delete("m:budget", "m:times", "m:machines")
    given_ = (int(now * 1e6), round(limits.spacing * 1e6), limits.burst, limits.window, int(limits.max_wait * 1e6))
    state = Bucket()
    for number in order:
        state = bucket.noted(state, limits, now, now + ages[number])
    for told in (order[:7], order[3:], order):  # some of it more than once
        words = [part for number in told for part in (str(number), int(ages[number] * 1e6))]
        age, *machines = await client.eval(
            MERGE, 3, "m:budget", "m:times", "m:machines", *given_, "new", "channel", "word", "me", 1, "you", *words
        )
        assert (age, machines) == (b"new", [b"me", b"you"])
    values = (*given_, CLIENT.value, "", int(FURTHEST * 1e6), "next", "new")
    answer, microseconds = await client.eval(BOOK, 3, "m:budget", "m:times", "m:hold", *values)
    _, expected = bucket.book(state, limits, now, CLIENT)
    assert bool(answer) == isinstance(expected, Booked)
    in_order = Bucket()
    for at in sorted(ages):
        in_order = bucket.sent(in_order, limits, now + at)
    assert bucket.book(in_order, limits, now, CLIENT)[1] == expected or math.isclose(in_order.full_at, state.full_at)
    seconds = expected.at - now if isinstance(expected, Booked) else expected.retry_after
    assert int(microseconds) / 1e6 == pytest.approx(seconds, abs=0.001)
    await client.aclose()
