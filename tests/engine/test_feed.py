"""Following the feed where a store, a clock or another release makes it hard. What it does otherwise: the scenarios."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from proxy.engine import feed
from proxy.engine.changes import Changes
from proxy.engine.feed import EVERY, LONGEST_PAUSE, Feed, Position
from proxy.engine.purging import Holdings, Purging
from proxy.model import Health, Selection, State
from proxy.stores.base import Blob, Listed, Spool, Trail
from tests.engine.fakes import DictStore, FakeFleet, FakeUpstream

pytestmark = pytest.mark.anyio

NOW = 1_700_000_000.0
BODY = b"""<rss xmlns:crates="https://crates.io/"><channel><item><pubDate>1</pubDate>
<crates:name>Foo_Bar</crates:name><crates:version>1.0.0</crates:version></item></channel></rss>"""


class Shelf(DictStore):
    """A store in memory; `full`: it takes nothing."""

    def __init__(self, *, full: bool = False) -> None:
        super().__init__()
        self.full = full

    async def put(self, key: str, value: bytes, *, tag: str, keep: float | None) -> None:
        if not self.full:
            await super().put(key, value, tag=tag, keep=keep)


class NoBlobs:
    async def open(self, crate: object, sha256: str, *, unread: bool = False) -> Blob | None:
        return None

    def used(self, sha256: str) -> None:
        pass

    async def spool(self, crate: object, sha256: str) -> Spool:
        raise OSError

    async def follow(self, name: str) -> Trail | None:
        return None

    async def verify(self, file: Listed) -> str | None:
        return None

    async def purge(self, selection: Selection) -> int:
        return 0

    async def files(self) -> AsyncIterator[Listed]:
        none: tuple[Listed, ...] = ()
        for listed in none:
            yield listed

    async def health(self) -> Health:
        return Health("none", State.OK)

    async def aclose(self) -> None:
        pass


class Play:
    """A feed being followed by a fleet of one. `now` is its time."""

    def __init__(self, marks: Shelf, body: bytes) -> None:
        self.now = NOW
        self.marks = marks
        self.upstream = FakeUpstream(body)
        self.told: list[str] = []
        changes = Changes(marks, keep=1.0, tiers=())
        purging = Purging(
            changes=changes,
            holdings=Holdings(changes=changes, stores=(), blobs=NoBlobs()),
            fleet=FakeFleet(),
            clock=lambda: self.now,
        )
        self.feed = Feed(
            upstream=self.upstream,
            purging=purging,
            fleet=FakeFleet(),
            marks=marks,
            keep=1.0,
            clock=lambda: self.now,
            observe=lambda what, happened: self.told.append(happened),
        )

    async def settled(self) -> None:
        """Nothing here waits for the world: in so many turns of the loop all is done that can be."""
        for _ in range(200):
            await asyncio.sleep(0)


@asynccontextmanager
async def followed(marks: Shelf, body: bytes = BODY) -> AsyncIterator[Play]:
    play = Play(marks, body)
    play.feed.start()
    try:
        await play.settled()
        yield play
    finally:
        await play.feed.aclose()


def known(marks: Shelf) -> dict[str, object]:
    found: dict[str, object] = json.loads(marks.values["feed position"])
    return found


async def test_what_the_feed_names_is_marked_and_its_position_is_kept() -> None:
    marks = Shelf()
    async with followed(marks) as play:
        assert play.upstream.asked == 1
    assert set(marks.values) == {"changed crate/foo-bar", "feed position"}
    assert known(marks)["seen"] == ["Foo_Bar 1.0.0 1"]
    assert play.told == []


@pytest.mark.parametrize("body", [BODY, b"no feed"])
async def test_a_store_that_takes_nothing_does_not_make_it_look_without_end(body: bytes) -> None:
    async with followed(Shelf(full=True), body) as play:
        assert play.upstream.asked == 1
        assert (await play.feed.health()).state is (State.OK if body is BODY else State.DEGRADED)


async def test_a_position_of_the_future_is_one_of_a_clock_that_was_wrong() -> None:
    marks = Shelf()
    marks.values["feed position"] = feed._encoded(Position(looked_at=NOW + 3600.0, seen=("Foo_Bar 1.0.0 1",)))
    async with followed(marks) as play:
        assert play.upstream.asked == 1
    assert known(marks)["looked_at"] == NOW


async def test_it_is_nobodys_turn_before_the_minute_is_over() -> None:
    marks = Shelf()
    marks.values["feed position"] = feed._encoded(Position(looked_at=NOW - EVERY + 0.5))
    async with followed(marks) as play:
        assert play.upstream.asked == 0


@pytest.mark.parametrize("value", [b"", b"{}", b"[]", b'{"looked_at": "x"}', b'{"of": "another release"}', b"\xff"])
async def test_a_position_that_cannot_be_read_is_that_of_who_begins(value: bytes) -> None:
    marks = Shelf()
    marks.values["feed position"] = value
    async with followed(marks) as play:
        assert play.upstream.asked == 1
    assert known(marks)["seen"] == ["Foo_Bar 1.0.0 1"]


async def test_that_nobody_looks_any_more_can_be_seen() -> None:
    play = Play(Shelf(), BODY)
    assert (await play.feed.health()).state is State.OK, "nobody had the time yet"
    play.marks.values["feed position"] = feed._encoded(Position(looked_at=NOW))
    play.now += 3 * EVERY
    assert (await play.feed.health()).state is State.OK
    play.now += 1
    health = await play.feed.health()
    assert (health.state, health.detail) == (State.DEGRADED, "nobody has looked for 121 s longer than intended")


def test_the_pause_after_failures_grows_to_a_bound() -> None:
    pauses = [Position(failures=failures).pause for failures in range(2000)]
    assert pauses[:5] == [60.0, 120.0, 240.0, 480.0, 900.0]
    assert set(pauses[5:]) == {LONGEST_PAUSE}
