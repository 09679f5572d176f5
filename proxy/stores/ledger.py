"""What is stored under which checksum: one row for each file, and the sum of their sizes.

Its transactions are also what orders the files themselves: a file is published and removed inside of one, so
that row and file agree for everyone who reads the row. It knows no path. All of it blocks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import orjson

from proxy.model import Crate
from proxy.rules import names
from proxy.stores import listing
from proxy.stores.base import Filed, Shelved
from proxy.stores.database import Database

T = TypeVar("T")

VERSION = 1
_BLOB = "blob "  # and the SHA-256
_BLOBS = "key >= 'blob ' AND key < 'blob!'"
_TOTAL = "total"
# Rows in one transaction, for whose end other processes wait; and rows read at a time, for which nobody does.
_BATCH = 64
_PAGE = 500


def _never() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Record:
    """`crate` is None for a file that was found without a row: it is whose its first reader proves it to be.

    The time of its last use is a column of the row, because eviction goes by it.
    """

    crate: Crate | None
    size: int
    stored: float


_UNREADABLE = Record(None, 0, 0.0)


class Ledger:
    """`remove` drops the file of a SHA-256 and must bear that there is none."""

    def __init__(self, directory: Path, told: Callable[[str], None], remove: Callable[[str], None]) -> None:
        self._database = Database(directory, VERSION, told)
        self._remove = remove

    def get(self, sha256: str) -> Record | None:
        return self._database.attempt(lambda cache: _unpacked(cache.get(_BLOB + sha256)))

    def add(self, sha256: str, record: Record, used: float, publish: Callable[[], None]) -> None:
        """Write the row, then `publish` the file; where that raises there is no row."""
        self._transact(lambda cache: self._added(cache, sha256, record, used, publish))

    def drop(self, sha256: str, remove: Callable[[str], None], unless: Callable[[], bool] = _never) -> bool:
        """Drop the row and `remove` the file, `unless` the reason for that is gone by now; was it dropped?"""

        def drop(cache: Any) -> bool:
            record = _unpacked(cache.get(_BLOB + sha256))
            if record is None or unless():
                return False
            self._dropped(cache, sha256, record, remove)
            return True

        return self._transact(drop)

    def adopt(self, sha256: str, size: int, used: float) -> None:
        """Give a row to a file that has none."""

        def adopt(cache: Any) -> None:
            if _BLOB + sha256 not in cache:
                self._added(cache, sha256, Record(None, size, used), used, lambda: None)

        self._transact(adopt)

    def touch(self, moments: Mapping[str, float]) -> bool:
        """These files were used at these times."""
        update = "UPDATE Cache SET store_time = ? WHERE key = ? AND store_time < ?"

        def touch(cache: Any, batch: list[tuple[str, float]]) -> None:
            for sha256, moment in batch:
                cache._sql(update, (moment, _BLOB + sha256, moment))

        for batch in _batches(list(moments.items())):
            self._transact(partial(touch, batch=batch))
        return True

    def evict(self, want: int, pinned: Callable[[str], bool]) -> tuple[int, int]:
        """Drop the least recently used until `want` bytes are freed; how many files and bytes that were."""
        count = freed = skipped = 0
        while freed < want:
            rows = self._database.attempt(partial(_oldest, past=skipped))
            if not rows:
                break
            loose = [sha256 for sha256 in rows if not pinned(sha256)]
            skipped += len(rows) - len(loose)
            dropped = self._transact(partial(self._evicted, batch=loose, want=want - freed))
            count, freed = count + len(dropped), freed + sum(dropped)
        return count, freed

    def purge(self, crate: str | None) -> int:
        """Drop all files of a crate (folded), or all; how many."""
        where, args = (_BLOBS, []) if crate is None else ("tag = ?", [crate])
        select = f"SELECT key FROM Cache WHERE {where}"
        rows = self._database.attempt(lambda cache: cache._sql(select, args).fetchall())
        found = [key.removeprefix(_BLOB) for (key,) in rows]
        return sum(len(self._transact(partial(self._evicted, batch=batch, want=math.inf))) for batch in _batches(found))

    def page(self, after: str) -> list[tuple[str, Record]]:
        """The next files after this SHA-256 ("" for the first), ascending; none at the end."""
        select = "SELECT key, value FROM Cache WHERE key > ? AND key < 'blob!' ORDER BY key LIMIT ?"
        rows = self._database.attempt(lambda cache: cache._sql(select, (_BLOB + after, _PAGE)).fetchall())
        return [(key.removeprefix(_BLOB), _unpacked(value) or _UNREADABLE) for key, value in rows]

    def crates(self, part: str, after: str, limit: int) -> list[Shelved]:
        """As in `Listing`."""

        def crates(cache: Any) -> list[Shelved]:
            sizes: dict[str, list[int]] = {name: [] for name in listing.names(cache, part, after, limit)}
            for name, _, value, _ in listing.values(cache, list(sizes)):
                sizes[name].append(_size(value))
            return [Shelved(name, len(each), sum(each)) for name, each in sizes.items()]

        return self._database.attempt(crates)

    def of(self, crate: str) -> list[Filed]:
        """The files of a crate (folded)."""
        rows = self._database.attempt(lambda cache: listing.values(cache, [crate]))
        return [
            Filed(record.crate, key.removeprefix(_BLOB), record.size, record.stored, used)
            for _, key, value, used in rows
            if (record := _unpacked(value)) is not None and record.crate is not None
        ]

    def total(self) -> int:
        """Bytes of all files."""
        return self._database.attempt(lambda cache: int(cache.get(_TOTAL, 0)))

    def count(self) -> int:
        """How many files; all rows but the total are one each."""
        return self._database.attempt(lambda cache: max(0, len(cache) - 1))

    def recount(self) -> None:
        """Make the sum of all sizes right, which only somebody else can have made wrong."""

        def recount(cache: Any) -> None:
            # One statement sees one state. No more than a row at a time is held.
            total = known = 0
            for key, value in cache._sql("SELECT key, value FROM Cache"):
                if key == _TOTAL:
                    total = value if type(value) is int else 0
                else:
                    known += _size(value)
            if total != known:
                cache.incr(_TOTAL, known - total)  # the difference, because others may be adding to both meanwhile

        self._database.attempt(recount)

    def reconcile(self, part: str, files: Collection[str], found: Callable[[str], tuple[float, int] | None]) -> None:
        """Make the rows whose SHA-256 begin with `part` agree with `files`, which were on the disk a moment ago, after
        a crash. `found` tells the time and the size of a file that is there now."""
        select = "SELECT key FROM Cache WHERE key >= ? AND key < ?"
        first = _BLOB + part
        rows = self._database.attempt(lambda cache: cache._sql(select, (first, f"{first}~")).fetchall())
        known = {key.removeprefix(_BLOB) for (key,) in rows}
        for sha256 in known - set(files):
            self.drop(sha256, self._remove, unless=partial(_is_there, found, sha256))
        for sha256 in set(files) - known:
            if (there := found(sha256)) is not None:
                self.adopt(sha256, there[1], there[0])

    def close(self) -> None:
        """Close this thread's connection."""
        self._database.close()

    def _transact(self, do: Callable[[Any], T]) -> T:
        def transact(cache: Any) -> T:
            with cache.transact():
                return do(cache)

        return self._database.attempt(transact)

    def _added(self, cache: Any, sha256: str, record: Record, used: float, publish: Callable[[], None]) -> None:
        before = _size(cache.get(_BLOB + sha256))
        tag = "" if record.crate is None else names.folded(record.crate.name)
        cache.set(_BLOB + sha256, _packed(record), tag=tag)
        cache._sql("UPDATE Cache SET store_time = ? WHERE key = ?", (used, _BLOB + sha256))
        cache.incr(_TOTAL, record.size - before)
        publish()

    def _evicted(self, cache: Any, batch: list[str], want: float) -> list[int]:
        """Drop these until `want` bytes are freed; their sizes. What another process dropped is passed over."""
        rows = dict(cache._sql(f"SELECT key, value FROM Cache WHERE key IN ({_marks(batch)})", _rows(batch)).fetchall())
        gone: list[str] = []
        sizes: list[int] = []
        for sha256 in batch:
            if sum(sizes) < want and _BLOB + sha256 in rows:
                gone.append(sha256)
                sizes.append(_size(rows[_BLOB + sha256]))
        if gone:
            cache._sql(f"DELETE FROM Cache WHERE key IN ({_marks(gone)})", _rows(gone))
            cache.incr(_TOTAL, -sum(sizes))
        for sha256 in gone:
            self._remove(sha256)
        return sizes

    def _dropped(self, cache: Any, sha256: str, record: Record, remove: Callable[[str], None]) -> None:
        cache.delete(_BLOB + sha256)
        cache.incr(_TOTAL, -record.size)
        remove(sha256)


def _is_there(found: Callable[[str], object], sha256: str) -> bool:
    return found(sha256) is not None


def _marks(batch: list[str]) -> str:
    return ",".join("?" * len(batch))


def _rows(batch: list[str]) -> list[str]:
    return [_BLOB + sha256 for sha256 in batch]


def _batches(items: list[T]) -> Iterator[list[T]]:
    return (items[start : start + _BATCH] for start in range(0, len(items), _BATCH))


def _oldest(cache: Any, past: int) -> list[str]:
    # The signs keep SQLite from taking all rows by their keys and sorting them.
    select = "SELECT key FROM Cache WHERE +key >= 'blob ' AND +key < 'blob!' ORDER BY store_time LIMIT ? OFFSET ?"
    return [key.removeprefix(_BLOB) for (key,) in cache._sql(select, (_BATCH, past)).fetchall()]


def _packed(record: Record) -> bytes:
    crate = None if record.crate is None else [record.crate.name, record.crate.version]
    return orjson.dumps([crate, record.size, record.stored])


def _unpacked(value: object) -> Record | None:
    """The record of `_packed`; None for anything else."""
    try:
        crate, size, stored = orjson.loads(value)  # type: ignore[arg-type]  # a tampered row may be anything
        return Record(crate and Crate(*crate), int(size), float(stored))
    except (TypeError, ValueError):
        return None


def _size(value: object) -> int:
    record = _unpacked(value)
    return 0 if record is None else record.size
