"""The marks: what is known of them while some are read, and forgotten meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from proxy.engine import changes as changes_
from proxy.engine.changes import Changes
from proxy.model import Invalidation, Selection
from proxy.rules import keys, sparse
from tests.engine.fakes import DictStore

pytestmark = pytest.mark.anyio

EVERYTHING = Invalidation(Selection(), soft=True, at=1000.0)


class LostMeanwhile(DictStore):
    """The fleet is lost while a mark of `about` is read."""

    def __init__(self, about: str) -> None:
        super().__init__()
        self.about = about
        self.changes: list[Changes] = []

    async def get(self, key: str) -> bytes | None:
        if key.endswith(self.about):
            self.changes[0].forget()
        return await super().get(key)


async def test_a_mark_that_is_known_counts_though_it_is_forgotten_while_others_are_read() -> None:
    store = LostMeanwhile("crate/second")
    changes = Changes(store, keep=1.0, tiers=())
    store.changes.append(changes)
    await changes.record(EVERYTHING)
    first, second = (keys.index_read(sparse.path(name)) for name in ("first", "second"))
    assert (await changes.of(first)).changed == 1000.0
    assert (await changes.of(second)).changed == 1000.0


class Watched(DictStore):
    """It remembers which keys were read, and holds up the list of all until it `may` be told."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[str] = []
        self.may = asyncio.Event()
        self.may.set()

    async def get(self, key: str) -> bytes | None:
        self.read.append(key)
        return await super().get(key)

    async def keys(self) -> AsyncIterator[str]:
        async for key in super().keys():
            yield key
        await self.may.wait()
        self.listed = True

    listed = False


@asynccontextmanager
async def ahead(store: Watched) -> AsyncIterator[Changes]:
    """Marks that are read ahead, as far as they can be by now."""
    changes = Changes(store, keep=1.0, tiers=())
    task = asyncio.ensure_future(changes.read_ahead())
    for _ in range(10):
        await asyncio.sleep(0)
    yield changes
    task.cancel()


def index(name: str) -> keys.Read:
    return keys.index_read(sparse.path(name))


async def test_once_all_marks_are_in_memory_none_is_looked_for_and_each_counts() -> None:
    store = Watched()
    await Changes(store, keep=1.0, tiers=()).record(Invalidation(Selection(crate="first"), soft=True, at=7.0))
    await Changes(store, keep=1.0, tiers=()).record(Invalidation(Selection(crate="first"), soft=False, at=5.0))
    store.values["something else"] = b""
    async with ahead(store) as changes:
        assert store.read == ["changed crate/first", "purged crate/first"]
        mark = await changes.of(index("first"))
        assert (mark.changed, mark.purged) == (7.0, 5.0)
        assert (await changes.of(index("second"))).changed == -float("inf")
        assert len(store.read) == 2
        changes.hear(Invalidation(Selection(crate="second"), soft=True, at=9.0))
        assert (await changes.of(index("second"))).changed == 9.0


async def test_until_all_are_there_and_when_the_fleet_was_lost_they_are_looked_for() -> None:
    store = Watched()
    store.may.clear()
    async with ahead(store) as changes:
        await changes.of(index("first"))
        assert "changed crate/first" in store.read
        changes.forget()  # while they are being read: what was announced meanwhile may have been missed
        store.may.set()
        for _ in range(10):
            await asyncio.sleep(0)
        await changes.record(Invalidation(Selection(crate="third"), soft=True, at=7.0))
        store.read.clear()
        assert (await changes.of(index("second"))).changed == -float("inf")
        assert store.read == []  # they have been read again since
        changes.forget()
        assert (await changes.of(index("third"))).changed == 7.0


async def test_more_than_there_is_room_for_are_looked_for_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes_, "_REMEMBERED", 3)
    store = Watched()
    for number in range(5):
        invalidation = Invalidation(Selection(crate=f"crate-{number}"), soft=True, at=float(number))
        await Changes(store, keep=1.0, tiers=()).record(invalidation)
    async with ahead(store) as changes:
        for number in range(5):
            assert (await changes.of(index(f"crate-{number}"))).changed == float(number)


class Failing(DictStore):
    """It `fails`, and has nothing then."""

    fails = True
    unanswered = 0

    async def get(self, key: str) -> bytes | None:
        self.unanswered += self.fails
        return None if self.fails else await super().get(key)

    async def keys(self) -> AsyncIterator[str]:
        self.unanswered += self.fails
        for key in () if self.fails else sorted(self.values):
            yield key


@pytest.mark.parametrize("reads_ahead", [False, True])
async def test_a_mark_that_could_not_be_read_is_looked_for_again(reads_ahead: bool) -> None:
    store = Failing()
    changes = Changes(store, keep=1.0, tiers=(), unanswered=lambda: store.unanswered)
    await changes.record(Invalidation(Selection(crate="first"), soft=True, at=7.0))
    ahead = asyncio.ensure_future(changes.read_ahead()) if reads_ahead else None
    await asyncio.sleep(0.01)
    assert (await changes.of(index("first"))).changed == -float("inf")
    store.fails = False
    assert (await changes.of(index("first"))).changed == 7.0
    if ahead is not None:
        ahead.cancel()


async def test_what_was_read_before_the_fleet_was_lost_is_read_again() -> None:
    store = LostMeanwhile("crate/first")
    changes = Changes(store, keep=1.0, tiers=())
    store.changes.append(changes)
    assert (await changes.of(index("first"))).changed == -float("inf")
    await Changes(store, keep=1.0, tiers=()).record(Invalidation(Selection(crate="first"), soft=True, at=7.0))
    assert (await changes.of(index("first"))).changed == 7.0
