from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.stores.recent import RecentBook, Row

pytestmark = pytest.mark.anyio


def opened(directory: Path, told: list[str] | None = None) -> RecentBook:
    return RecentBook.opened(directory, lambda what, happened: (told if told is not None else []).append(happened))


def more(text: bytes) -> Callable[[bytes], bytes]:
    return lambda there: there + text


async def test_books_on_one_directory_change_the_same_rows_which_outlive_them(tmp_path: Path) -> None:
    books = [opened(tmp_path) for _ in range(3)]
    row = Row("minute", 7)
    for _ in range(4):
        assert all(await asyncio.gather(*(book.change({row: more(b"x")}, {}) for book in books)))
    for book in books:
        await book.aclose()
    again = opened(tmp_path)
    assert await again.read() == {row: b"x" * 12}
    await again.aclose()


async def test_old_rows_of_a_family_are_dropped_and_only_those(tmp_path: Path) -> None:
    book = opened(tmp_path)
    rows = [Row(family, number) for family in ("days", "minute", "minutes") for number in (1, 9, 10, 11)]
    await book.change({row: more(b"x") for row in rows}, {})
    await book.change({Row("minute", 12): more(b"y")}, {"minute": 10, "days": 11})
    assert sorted(await book.read()) == [
        ("days", 11),
        *(("minute", number) for number in (10, 11, 12)),
        *(("minutes", number) for number in (1, 9, 10, 11)),
    ]
    await book.aclose()


async def test_a_change_is_made_whole_or_not_at_all(tmp_path: Path) -> None:
    told: list[str] = []
    book = opened(tmp_path, told)

    def fails(there: bytes) -> bytes:
        raise OSError("the disk is on fire")

    assert not await book.change({Row("minute", 1): more(b"x"), Row("minute", 2): fails}, {})
    assert await book.read() == {}
    assert len(told) == 1 and "on fire" in told[0]
    await book.aclose()


async def test_what_is_no_row_of_ours_is_passed_over(tmp_path: Path) -> None:
    book = opened(tmp_path)
    await book.change({Row("minute", 1): more(b"x")}, {})
    with sqlite3.connect(tmp_path / "v1" / "cache.db") as database:
        insert = "INSERT INTO Cache (key, raw, mode, size, value) VALUES (?, 1, 1, 0, ?)"
        database.executemany(insert, [("minute", b"y"), ("minute 000000000002", 5), ("minute x", b"z")])
    database.close()
    assert await book.read() == {Row("minute", 1): b"x"}
    await book.aclose()
