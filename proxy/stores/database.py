"""A directory of diskcache that may be opened by several processes and replaces itself when it is damaged.

It knows rows and files, not what they mean. All of it blocks: it runs in a store's own threads.

    DIR/lock            held while the database is opened or replaced
    DIR/v1/             the database and its value files; a new format is a new directory
    DIR/v1.damaged-…/   the last one that was set aside
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import diskcache

from proxy.stores.guarded import GuardedDisk

T = TypeVar("T")

FAULTS = (sqlite3.Error, diskcache.Timeout, OSError, UnicodeError)
"""What the medium, or a key that it cannot spell, may raise."""

_BUSY_SECONDS = 2.0
"""For a lock that another process holds; transactions are kept short (`_BATCH` in `disk` and `ledger`)."""
PARTS = tuple(f"{number:02x}" for number in range(256))
"""What the names of value files can begin with: each is a directory."""
# A value's file is older than its row by the time of one write; whoever takes an hour for that is dead.
_ORPHAN_SECONDS = 3600.0
_SETTINGS = {
    "tag_index": True,
    # The eviction policy stays diskcache's default, because any other makes each read a write transaction;
    # its own bound is out of reach, because the limit is kept over several stores together.
    "size_limit": 2**62,
    # Nor is anything dropped beside a `set`, which would have to look each time whether there is something to drop.
    "cull_limit": 0,
    # Pages (4 KiB) that each thread's connection keeps for itself; the kernel has them all, once for everybody.
    "sqlite_cache_size": 1024,
    # A mapped database whose disk fails kills the process by SIGBUS where a read would raise.
    "sqlite_mmap_size": 0,
}


class _Cache(diskcache.Cache):  # type: ignore[misc]  # diskcache carries no types
    """One that cannot be made leaves no connection open: a connection that nobody closes stays until Python's collector
    comes by, since it holds its statements, and they hold it."""

    def __init__(self, directory: str, **settings: Any) -> None:
        try:
            super().__init__(directory, **settings)
        except BaseException:
            self.close()
            raise


class _Unreadable(sqlite3.DatabaseError):
    """SQLite reads it, and it is no database of diskcache's all the same."""


class Database:
    """`told` hears, in the thread at hand, when a damaged database was set aside.

    OSError where none can be opened: a store that cannot work at start is the operator's to mend.
    """

    def __init__(self, directory: Path, version: int, told: Callable[[str], None]) -> None:
        self._directory = directory.absolute()
        self._home = self._directory / f"v{version}"
        self._told = told
        self._replacing = threading.Lock()
        self._last = threading.local()  # which one the thread at hand used: its connection to that is its own to close
        secured(self._directory)
        try:
            with _locked(self._directory):
                self._cache, self._inode = self._opened()
                self._tidied()
        except (sqlite3.Error, diskcache.Timeout) as error:
            raise OSError(errno.EIO, f"the database cannot be opened ({error})", str(self._home)) from error

    def attempt(self, do: Callable[[Any], T]) -> T:
        """`do(cache)`, leaving nothing half done where it raises. A damaged database is replaced, then raised."""
        cache = self._current()
        last, self._last.cache = getattr(self._last, "cache", cache), cache
        if last is not cache:
            last.close()
        try:
            with cache.disk.cleaning():
                return do(cache)
        except BaseException as error:
            # A connection that failed in COMMIT may still be inside the transaction and refuse the next one.
            with contextlib.suppress(sqlite3.Error):
                cache.close()
            if self._damaged(error):
                self._replace(cache)
            raise

    def sweep(self, part: str) -> None:
        """Remove the value files of writers that were killed, of those whose names begin with this one of `PARTS`."""
        self.attempt(lambda cache: self._swept(cache, part))

    def close(self) -> None:
        """Close what this thread has open."""
        for cache in {self._cache, getattr(self._last, "cache", self._cache)}:
            cache.close()

    def _current(self) -> Any:
        """The database that lies there now. Where another process has put an empty one in the place of a damaged one,
        this one may still read what it has open, and would write where nobody else looks."""
        if self._there() not in (self._inode, 0):
            with self._replacing, contextlib.suppress(*FAULTS), _locked(self._directory):
                if self._there() not in (self._inode, 0):
                    self._cache, self._inode = self._opened()
        return self._cache

    def _there(self) -> int:
        """The inode of the database; 0 where there is none, which an attempt will find out."""
        try:
            return os.stat(self._home / "cache.db").st_ino
        except OSError:
            return 0

    def _opened(self) -> tuple[Any, int]:
        try:
            return self._constructed()
        except sqlite3.DatabaseError as error:
            if not self._damaged(error):
                raise
        self._set_aside()
        return self._constructed()

    def _constructed(self) -> tuple[Any, int]:
        secured(self._home)
        try:
            cache = _Cache(str(self._home), timeout=_BUSY_SECONDS, disk=GuardedDisk, **_SETTINGS)
        except (
            AttributeError,
            TypeError,
            ValueError,
        ) as error:  # what diskcache makes of settings that it did not write
            raise _Unreadable(f"its settings cannot be read ({error})") from error
        try:
            cache._sql("CREATE INDEX IF NOT EXISTS Cache_filename ON Cache (filename) WHERE filename IS NOT NULL")
        finally:
            cache.close()
        return cache, (self._home / "cache.db").stat().st_ino

    def _swept(self, cache: Any, part: str) -> None:
        before = time.time() - _ORPHAN_SECONDS
        files = [file for file in self._home.glob(f"{part}/??/*.val") if _modified(file) < before]
        if not files:
            return
        select = "SELECT filename FROM Cache WHERE filename >= ? AND filename < ?"
        known = {filename for (filename,) in cache._sql(select, (f"{part}/", f"{part}0")).fetchall()}
        for file in files:
            if str(file.relative_to(self._home)) not in known:
                file.unlink(missing_ok=True)

    def _damaged(self, error: BaseException) -> bool:
        if not isinstance(error, sqlite3.DatabaseError):
            return False
        if isinstance(error, _Unreadable):
            return True
        # Any other failure to open (no descriptor left, say) is no reason to throw a database away.
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        gone = code == sqlite3.SQLITE_CANTOPEN and not self._home.exists()
        # SQLITE_ERROR is also what a rollback after a full disk gives; a table that lacks is damage.
        other = code == sqlite3.SQLITE_ERROR and str(error).startswith("no such ")
        return gone or other or code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

    def _replace(self, damaged: Any) -> None:
        with self._replacing, contextlib.suppress(*FAULTS), _locked(self._directory):
            if self._cache is not damaged:
                return
            with contextlib.suppress(FileNotFoundError):
                # Another process may have replaced it already: then its new one is not ours to set aside.
                if (self._home / "cache.db").stat().st_ino == self._inode:
                    self._set_aside()
            self._cache, self._inode = self._opened()

    def _set_aside(self) -> None:
        aside = self._home.with_name(f"{self._home.name}.damaged-{time.time_ns()}")
        self._home.rename(aside)
        self._told(f"the database was damaged: it is set aside as {aside}, and an empty one is in its place")

    def _tidied(self) -> None:
        """Drop other formats, and all but the last set aside."""
        aside = sorted(self._directory.glob("v*.damaged-*"))
        formats = [path for path in self._directory.iterdir() if re.fullmatch(r"v\d+", path.name)]
        for old in [*aside[:-1], *formats]:
            if old != self._home:
                shutil.rmtree(old, ignore_errors=True)


def secured(directory: Path) -> None:
    """Make the directory if need be, for this user alone."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(PermissionError):
        directory.chmod(0o700)


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _modified(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except FileNotFoundError:
        return time.time()
