"""Reads of one tick: made as one, and each reader's own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from proxy.stores.gathered import MOST, Gathered

pytestmark = pytest.mark.anyio


class Medium:
    """Gives each key in capitals, once it `may`."""

    def __init__(self) -> None:
        self.asked: list[Sequence[str]] = []
        self.may = asyncio.Event()
        self.may.set()

    async def read(self, keys: Sequence[str]) -> list[str]:
        self.asked.append(keys)
        await self.may.wait()
        if "bad" in keys:
            raise RuntimeError("that one")
        return [key.upper() for key in keys]


async def test_what_is_asked_for_in_one_tick_is_read_together_and_what_comes_later_is_not() -> None:
    medium = Medium()
    reads = Gathered(medium.read)
    assert await asyncio.gather(*map(reads.get, "aba")) == ["A", "B", "A"]
    assert await reads.get("c") == "C"
    assert medium.asked == [["a", "b", "a"], ["c"]]


async def test_a_crowd_is_several_reads_side_by_side() -> None:
    medium = Medium()
    medium.may.clear()
    reads = Gathered(medium.read)
    crowd = asyncio.gather(*(reads.get(f"k{number}") for number in range(2 * MOST + 1)))
    while len(medium.asked) < 3:
        await asyncio.sleep(0)
    assert [len(keys) for keys in medium.asked] == [MOST, MOST, 1]
    medium.may.set()
    assert await crowd == [f"K{number}" for number in range(2 * MOST + 1)]


async def test_who_leaves_takes_nobody_along() -> None:
    medium = Medium()
    medium.may.clear()
    reads = Gathered(medium.read)
    leaving, staying = asyncio.ensure_future(reads.get("a")), asyncio.ensure_future(reads.get("b"))
    while not medium.asked:
        await asyncio.sleep(0)
    leaving.cancel()
    medium.may.set()
    assert await staying == "B"
    assert leaving.cancelled()


async def test_what_a_read_raises_all_of_it_are_told_and_nobody_else() -> None:
    medium = Medium()
    reads = Gathered(medium.read)
    found = await asyncio.gather(*map(reads.get, ("a", "bad")), return_exceptions=True)
    assert [str(each) for each in found] == ["that one", "that one"]
    assert await reads.get("b") == "B"


async def test_it_settles_when_all_that_was_asked_for_is_there() -> None:
    medium = Medium()
    medium.may.clear()
    reads = Gathered(medium.read)
    asked = asyncio.ensure_future(reads.get("a"))
    await asyncio.sleep(0)
    settled = asyncio.ensure_future(reads.settled())
    while not medium.asked:
        await asyncio.sleep(0)
    assert not settled.done()
    medium.may.set()
    await settled
    assert await asked == "A"
