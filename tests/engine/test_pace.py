"""Who goes on when, in turns of the loop and in virtual time."""

from __future__ import annotations

import asyncio
import time

import pytest

from proxy.engine.pace import Beat, Pace
from tests import virtual_time


@pytest.mark.anyio
@pytest.mark.parametrize("few", [1, 3])
async def test_few_are_let_through_at_a_time_in_the_order_in_which_they_came(few: int) -> None:
    pace, order, inside, most = Pace(few), list[int](), set[int](), 0

    async def one(number: int) -> None:
        nonlocal most
        await pace.turn()
        inside.add(number)
        most = max(most, len(inside))
        await asyncio.sleep(0)
        order.append(number)
        inside.discard(number)

    await asyncio.gather(*(one(number) for number in range(20)))
    assert order == list(range(20)) and most == few


@pytest.mark.anyio
async def test_what_the_first_bring_is_there_before_the_next_begin() -> None:
    """As a client has its answer two turns after what was judged for it."""
    pace, said = Pace(1), list[str]()

    async def judged(number: int, told: asyncio.Future[None]) -> None:
        await pace.turn()
        said.append(f"judged {number}")
        told.set_result(None)

    async def client(number: int) -> None:
        told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        asyncio.create_task(judged(number, told)).add_done_callback(lambda task: task.result())
        await told
        said.append(f"answered {number}")

    await asyncio.gather(*(client(number) for number in range(5)))
    assert said == [f"{what} {number}" for number in range(5) for what in ("judged", "answered")]


@pytest.mark.anyio
async def test_who_gives_up_or_fails_takes_no_turn_of_others() -> None:
    pace, through = Pace(1), list[int]()

    async def one(number: int) -> None:
        await pace.turn()
        through.append(number)
        raise ValueError(number)

    tasks = [asyncio.create_task(one(number)) for number in range(6)]
    await asyncio.sleep(0)
    for given_up in tasks[1:4]:
        given_up.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert through == [0, 4, 5]
    for _ in range(5):
        await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await pace.turn()  # it is free again


@pytest.mark.anyio
async def test_who_has_waited_for_long_waits_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.engine.pace.LONG", 0.005)
    pace, turns = Pace(1), list[int]()

    async def one(number: int) -> None:
        await pace.turn()
        turns.append(number)

    tasks = [asyncio.create_task(one(number)) for number in range(20)]
    await asyncio.sleep(0)
    time.sleep(0.01)  # the loop has other things to do
    for _ in range(6):
        await asyncio.sleep(0)
    assert turns == list(range(20))
    await asyncio.gather(*tasks)
    async with asyncio.timeout(5):
        await pace.turn()


def test_all_who_wait_for_a_beat_go_on_with_it() -> None:
    async def main() -> None:
        beat, loop, went_on = Beat(0.5), asyncio.get_running_loop(), list[tuple[float, float]]()

        async def one(at: float) -> None:
            await asyncio.sleep(at)
            await beat.wait()
            went_on.append((at, loop.time()))

        tasks = [asyncio.create_task(one(at)) for at in (0.0, 0.1, 0.2, 0.3, 0.7, 0.8)]
        await asyncio.sleep(0.25)
        tasks[2].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert dict(went_on) == {at: pytest.approx(0.5) for at in (0.0, 0.1, 0.3)} | {
            at: pytest.approx(1.2) for at in (0.7, 0.8)
        }

    with virtual_time.running() as runner:
        runner.run(main())
