"""The embedded store: values in a diskcache directory, for the processes of one machine.

It knows nothing of entries or freshness; `keep` is all it knows of time. What fails on the disk is absent.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import diskcache

from proxy.model import Health, Selection
from proxy.stores import envelope, listing, selecting
from proxy.stores.attempts import Attempts, tried
from proxy.stores.base import Observer, Shelved, Volume
from proxy.stores.database import PARTS, Database
from proxy.stores.gathered import Gathered

T = TypeVar("T")

# SQLite needs room for its log (up to 4 MiB, outside of all accounting) even to delete: without it a full
# disk stays full.
RESERVE = 16 * 2**20
# Rows in one transaction, for whose end other processes wait; and rows read at a time, for which nobody does.
_BATCH = 64
_PAGE = 500


class _Put(NamedTuple):
    key: str
    value: bytes
    tag: str
    keep: float | None


_NOTHING = _Put("", b"", "", 1.0)
"""What shows that something could be stored; no key is empty."""


class DiskStore:
    """A `Store`. Several processes may open the same directory."""

    def __init__(self, directory: Path, name: str, observer: Observer, reserve: int) -> None:
        self._reserve = reserve
        self._directory = directory
        self._database = Database(directory, envelope.VERSION, lambda what: observer(name, what))
        self._attempts = Attempts(name, observer)
        self._reads = Gathered(self._values)
        self._writes = Gathered(self._put)
        self.evicted = 0  # values dropped to make room for others
        self.freed = 0  # bytes of these

    @classmethod
    def opened(cls, directory: Path, name: str, observer: Observer, reserve: int = RESERVE) -> DiskStore:
        """Open or create the store. It blocks, and may be called in any thread.

        A damaged database is set aside and told. OSError where the directory cannot be used at all. `observer`
        must bear a call from another thread: damage that shows later is told from the thread that met it.
        Nothing is stored where that would leave less than `reserve` bytes free.
        """
        return cls(directory, name, observer, reserve)

    async def get(self, key: str) -> bytes | None:
        return await self._reads.get(key)

    async def put(self, key: str, value: bytes, *, tag: str, keep: float | None) -> None:
        if not await self._writes.get(_Put(key, value, tag, keep)):
            # What was last put is lost; what was put before it must not be taken for it.
            await self.delete(key)

    async def delete(self, key: str) -> None:
        await self._attempt("delete", lambda cache: cache.delete(key), False)

    async def purge(self, selection: Selection) -> int:
        return await self._attempt("purge", lambda cache: _purged(cache, selection), 0)

    async def count(self, selection: Selection) -> int:
        return await self._attempt("count", lambda cache: _count(cache, selection), 0)

    async def keys(self) -> AsyncIterator[str]:
        none: list[str] = []
        after = ""
        while page := await self._attempt("list", partial(_page, after=after), none):
            for key in page:
                yield key
            after = page[-1]

    async def crates(self, part: str, after: str, limit: int) -> list[Shelved]:
        none: list[Shelved] = []
        return await self._attempt("list", lambda cache: listing.crates(cache, part, after, limit), none)

    async def tagged(self, crate: str, limit: int) -> list[str]:
        none: list[str] = []
        return await self._attempt("list", lambda cache: listing.keys(cache, crate, limit), none)

    async def health(self) -> Health:
        attempt = self._database.attempt
        return await self._attempts.health(
            lambda: attempt(lambda cache: cache.get("")),
            put=lambda: attempt(self._all_put([_NOTHING])),
            delete=lambda: attempt(lambda cache: cache.delete(_NOTHING.key)),
        )

    async def aclose(self) -> None:
        await self._attempts.threads.aclose(self._database.close)

    async def volume(self) -> int:
        """Bytes on the disk, near enough; 0 while the disk fails. It costs two short queries, not a scan."""
        return await self._attempt("volume", lambda cache: int(cache.volume()), 0)

    async def trim(self, want: int, pinned: Callable[[str], bool] = lambda key: False) -> int:
        """Drop the values that were stored longest ago until `want` bytes are freed; how many were.

        `pinned` tells which keys stay whatever happens. It is called in another thread.
        """
        count, freed = await self._attempt("trim", lambda cache: _trimmed(cache, want, pinned), (0, 0))
        self.evicted += count
        self.freed += freed
        return freed

    async def sweep(self) -> None:
        """Remove the files that killed writers have left. Where there are many large values it takes a while."""
        for part in PARTS:
            await self._attempts.run("sweep", partial(self._database.sweep, part), None)
            await asyncio.sleep(0)

    async def expire(self, before: float | None = None) -> tuple[int, int]:
        """Drop the values that are past their time, or were stored before that one (seconds since the epoch); how many
        values and bytes. Nothing else does that, and until then they take room and are absent."""
        return await self._attempt("expire", lambda cache: _expired(cache, before), (0, 0))

    async def held(self) -> Volume:
        """What is stored, by two counters of the database; what is past its time counts until it is dropped."""
        held = await self._attempt("volume", lambda cache: (len(cache), int(cache.volume())), None)
        return Volume() if held is None else Volume(*held)

    @property
    def errors(self) -> int:
        """Attempts that the disk failed."""
        return self._attempts.errors

    @property
    def unanswered(self) -> int:
        """The same: what then seemed to be absent may be there."""
        return self.errors

    async def _values(self, keys: Sequence[str]) -> list[bytes | None]:
        attempt = self._database.attempt
        return await self._attempts.each("get", [partial(attempt, partial(_value, key=key)) for key in keys], None)

    async def _put(self, puts: Sequence[_Put]) -> list[bool]:
        """By far most of what one costs is its transaction. Which of several fails shows when each has one of its own;
        but for a lock that is not given back nobody waits twice."""
        attempt = self._database.attempt

        def put() -> Sequence[bool | Exception]:
            if len(puts) > 1:
                together = tried(lambda: attempt(self._all_put(puts)))
                if together is True or isinstance(together, diskcache.Timeout):
                    return [together] * len(puts)
            return [tried(partial(attempt, self._all_put([one]))) for one in puts]

        return await self._attempts.several("put", put, len(puts), False)

    def _all_put(self, puts: Sequence[_Put]) -> Callable[[Any], bool]:
        """In one transaction."""

        def put(cache: Any) -> bool:
            room = os.statvfs(self._directory)
            if room.f_bavail * room.f_frsize < self._reserve + sum(len(one.value) for one in puts):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            with cache.transact():
                return all(
                    cache.set(one.key, envelope.framed(one.key, one.value), expire=one.keep, tag=one.tag)
                    for one in puts
                )

        return put

    async def _attempt(self, doing: str, do: Callable[[Any], T], failed: T) -> T:
        return await self._attempts.run(doing, lambda: self._database.attempt(do), failed)


def _value(cache: Any, key: str) -> bytes | None:
    frame = cache.get(key)
    return envelope.unframed(key, frame) if type(frame) is bytes else None


def _where(selection: Selection) -> tuple[list[str], list[Any]]:
    where: list[str] = []
    args: list[Any] = []
    if selection.crate is not None:
        where.append("tag = ?")
        args.append(selection.crate)
    if selection.endpoint is not None:
        first = selecting.prefix(selection.endpoint)
        where.append("key >= ? AND key < ?")
        args += [first, first[:-1] + chr(ord(first[-1]) + 1)]
    return where, args


def _purged(cache: Any, selection: Selection) -> int:
    cache.expire()  # what is past its time is no value, and does not count
    # diskcache itself selects by tag or all; this is its own loop of short transactions, with more to choose.
    where, args = _where(selection)
    select = f"SELECT rowid, filename FROM Cache WHERE {' AND '.join([*where, 'rowid > ?'])} ORDER BY rowid LIMIT ?"
    return int(cache._select_delete(select, [*args, 0, _BATCH], arg_index=len(args)))


def _expired(cache: Any, before: float | None) -> tuple[int, int]:
    volume = int(cache.volume())
    select = "SELECT rowid, filename FROM Cache WHERE (expire_time < ? OR store_time < ?) AND rowid > ?"
    args = [time.time(), -1.0 if before is None else before, 0, _BATCH]
    count = int(cache._select_delete(f"{select} ORDER BY rowid LIMIT ?", args, arg_index=2))
    return count, max(0, volume - int(cache.volume()))


def _count(cache: Any, selection: Selection) -> int:
    where, args = _where(selection)
    alive = "(expire_time IS NULL OR expire_time > ?)"
    select = f"SELECT COUNT(*) FROM Cache WHERE {' AND '.join([*where, alive])}"
    ((count,),) = cache._sql(select, [*args, time.time()]).fetchall()
    return int(count)


def _page(cache: Any, after: str) -> list[str]:
    """The next keys; those of values past their time are none."""
    select = (
        "SELECT key FROM Cache WHERE key > ? AND typeof(key) = 'text'"
        " AND (expire_time IS NULL OR expire_time > ?) ORDER BY key LIMIT ?"
    )
    return [key for (key,) in cache._sql(select, (after, time.time(), _PAGE)).fetchall()]


def _trimmed(cache: Any, want: int, pinned: Callable[[str], bool]) -> tuple[int, int]:
    """How many values and bytes were dropped."""
    count = freed = skipped = 0
    while freed < want:
        with cache._transact() as (sql, cleanup):
            rows = sql(
                "SELECT rowid, key, size + COALESCE(LENGTH(value), 0) + LENGTH(key), filename"
                " FROM Cache ORDER BY store_time LIMIT ? OFFSET ?",
                (_BATCH, skipped),
            ).fetchall()
            if not rows:
                break
            loose = [(row, size, filename) for row, key, size, filename in rows if not pinned(key)]
            skipped += len(rows) - len(loose)
            for row, size, filename in loose:
                if freed >= want:
                    break
                sql("DELETE FROM Cache WHERE rowid = ?", (row,))
                cleanup(filename)
                count, freed = count + 1, freed + size
    with contextlib.suppress(sqlite3.Error):
        cache._sql("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    return count, freed
