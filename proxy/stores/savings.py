"""Sums by day, subject, name and field, on the disk for good: what was saved must outlive the process that counted it.

Every process adds what it counted itself, in one transaction now and then. It knows no field's meaning. What fails on
the disk is told, and is the caller's to add again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from proxy.stores.attempts import Attempts, tried
from proxy.stores.base import Observer
from proxy.stores.database import Database

T = TypeVar("T")

VERSION = 1
NAMES = 200
"""Names that one subject may have on one day; those beyond count as `OTHERS`."""
OTHERS = "(others)"
KEEP_DAYS = 400
"""Days that are kept one by one; older ones become one, so that the book stops growing."""
BEFORE = "0000-00-00"
"""The day of all that is older."""

_SINCE = "since"


class Sum(NamedTuple):
    """What a sum is of. No part holds a tab."""

    day: str
    subject: str
    name: str
    field: str


class SavingsBook:
    def __init__(self, directory: Path, observer: Observer, now: float) -> None:
        self._database = Database(directory, VERSION, lambda what: observer("savings", what))
        self._attempts = Attempts("savings", observer)
        self._since = int(now)
        for _ in range(2):  # where the first finds that it is damaged, the second has an empty one
            if not isinstance(tried(lambda: self._database.attempt(self._begun)), Exception):
                break  # else the first `add` begins it, and tells what fails
        self._database.close()

    @classmethod
    def opened(cls, directory: Path, observer: Observer, now: float) -> SavingsBook:
        """Open the book, or begin one `now`. It blocks, and may be called in any thread. OSError where the directory
        cannot be used at all."""
        return cls(directory, observer, now)

    async def add(self, sums: Mapping[Sum, int]) -> bool:
        """Add to the sums, all or nothing; False where the disk failed."""
        return await self._attempt("add", lambda cache: self._added(cache, sums), False)

    async def read(self) -> tuple[float, dict[Sum, int]]:
        """When the book was begun, in seconds since the epoch, and every sum; nothing while the disk fails."""
        return await self._attempt("read", _read, (0.0, {}))

    async def aclose(self) -> None:
        await self._attempts.threads.aclose(self._database.close)

    async def _attempt(self, doing: str, do: Callable[[Any], T], failed: T) -> T:
        return await self._attempts.run(doing, lambda: self._database.attempt(do), failed)

    def _begun(self, cache: Any) -> None:
        cache.add(_SINCE, self._since)
        _folded(cache)

    def _added(self, cache: Any, sums: Mapping[Sum, int]) -> bool:
        with cache.transact():
            cache.add(_SINCE, self._since)  # it may be an empty one, in the place of one that was damaged
            known: dict[tuple[str, str], set[str]] = {}
            for sum_, value in sums.items():
                place = sum_.day, sum_.subject
                if place not in known:
                    known[place] = _names(cache, *place)
                names = known[place]
                if sum_.name not in names and len(names) >= NAMES:
                    sum_ = sum_._replace(name=OTHERS)
                names.add(sum_.name)
                cache.incr("\t".join(sum_), value, default=0)
        return True


def _names(cache: Any, day: str, subject: str) -> set[str]:
    return {sum_.name for sum_, _ in _rows(cache, f"{day}\t{subject}\t", f"{day}\t{subject}\n")}


def _rows(cache: Any, first: str = BEFORE, end: str = "9999-99-99") -> Iterator[tuple[Sum, int]]:
    for key, value in cache._sql("SELECT key, value FROM Cache WHERE key >= ? AND key < ?", (first, end)).fetchall():
        parts = key.split("\t")
        if len(parts) == len(Sum._fields) and type(value) is int:
            yield Sum(*parts), value


def _read(cache: Any) -> tuple[float, dict[Sum, int]]:
    since = cache.get(_SINCE)
    return float(since) if type(since) is int else 0.0, dict(_rows(cache))


def _folded(cache: Any) -> None:
    """Make one day of those that are older than `KEEP_DAYS` days of which there is something."""
    days = sorted({sum_.day for sum_, _ in _rows(cache)} - {BEFORE})
    for day in days[:-KEEP_DAYS]:
        with cache.transact():
            for sum_, value in list(_rows(cache, day, f"{day}\n")):
                cache.incr("\t".join(sum_._replace(day=BEFORE)), value, default=0)
                cache.delete("\t".join(sum_))
