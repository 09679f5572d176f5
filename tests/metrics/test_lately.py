from __future__ import annotations

import asyncio
from pathlib import Path

import orjson
import pytest

from proxy.metrics import incidents, slots
from proxy.metrics.incidents import KEPT, LONGEST, Incident, Incidents, heard
from proxy.metrics.lately import NAMES, Lately
from proxy.metrics.savings import Field, Item, Subject
from proxy.metrics.slots import CRATES, DAYS, HOURS, MINUTES, Family
from proxy.stores.recent import RecentBook

pytestmark = pytest.mark.anyio
NOW = 1_700_000_000.0


class Worker:
    """One process of a machine whose directory several share."""

    def __init__(self, directory: Path, now: list[float], told: list[str] | None = None) -> None:
        self.incidents = Incidents(lambda: now[0])
        self.book = RecentBook.opened(directory, lambda what, happened: (told or []).append(happened))
        self.lately = Lately(self.book, self.incidents, lambda: now[0])


def hits(count: int, name: str = "index") -> dict[Item, int]:
    return {
        Item(Subject.ENDPOINT, name, Field.HIT): count,
        Item(Subject.ENDPOINT, name, Field.SERVED): count * 10,
        Item(Subject.CLIENT, "somebody", Field.HIT): count,
    }


async def test_what_several_processes_did_is_one_record_for_each_of_them_and_outlives_them(tmp_path: Path) -> None:
    now = [NOW]
    workers = [Worker(tmp_path, now) for _ in range(3)]
    for place, worker in enumerate(workers):
        worker.lately.note(hits(place + 1))
        worker.lately.asked("serde", place + 1, 100)
        worker.lately.failed("index", "Late", 504, "it was late")
    await asyncio.gather(*(worker.lately.write() for worker in workers))
    records = [await worker.lately.read() for worker in workers]
    for record in records:
        for line in (record.minutes, record.hours, record.days):
            assert line[-1][1] == {"index": {"hit": 6, "served": 60}}
            assert not any(sums for _, sums in line[:-1])
        assert record.crates == {"serde": {"requests": 6, "bytes": 300}}
        assert [(each.where, each.count) for each in record.incidents] == [("index", 3)]
    for worker in workers:
        await worker.book.aclose()
    later = Worker(tmp_path, now)
    assert await later.lately.read() == records[0]
    await later.book.aclose()


async def test_time_passes_and_what_is_old_is_forgotten(tmp_path: Path) -> None:
    now = [NOW]
    worker = Worker(tmp_path, now)
    worker.lately.note(hits(1))
    worker.lately.asked("serde", 1, 1)
    worker.lately.failed("index", "Late", 504, "it was late")
    await worker.lately.write()
    now[0] += 60
    worker.lately.note(hits(2))
    record = await worker.lately.read()
    assert [sums["index"]["hit"] for _, sums in record.minutes if sums] == [1, 2]
    assert record.minutes[-1][0] - record.minutes[0][0] == (MINUTES.keep - 1) * 60
    now[0] += DAYS.keep * DAYS.seconds + 60
    worker.lately.note(hits(3))
    worker.lately.failed("crate", "Late", 504, "it was late")
    record = await worker.lately.read()
    assert [sums["index"]["hit"] for _, sums in record.days if sums] == [3]
    assert record.crates == {}
    assert [each.where for each in record.incidents] == ["crate"]
    assert len(await worker.book.read()) == 4  # one of each family over time, and the troubles
    await worker.book.aclose()


async def test_what_could_not_be_written_is_written_with_the_next(tmp_path: Path) -> None:
    now = [NOW]
    worker = Worker(tmp_path, now)
    worker.lately.note(hits(1))
    worker.lately.asked("serde", 1, 1)
    worker.lately.failed("index", "Late", 504, "it was late")
    await worker.book.aclose()  # a closed book is one that fails
    assert [each.where for each in (await worker.lately.read()).incidents] == ["index"]
    worker.book = worker.lately._book = RecentBook.opened(tmp_path, lambda what, happened: None)
    worker.lately.note(hits(1))
    record = await worker.lately.read()
    assert record.minutes[-1][1] == {"index": {"hit": 2, "served": 20}}
    assert record.crates == {"serde": {"requests": 1, "bytes": 1}}
    assert [(each.where, each.count) for each in record.incidents] == [("index", 1)]
    await worker.book.aclose()


async def test_while_nothing_can_be_written_what_waits_is_bounded(tmp_path: Path) -> None:
    worker = Worker(tmp_path, [NOW])
    await worker.book.aclose()
    for turn in range(3):
        for number in range(NAMES):
            worker.lately.asked(f"crate-{turn}-{number}", 1, 1)
        await worker.lately.write()
    assert {len(sums) for sums in worker.lately._sums.values()} == {CRATES.names}


async def test_nothing_is_written_where_nothing_was_done(tmp_path: Path) -> None:
    worker = Worker(tmp_path, [NOW])
    worker.lately.note({})
    await worker.lately.write()
    assert await worker.book.read() == {}
    record = await worker.lately.read()
    assert len(record.hours) == HOURS.keep and record.crates == {} and record.incidents == []
    await worker.book.aclose()


async def test_a_flood_of_names_is_bounded_in_memory_and_on_the_disk(tmp_path: Path) -> None:
    worker = Worker(tmp_path, [NOW])
    for number in range(NAMES + 500):
        worker.lately.asked(f"crate-{number}", 1, 1)
    for _ in range(100):
        worker.lately.asked("crate-7", 1, 1)
    record = await worker.lately.read()
    assert len(record.crates) == CRATES.names
    assert record.crates["crate-7"]["requests"] == 101
    await worker.book.aclose()


def test_a_row_that_nobody_here_has_written_holds_nothing() -> None:
    for row in (b"", b"no JSON", b"[1]", b'{"index": 5}', b'{"index": {"hit": "x"}}', b"\xff"):
        assert slots.unpacked(row) == {}
        assert incidents.unpacked(row) == []
    small = Family("small", 1, 1, 2, "served")
    row = slots.added(b"damaged", {name: {"served": size} for name, size in (("a", 1), ("b", 3), ("c", 2))}, small)
    assert slots.unpacked(row) == {"b": {"served": 3}, "c": {"served": 2}}


def test_troubles_are_bounded_and_told_without_secrets() -> None:
    now = [NOW]
    found = Incidents(lambda: now[0])
    for number in range(KEPT + 20):
        found.failed(f"endpoint-{number}", "Late", 504, "x" * 10_000 + " Bearer sesame")
    taken = found.take()
    assert len(taken) == KEPT and all(len(each.detail) == LONGEST for each in taken)
    assert found.take() == []
    found.happened("redis", "sent Bearer sesame, cioABCDEFGHIJKLMNOPQRSTUVWXYZ012345")
    (one,) = found.take()
    assert "sesame" not in one.detail and "cioABC" not in one.detail
    row = incidents.added(
        b"", [Incident(f"{number}", "", 0, "x", NOW, NOW + number) for number in range(KEPT + 9)], NOW
    )
    assert [each.where for each in incidents.unpacked(row)] == [str(number) for number in range(KEPT + 8, 8, -1)]


def test_alike_troubles_are_one_in_the_words_of_the_last() -> None:
    now = [NOW]
    found = Incidents(lambda: now[0])
    for words in ("first", "second", "third"):
        found.failed("index", "Late", 504, words)
        now[0] += 10
    found.failed("index", "Faulty", 502, "another")
    row = incidents.added(b"", found.take(), now[0])
    now[0] += 10
    found.failed("index", "Late", 504, "fourth")
    row = incidents.added(row, found.take(), now[0])
    assert [
        (each.kind, each.count, each.detail, each.first - NOW, each.last - NOW) for each in incidents.unpacked(row)
    ] == [
        ("Late", 4, "fourth", 0.0, 40.0),
        ("Faulty", 1, "another", 30.0, 30.0),
    ]
    assert orjson.loads(row)


def test_troubles_that_components_tell_are_noted_and_good_news_are_not() -> None:
    told: list[str] = []
    found = Incidents(lambda: NOW)
    observe = heard(lambda where, happened: told.append(happened), found)
    for happened in ("get: no answer", "get: works again", "evicted 5 files, 100 bytes"):
        observe("tarballs", happened)
    assert len(told) == 3
    assert [each.detail for each in found.take()] == ["get: no answer"]
