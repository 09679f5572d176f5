"""What every form of the budget keeps: one for all members, in the order of asking, over the death of any of them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.fleet.base import Budget, Hold, Turn
from proxy.fleet.bookings import Bookings
from proxy.fleet.journal import File
from proxy.fleet.local import LocalFleet
from proxy.fleet.purse import Purse
from proxy.fleet.redis import RedisFleet
from proxy.fleet.redis_scripts import BOOK, STANDING
from proxy.model import Host
from proxy.rules import bucket
from proxy.rules.bucket import FURTHEST, LEFT, Booked, Bucket, Limits, Refused, Urgency
from proxy.rules.holds import Why
from proxy.stores import connection
from tests.fleet.member import Spawn
from tests.redis_server import RedisServer
from tests.waiting import became, happened

pytestmark = pytest.mark.anyio

CLIENT, CALLER, REFRESH = Urgency.CLIENT, Urgency.CALLER, Urgency.REFRESH
SLOW = Limits(rate=0.1, burst=3, window=500, max_wait=25.0)
HOLD = Hold(60.0, Why.LIMITED, "too many requests from the same IP")


@contextlib.asynccontextmanager
async def members(kind: str, where: Path, redis: RedisServer | None, count: int = 2) -> AsyncIterator[list[Budget]]:
    """So many members of one fleet, in this process."""
    async with contextlib.AsyncExitStack() as stack:
        budgets: list[Budget] = []
        for _ in range(count):
            if kind == "local":
                local = await LocalFleet.opened(where, lambda _: None, lambda: None, limits=SLOW)
                stack.push_async_callback(local.aclose)
                budgets.append(local.budget)
            elif kind == "redis":
                assert redis is not None
                fleet = await RedisFleet.opened(redis.url, f"{where.name}:", lambda _: None, lambda: None, limits=SLOW)
                stack.push_async_callback(fleet.aclose)
                budgets.append(fleet.budget)
        yield budgets


@pytest.fixture(params=["local", "redis"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def redis(kind: str, request: pytest.FixtureRequest) -> RedisServer | None:
    return request.getfixturevalue("shared_redis") if kind == "redis" else None


def waits(turns: list[Turn | Refused]) -> list[float | str]:
    """Rounded to the time that a few of them take on a busy machine: one goes in ten seconds."""
    return [tens(each.wait) if isinstance(each, Turn) else "no" for each in turns]


def tens(seconds: float) -> int:
    return 10 * round(seconds / 10)


async def test_all_members_book_from_one_budget_in_the_order_of_asking(
    kind: str, tmp_path: Path, redis: RedisServer | None
) -> None:
    async with members(kind, tmp_path, redis) as (one, other):
        turns = [await each.book(CLIENT) for each in (one, other, one, other, one, other)]
        assert waits(turns) == [0, 0, 0, 10, 20, "no"]
        promises = [await each.book(CLIENT) for each in (one, other)]
        assert [tens(each.retry_after) for each in promises if isinstance(each, Refused)] == [40, 50]
        standing = await one.standing()
        assert (standing.free, standing.recent, standing.alone) == (0, 5, "")


async def test_machines_leave_it_to_people(kind: str, tmp_path: Path, redis: RedisServer | None) -> None:
    async with members(kind, tmp_path, redis) as (one, other):
        assert waits([await one.book(REFRESH), await other.book(Urgency.MACHINE)]) == [0, "no"]
        assert waits([await other.book(REFRESH), await one.book(REFRESH), await one.book(CLIENT)]) == [0, "no", 0]


async def test_a_request_in_its_callers_name_is_counted(kind: str, tmp_path: Path, redis: RedisServer | None) -> None:
    async with members(kind, tmp_path, redis) as (one, other):
        for budget in (one, other, one, other):
            budget.spend()
        await became(other.standing, lambda standing: standing.recent >= 4)
        assert waits([await one.book(CLIENT)]) == [20]


async def test_a_turn_given_back_is_the_next_ones(kind: str, tmp_path: Path, redis: RedisServer | None) -> None:
    async with members(kind, tmp_path, redis) as (one, other):
        turns = [await one.book(CLIENT) for _ in range(5)]
        assert waits(turns) == [0, 0, 0, 10, 20]
        assert isinstance(turns[4], Turn)
        turns[4].give_back()
        await became(one.standing, lambda standing: standing.recent <= 4)
        assert waits([await other.book(CLIENT)]) == [20]


async def test_a_hold_is_known_to_all_at_once_and_to_who_comes_later(
    kind: str, tmp_path: Path, redis: RedisServer | None
) -> None:
    async with members(kind, tmp_path, redis) as (one, other):
        one.hold(Host.API, HOLD)
        one.hold(Host.INDEX, Hold(30.0, Why.TOLD))
        assert one.held(Host.API) is not None
        await happened(lambda: other.held(Host.API) and other.held(Host.INDEX))
        other.hold(Host.API, Hold(5.0, Why.TOLD, "shorter"))
        held = other.held(Host.API)
        assert held is not None and (held.why, held.words) == (HOLD.why, HOLD.words) and 50 < held.seconds <= 60
        assert other.held(Host.STATIC) is None
        answer = await other.book(CLIENT)
        assert isinstance(answer, Refused) and 50 < answer.retry_after <= 60
        standing = await other.standing()
        assert standing.free == 0 and set(standing.holds) == {Host.API, Host.INDEX}
        async with members(kind, tmp_path, redis, count=1) as (late,):
            await happened(lambda: late.held(Host.API))


async def test_a_crowd_at_once_costs_no_more_than_it_may(kind: str, tmp_path: Path, redis: RedisServer | None) -> None:
    async with members(kind, tmp_path, redis) as budgets:
        turns = await asyncio.gather(*(budgets[number % 2].book(CLIENT) for number in range(1000)))
        assert sorted(tens(turn.wait) for turn in turns if isinstance(turn, Turn)) == [0, 0, 0, 10, 20]
        told = [round(turn.retry_after / 10) for turn in turns if isinstance(turn, Refused)]
        assert len(told) == 995
        # Two hours of promises, and then the next round of them: nobody is told the same as everybody.
        assert max(told.count(each) for each in set(told)) <= 3


def test_what_a_killed_hub_has_let_go_is_not_let_go_again(tmp_path: Path, spawn: Spawn) -> None:
    first = spawn("local", str(tmp_path))
    first.until("open")
    second = spawn("local", str(tmp_path))
    second.until("open")
    begun = time.monotonic()
    first.book(8)
    assert first.until("booked")["waits"] == [0] * 8
    first.signal(signal.SIGKILL)
    first.process.wait()
    second.book(4)
    told, spacing = second.until("booked")["waits"], Limits().spacing
    took = time.monotonic() - begun + 0.002  # the loop's clock counts milliseconds
    assert told[:2] == [0, 0]
    for ahead, wait in enumerate(told[2:], 1):
        assert ahead * spacing - took <= wait <= ahead * spacing
    second.signal(signal.SIGKILL)
    second.process.wait()
    third = spawn("local", str(tmp_path))
    third.until("open")
    third.standing()
    assert third.until("standing")["recent"] == 12


def journal(path: Path, wall: float, steady: float = 0.0, boot: str = "") -> File:
    """One whose clocks stand still."""
    return File(path, lambda: wall, lambda: steady, boot)


async def test_a_restart_forgets_neither_what_was_spent_nor_who_is_held(tmp_path: Path) -> None:
    now = [1_700_000_000.0]

    def opened(at: float) -> Purse:
        return Purse(SLOW, journal(tmp_path / "budget", now[0]), at)

    purse = opened(50.0)
    for _ in range(5):
        purse.book(50.0, CLIENT)
    assert purse.hold(50.0, Host.STATIC, HOLD) and not purse.hold(50.0, Host.STATIC, HOLD)
    with (tmp_path / "budget").open("ab") as file:  # what kill -9 leaves, and what somebody else wrote
        file.write(b'{"spent": 17000\n[]\n{"held": "moon", "until": 1e12, "why": "told", "words": ""}\n{"spen')
    now[0] += 5
    purse = opened(7.0)  # another boot, another clock
    assert purse.standing(7.0).recent == 5
    assert waits_of(purse.book(7.0, CLIENT), 7.0) == 25
    held = purse.held(7.0, Host.STATIC)
    assert held is not None and held.seconds == pytest.approx(55.0)
    now[0] += 596
    assert opened(0.0).standing(0.0).recent == 3, "the two that went latest, and the last one booked"
    now[0] -= 90_000
    purse = opened(0.0)  # a clock that went backwards makes it later, not more
    assert purse.standing(0.0).recent == 3 and purse.held(0.0, Host.STATIC) is None
    assert (tmp_path / "budget").stat().st_mode & 0o077 == 0


def waits_of(answer: Booked | Refused, now: float) -> float:
    return answer.at - now if isinstance(answer, Booked) else -1.0


@pytest.mark.parametrize("seconds, left", [(1.0, 1.0), (300.0, 300.0)])
async def test_a_hold_lasts_no_longer_than_it_was_told_whatever_the_clock_does(
    tmp_path: Path, seconds: float, left: float
) -> None:
    """Told while the clock was an hour ahead, read after it was set right."""
    Purse(SLOW, journal(tmp_path / "budget", 4600.0), 0.0).hold(0.0, Host.API, Hold(seconds, Why.TOLD, "wait"))
    held = Purse(SLOW, journal(tmp_path / "budget", 1000.0), 0.0).held(0.0, Host.API)
    assert held is not None and held.seconds == pytest.approx(left)


@pytest.mark.parametrize("jump", [-3600.0, 0.0, 3600.0])
async def test_a_wall_clock_that_was_wrong_for_a_while_changes_nothing_until_the_machine_boots_anew(
    tmp_path: Path, jump: float
) -> None:
    """All is written while it is wrong, and read when it is right again."""
    path = tmp_path / "budget"
    purse = Purse(SLOW, journal(path, 10_000.0 + jump, 700.0, "this"), 700.0)
    for at in (660.0, 670.0, 690.0):
        purse.note(700.0, f"at {at}", at)
    purse.hold(700.0, Host.API, Hold(30.0, Why.TOLD, "wait"))
    purse = Purse(SLOW, journal(path, 10_010.0, 710.0, "this"), 710.0)
    assert purse.known(710.0) == [("at 660.0", 660.0), ("at 670.0", 670.0), ("at 690.0", 690.0)]
    held = purse.held(710.0, Host.API)
    assert held is not None and held.seconds == pytest.approx(20.0)


async def test_after_a_boot_what_a_clock_ahead_wrote_keeps_its_distances(tmp_path: Path) -> None:
    """The clock is right again: what cannot be later than now is not, and was not all sent in this moment."""
    path = tmp_path / "budget"
    purse = Purse(SLOW, journal(path, 13_600.0, 700.0, "this"), 700.0)
    for at in (400.0, 660.0, 690.0):
        purse.note(700.0, f"at {at}", at)
    purse = Purse(SLOW, journal(path, 10_010.0, 5.0, "the next"), 5.0)
    assert purse.known(5.0) == [("at 400.0", -285.0), ("at 660.0", -25.0), ("at 690.0", 5.0)]
    assert waits_of(purse.book(5.0, CLIENT), 5.0) == 0, "as in a burst of three that began 25 s ago"


async def test_the_journal_does_not_grow_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "budget"
    purse = Purse(Limits(rate=1000.0, burst=1000, window=1_000_000), journal(path, 0.0), 0.0)
    for number in range(10_000):
        purse.book(number * 1.0, CALLER)
    assert len(path.read_bytes().splitlines()) < 4000
    assert purse.standing(9999.0).recent == 600


async def test_a_journal_that_cannot_be_written_is_told_once_and_costs_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    purse = Purse(SLOW, journal(tmp_path / "missing" / "budget", 0.0), 0.0)
    assert [waits_of(purse.book(0.0, CLIENT), 0.0) for _ in range(4)] == [0, 0, 0, 10]
    assert len([record for record in caplog.records if "cannot be written" in record.message]) == 1


async def test_a_member_alone_takes_its_part_and_no_burst() -> None:
    alone = Bookings(SLOW, workers=2)
    assert waits([await alone.book(CLIENT) for _ in range(3)]) == [0, 20, "no"]
    alone.spend()
    standing = await alone.standing()
    assert standing.alone and standing.recent == 3
    turn = await Bookings(SLOW).book(CLIENT)
    assert isinstance(turn, Turn)
    turn.give_back()


async def test_a_hub_that_hangs_leaves_each_its_part(tmp_path: Path, spawn: Spawn) -> None:
    hub = spawn("local", str(tmp_path))
    await asyncio.to_thread(hub.until, "open")
    fleet = await LocalFleet.opened(tmp_path, lambda _: None, lambda: None, limits=SLOW, workers=2)
    os.kill(hub.process.pid, signal.SIGSTOP)
    loop = asyncio.get_running_loop()
    begun = loop.time()
    turns = await asyncio.gather(*(fleet.budget.book(CLIENT) for _ in range(3)))
    assert waits(list(turns)) == [0, 20, "no"]
    assert loop.time() - begun < 5.0
    begun = loop.time()
    fleet.budget.spend()
    for _ in range(6):
        assert (await fleet.budget.standing()).alone
    assert loop.time() - begun < 5.0, "a hub that said nothing is not waited for again"
    os.kill(hub.process.pid, signal.SIGCONT)
    async with asyncio.timeout(10):
        while (await fleet.budget.standing()).alone:
            fleet.budget.hold(Host.STATIC, Hold(1.0 + loop.time() - begun, Why.TOLD))  # it speaks again
            await asyncio.sleep(0.01)
    await fleet.aclose()


async def test_without_redis_each_machine_takes_its_part_until_it_is_back(
    own_redis: RedisServer, tmp_path: Path
) -> None:
    machines = [await LocalFleet.opened(place, lambda _: None, lambda: None, limits=SLOW) for place in places(tmp_path)]
    fleets = [
        await RedisFleet.opened(
            own_redis.url, "t:", lambda _: None, lambda: None, limits=SLOW, apart=each.budget, machine=str(number)
        )
        for number, each in enumerate(machines)
    ]
    one, other = (fleet.budget for fleet in fleets)
    assert waits([await one.book(REFRESH), await other.book(REFRESH), await one.book(CLIENT)]) == [0, 0, 0]
    own_redis.kill()
    for each in (one, other):
        await became(each.standing, lambda standing: standing.alone)
    # Two machines were seen: each has half the rate, behind what Redis granted it.
    assert waits([await one.book(CLIENT) for _ in range(3)]) == [20, "no", "no"]
    assert waits([await other.book(CLIENT) for _ in range(3)]) == [10, "no", "no"]
    one.spend()
    one.hold(Host.API, HOLD)
    assert isinstance(await one.book(CLIENT), Refused)
    own_redis.start()
    for each in (one, other):
        await became(each.standing, lambda standing: not standing.alone)
    # It is empty, and told by each what it knows.
    assert (await other.standing()).recent == 6
    assert waits([await other.book(CLIENT)]) == ["no"]
    for fleet in fleets:
        await fleet.aclose()
    for machine in machines:
        await machine.aclose()


def places(directory: Path) -> list[Path]:
    made = [directory / str(number) for number in range(2)]
    for each in made:
        each.mkdir()
    return made


steps = st.lists(
    st.tuples(st.sampled_from([0, 0, 1, 300, 1000, 2500, 40_000]), st.sampled_from(list(Urgency))), max_size=60
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(window=st.integers(1, 20), burst=st.integers(1, 8), crowd=steps)
async def test_redis_does_the_same_arithmetic(
    shared_redis: RedisServer, window: int, burst: int, crowd: list[tuple[int, Urgency]]
) -> None:
    limits = Limits(rate=2.0, burst=burst, window=window, max_wait=7.0)
    client = connection.client(shared_redis.url)
    await client.delete("a:budget", "a:times")
    state, milliseconds = Bucket(), 1_700_000_000_000
    spacing, wait = round(limits.spacing * 1e6), int(limits.max_wait * 1e6)
    for number, (pause, urgency) in enumerate(crowd):
        milliseconds += pause
        given_ = (milliseconds * 1000, spacing, burst, window, wait)
        left = LEFT.get(urgency, "")
        keys = ("a:budget", "a:times", "a:hold")
        values = (*given_, urgency.value, left, int(FURTHEST * 1e6), str(number), "")
        granted, microseconds = await client.eval(BOOK, len(keys), *keys, *values)
        state, answer = bucket.book(state, limits, milliseconds / 1000, urgency)
        told = answer.at - milliseconds / 1000 if isinstance(answer, Booked) else answer.retry_after
        assert bool(granted) == isinstance(answer, Booked)
        assert int(microseconds) / 1e6 == pytest.approx(told, abs=0.001)
        free, _ = await client.eval(STANDING, 2, *keys[:2], *given_)
        assert free == bucket.free(state, limits, milliseconds / 1000)
    await client.aclose()


async def test_strangers_words_about_the_budget_are_ignored(tmp_path: Path) -> None:
    async with members("local", tmp_path, None, count=1) as (budget,):
        reader, writer = await asyncio.open_unix_connection(tmp_path / "fleet.sock")
        for message in (
            {"kind": "book", "id": "1", "urgency": "now!", "parts": 0},
            {"kind": "book", "id": 1},
            {"kind": "give back", "at": "yesterday"},
            {"kind": "hold", "host": "moon", "seconds": 1, "why": "told", "words": ""},
            {"kind": "hold", "host": "api"},
            {"kind": "standing", "id": "7"},
        ):
            writer.write(json.dumps({"v": 1, **message}).encode() + b"\n")
        answers = [json.loads(await reader.readline()) for _ in range(2)]
        assert [each["kind"] for each in answers] == ["welcome", "standing"]
        assert (await budget.standing()).recent == 0
        writer.close()
