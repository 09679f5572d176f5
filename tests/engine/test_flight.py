from __future__ import annotations

import asyncio
import weakref

import pytest

from proxy.engine.flight import Flights, Meanwhile
from proxy.errors import Faulty

pytestmark = pytest.mark.anyio


class Load:
    """Something to fetch that ends when it is told to. `starts` counts how often it was begun."""

    def __init__(self) -> None:
        self.starts = 0
        self.cancelled = False
        self._end: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def __call__(self) -> str:
        self.starts += 1
        try:
            return await asyncio.shield(self._end)
        except asyncio.CancelledError:
            self.cancelled = True
            raise

    def succeed(self, result: str) -> None:
        self._end.set_result(result)

    def fail(self, error: Exception) -> None:
        self._end.set_exception(error)


async def turns(count: int = 5) -> None:
    """Let everything that can go on do so."""
    for _ in range(count):
        await asyncio.sleep(0)


async def joined(flights: Flights[str], load: Load, count: int) -> list[asyncio.Task[tuple[str, bool]]]:
    tasks = [asyncio.create_task(flights.join("key", load)) for _ in range(count)]
    await turns()
    return tasks


async def test_one_load_serves_all_who_come_meanwhile() -> None:
    flights, load = Flights[str](), Load()
    tasks = await joined(flights, load, 100)
    assert len(flights) == 1
    load.succeed("result")
    assert await asyncio.gather(*tasks) == [("result", False)] + [("result", True)] * 99
    assert load.starts == 1


async def test_loads_of_different_keys_know_nothing_of_each_other() -> None:
    flights, one, other = Flights[str](), Load(), Load()
    first = asyncio.create_task(flights.join("one", one))
    second = asyncio.create_task(flights.join("other", other))
    await turns()
    assert len(flights) == 2
    other.succeed("other")
    assert await second == ("other", False)
    assert not first.done()
    one.succeed("one")
    assert await first == ("one", False)


async def test_after_a_load_has_ended_the_next_one_loads_anew() -> None:
    flights, first, second = Flights[str](), Load(), Load()
    first.succeed("old")
    assert await flights.join("key", first) == ("old", False)
    assert flights.under_way("key") is None
    second.succeed("new")
    assert await flights.join("key", second) == ("new", False)
    assert (first.starts, second.starts) == (1, 1)


async def test_an_error_is_shared_once_and_not_remembered() -> None:
    flights, failing, load = Flights[str](), Load(), Load()
    tasks = await joined(flights, failing, 3)
    error = ValueError("no")
    failing.fail(error)
    assert await asyncio.gather(*tasks, return_exceptions=True) == [error] * 3
    assert failing.starts == 1
    assert len(flights) == 0
    load.succeed("result")
    assert await flights.join("key", load) == ("result", False)


async def test_an_error_does_not_keep_what_its_load_had_in_hand() -> None:
    flights: Flights[str] = Flights()
    known: list[weakref.ref[Load]] = []

    async def too_much() -> str:
        body = Load()
        known.append(weakref.ref(body))
        raise Faulty("too much")

    with pytest.raises(Faulty) as caught:
        await flights.join("key", too_much)
    assert caught.value.detail == "too much" and known[0]() is None


async def test_who_was_told_of_an_error_can_try_again_at_once() -> None:
    flights, failing, load = Flights[str](), Load(), Load()
    load.succeed("result")

    async def tries_twice() -> tuple[str, bool]:
        try:
            return await flights.join("key", failing)
        except ValueError:
            return await flights.join("key", load)

    tasks = [asyncio.create_task(tries_twice()) for _ in range(3)]
    await turns()
    failing.fail(ValueError("no"))
    assert [result for result, _ in await asyncio.gather(*tasks)] == ["result"] * 3
    assert load.starts == 1


async def test_a_leaver_takes_nobody_along() -> None:
    flights, load = Flights[str](), Load()
    first, second, third = await joined(flights, load, 3)
    first.cancel()
    second.cancel()
    await turns()
    assert first.cancelled()
    assert second.cancelled()
    assert not load.cancelled
    load.succeed("result")
    assert await third == ("result", True)


async def test_what_was_begun_is_finished_although_all_have_left() -> None:
    flights, load = Flights[str](), Load()
    for task in await joined(flights, load, 2):
        task.cancel()
    await turns()
    assert not load.cancelled
    newcomer = asyncio.create_task(flights.join("key", Load()))
    await turns()
    load.succeed("result")
    assert await newcomer == ("result", True)
    assert load.starts == 1


async def test_a_load_can_be_started_without_waiting_for_it_and_joined() -> None:
    flights, load = Flights[str](), Load()
    task = flights.start("key", load)
    assert flights.under_way("key") is task
    assert flights.start("key", Load()) is task
    load.succeed("result")
    assert await flights.join("key", Load()) == ("result", True)


class Telling:
    """A load that tells what it comes to, and ends when it may."""

    def __init__(self, flights: Flights[str], fault: Exception | None = None) -> None:
        self._flights = flights
        self._fault = fault
        self.may = asyncio.Event()

    async def __call__(self) -> str:
        await asyncio.sleep(0)
        self._flights.tell("key", "told")
        await self.may.wait()
        if self._fault is not None:
            raise self._fault
        return "told"


async def test_what_is_told_is_known_before_the_load_has_ended() -> None:
    flights = Flights[str]()
    load = Telling(flights)
    first, second = (asyncio.create_task(flights.join("key", load, patience=5.0)) for _ in range(2))
    assert (await first, await second) == (("told", False), ("told", True))
    assert flights.landing("key") and flights.under_way("key") is None
    following = Load()
    next_one = asyncio.create_task(flights.join("key", following))
    await turns()
    assert following.starts == 0, "what comes later waits for the end of what it follows"
    load.may.set()
    await turns()
    assert following.starts == 1 and not flights.landing("key") and flights.under_way("key") is not None
    following.succeed("anew")
    assert await next_one == ("anew", False)
    await turns()
    assert len(flights) == 0


async def test_closing_lets_what_was_told_come_to_its_end() -> None:
    flights = Flights[str]()
    load = Telling(flights)
    landing = flights.start("key", load)
    await flights.join("key", load)
    asyncio.get_running_loop().call_later(0.05, load.may.set)
    await flights.aclose()
    assert landing.result() == "told"


async def test_a_load_that_fails_after_it_has_told_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    flights = Flights[str]()
    load = Telling(flights, ValueError("a bug"))
    assert await flights.join("key", load) == ("told", False)
    load.may.set()
    await turns()
    assert "could not be brought to its end" in caplog.text and "a bug" in caplog.text


async def test_an_error_that_nobody_waits_for_is_not_reported() -> None:
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context))
    flights, load = Flights[str](), Load()
    task = flights.start("key", load)
    load.fail(ValueError("no"))
    await turns()
    assert task.done()
    del task
    await turns()
    assert reported == []
    assert len(flights) == 0


async def test_closing_cancels_what_is_under_way() -> None:
    flights, load = Flights[str](), Load()
    tasks = await joined(flights, load, 2)
    await flights.aclose()
    await turns()
    assert load.cancelled
    assert len(flights) == 0
    assert all(task.cancelled() for task in tasks)


async def test_closing_waits_as_long_as_it_is_told_to() -> None:
    flights, quick, endless = Flights[str](), Load(), Load()
    first = flights.start("quick", quick)
    second = flights.start("endless", endless)
    await turns()
    quick.succeed("result")
    await flights.aclose(patience=0.05)
    assert first.result() == "result"
    assert second.cancelled()


async def test_closing_with_nothing_under_way_is_nothing() -> None:
    await Flights[str]().aclose(patience=60.0)


async def test_a_wait_is_bounded_and_its_end_is_not_that_of_the_load() -> None:
    flights, load = Flights[str](), Load()
    with pytest.raises(TimeoutError):
        await flights.join("key", load, patience=0.01)
    assert not load.cancelled
    load.succeed("result")
    assert await flights.join("key", Load(), patience=5.0) == ("result", True)


@pytest.mark.parametrize("patience", [None, 5.0])
async def test_who_has_something_else_waits_a_little_only(patience: float | None) -> None:
    flights, load = Flights[str](), Load()

    async def instead() -> str:
        return "something else"

    meanwhile = Meanwhile(0.01, instead)
    found = await flights.join("key", load, patience=patience, meanwhile=meanwhile)
    assert found == ("something else", False)
    load.succeed("result")
    assert await flights.join("key", Load(), patience=patience, meanwhile=meanwhile) == ("result", True)


async def test_what_is_worth_more_is_waited_for_a_little_longer() -> None:
    flights, load = Flights[str](), Load()
    longer = [0.01, 0.01, 0.0]

    async def instead() -> str:
        return f"something else, {len(longer)} times later"

    meanwhile = Meanwhile(0.0, instead, longer=lambda: longer.pop(0) if longer else 0.0)
    assert await flights.join("key", load, meanwhile=meanwhile) == ("something else, 0 times later", False)
    longer = [60.0]
    assert await flights.join("key", load, patience=0.02, meanwhile=meanwhile) == (
        "something else, 0 times later",
        False,
    ), "yet never longer than anybody waits"
    longer = [60.0]
    waiting = asyncio.create_task(flights.join("key", load, meanwhile=meanwhile))
    while longer:
        await asyncio.sleep(0)
    load.succeed("result")
    assert await waiting == ("result", True)


async def test_who_may_not_have_something_else_waits_on() -> None:
    flights, load = Flights[str](), Load()
    asked = asyncio.Event()

    async def instead() -> None:
        asked.set()

    waiting = asyncio.create_task(flights.join("key", load, patience=5.0, meanwhile=Meanwhile(0.01, instead)))
    await asked.wait()
    load.succeed("result")
    assert await waiting == ("result", False)
    with pytest.raises(TimeoutError):
        await flights.join("key", Load(), patience=0.02, meanwhile=Meanwhile(60.0, instead))
    await flights.aclose()
