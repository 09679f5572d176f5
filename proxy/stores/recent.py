"""What happened lately, on the disk for a few days: rows of families that say their time, for the processes of one
machine.

Each process changes rows in one transaction now and then, so that all tell the same and a restart forgets nothing. It
knows no row's meaning. What fails on the disk is told, and is the caller's to do again.

    FAMILY SPACE NUMBER    a row; of one family the later has the higher number
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from proxy.stores.attempts import Attempts
from proxy.stores.base import Observer
from proxy.stores.database import Database

T = TypeVar("T")

VERSION = 1
NAME = "recent"

_DIGITS = 12


class Row(NamedTuple):
    """`family` holds no space."""

    family: str
    number: int


Change = Callable[[bytes], bytes]
"""From what a row holds, b"" for nothing yet, to what it shall hold. It is called in another thread."""


class RecentBook:
    def __init__(self, directory: Path, observer: Observer) -> None:
        self._database = Database(directory, VERSION, lambda what: observer(NAME, what))
        self._database.close()
        self._attempts = Attempts(NAME, observer)

    @classmethod
    def opened(cls, directory: Path, observer: Observer) -> RecentBook:
        """Open the book, or begin one. It blocks, and may be called in any thread. OSError where the directory cannot
        be used at all."""
        return cls(directory, observer)

    async def change(self, changes: Mapping[Row, Change], oldest: Mapping[str, int]) -> bool:
        """Change rows, and drop of each family those before its `oldest` number: all or nothing; False where the disk
        failed."""
        return await self._attempt("change", lambda cache: _changed(cache, changes, oldest), False)

    async def read(self) -> dict[Row, bytes]:
        """Every row; nothing while the disk fails."""
        none: dict[Row, bytes] = {}
        return await self._attempt("read", _read, none)

    async def aclose(self) -> None:
        await self._attempts.threads.aclose(self._database.close)

    async def _attempt(self, doing: str, do: Callable[[Any], T], failed: T) -> T:
        return await self._attempts.run(doing, lambda: self._database.attempt(do), failed)


def _key(row: Row) -> str:
    return f"{row.family} {row.number:0{_DIGITS}}"


def _changed(cache: Any, changes: Mapping[Row, Change], oldest: Mapping[str, int]) -> bool:
    with cache.transact():
        for row, change in changes.items():
            there = cache.get(_key(row))
            cache.set(_key(row), change(there if type(there) is bytes else b""))
        for family, number in oldest.items():
            select = "SELECT key FROM Cache WHERE key >= ? AND key < ?"
            for (key,) in cache._sql(select, (f"{family} ", _key(Row(family, number)))).fetchall():
                cache.delete(key)
    return True


def _read(cache: Any) -> dict[Row, bytes]:
    found = {}
    for (key,) in cache._sql("SELECT key FROM Cache WHERE typeof(key) = 'text' ORDER BY key").fetchall():
        family, _, number = key.partition(" ")
        value = cache.get(key)
        if number.isdecimal() and type(value) is bytes:
            found[Row(family, int(number))] = value
    return found
