from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from proxy.stores import savings
from proxy.stores.savings import SavingsBook, Sum

pytestmark = pytest.mark.anyio
NOW = 1_700_000_000.0


def opened(directory: Path, told: list[str] | None = None, now: float = NOW) -> SavingsBook:
    return SavingsBook.opened(
        directory, lambda what, happened: (told if told is not None else []).append(happened), now
    )


def of(day: str, name: str = "index", field: str = "served") -> Sum:
    return Sum(day, "endpoint", name, field)


async def test_sums_add_up_over_books_on_one_directory_and_outlive_them(tmp_path: Path) -> None:
    books = [opened(tmp_path, now=NOW + number) for number in range(3)]
    for _ in range(4):
        added = await asyncio.gather(*(book.add({of("2023-11-14"): 5, of("2023-11-15"): 1}) for book in books))
        assert all(added)
    for book in books:
        await book.aclose()
    again = opened(tmp_path, now=NOW + 1_000_000)
    assert await again.read() == (NOW, {of("2023-11-14"): 60, of("2023-11-15"): 12})
    await again.aclose()


async def test_names_are_bounded_for_a_day_and_the_rest_is_one(tmp_path: Path) -> None:
    book = opened(tmp_path)
    many = {Sum("2023-11-14", "client", f"name {number}", "served"): 1 for number in range(savings.NAMES + 50)}
    await book.add(many)
    await book.add(many)
    _, sums = await book.read()
    assert len(sums) == savings.NAMES + 1
    assert sums[Sum("2023-11-14", "client", savings.OTHERS, "served")] == 100
    assert await book.add({Sum("2023-11-15", "client", "another day", "served"): 1})
    assert (await book.read())[1][Sum("2023-11-15", "client", "another day", "served")] == 1
    await book.aclose()


async def test_old_days_become_one_when_the_book_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(savings, "KEEP_DAYS", 2)
    book = opened(tmp_path)
    await book.add({of(f"2023-11-{day:02}"): day for day in range(1, 6)})
    await book.aclose()
    for _ in range(2):
        book = opened(tmp_path)
        assert (await book.read())[1] == {of(savings.BEFORE): 6, of("2023-11-04"): 4, of("2023-11-05"): 5}
        await book.aclose()


async def test_a_damaged_book_is_set_aside_and_told_and_a_new_one_begun(tmp_path: Path) -> None:
    book = opened(tmp_path)
    await book.add({of("2023-11-14"): 1})
    await book.aclose()
    (database,) = tmp_path.rglob("cache.db")
    database.write_bytes(b"no database at all" * 1000)
    told: list[str] = []
    book = opened(tmp_path, told, NOW + 60)
    assert await book.read() == (NOW + 60, {})
    assert len(told) == 1 and "set aside" in told[0]
    await book.aclose()


def rotten(database: Path) -> None:
    """Its table cannot be read any more, which is found only when somebody wants something of it."""
    with sqlite3.connect(database) as it:
        (page,) = it.execute("SELECT rootpage FROM sqlite_master WHERE name = 'Cache'").fetchone()
        (size,) = it.execute("PRAGMA page_size").fetchone()
        it.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    it.close()
    with database.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)


async def test_a_book_that_is_found_damaged_after_it_was_opened_is_no_reason_not_to_start(tmp_path: Path) -> None:
    book = opened(tmp_path)
    await book.add({of("2023-11-14"): 1})
    await book.aclose()
    (database,) = tmp_path.rglob("cache.db")
    rotten(database)
    told: list[str] = []
    book = opened(tmp_path, told, NOW + 60)
    assert await book.read() == (NOW + 60, {})
    assert len(told) == 1 and "set aside" in told[0]
    (database,) = tmp_path.glob("v1/cache.db")
    rotten(database)
    assert await book.add({of("2023-11-14"): 1}) is False
    assert await book.add({of("2023-11-14"): 1})
    assert await book.read() == (NOW + 60, {of("2023-11-14"): 1}), "it tells since when, too"
    await book.aclose()


async def test_a_book_that_cannot_be_written_at_first_is_begun_later(tmp_path: Path) -> None:
    await opened(tmp_path).aclose()
    (database,) = tmp_path.rglob("cache.db")
    with sqlite3.connect(database) as it:
        it.execute("DELETE FROM Cache")
        it.execute("CREATE TRIGGER full BEFORE INSERT ON Cache BEGIN SELECT RAISE(ABORT, 'full'); END")
    it.close()
    told: list[str] = []
    book = opened(tmp_path, told, NOW + 60)
    assert await book.add({of("2023-11-14"): 1}) is False
    assert len(told) == 1 and "full" in told[0]
    with sqlite3.connect(database) as it:
        it.execute("DROP TRIGGER full")
    it.close()
    assert await book.add({of("2023-11-14"): 1})
    assert await book.read() == (NOW + 60, {of("2023-11-14"): 1})
    await book.aclose()


async def test_what_the_disk_does_not_take_is_the_callers_to_add_again(tmp_path: Path) -> None:
    told: list[str] = []
    book = opened(tmp_path, told)
    (database,) = tmp_path.rglob("cache.db")
    with sqlite3.connect(database) as locker:
        locker.execute("PRAGMA locking_mode = EXCLUSIVE")
        locker.execute("BEGIN EXCLUSIVE")
        assert await book.add({of("2023-11-14"): 1}) is False
    locker.close()
    assert told and "locked" in told[0]
    assert await book.add({of("2023-11-14"): 1})
    assert (await book.read())[1] == {of("2023-11-14"): 1}
    await book.aclose()
