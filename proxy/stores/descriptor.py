"""An open file that is read, or sent, by a loop which must not wait for the disk. It knows no path."""

from __future__ import annotations

import contextlib
import errno
import math
import mmap
import os
import time

from proxy.stores.base import Bytes
from proxy.stores.threads import Threads

# Above this a copy out of the page cache takes long enough to hold up everyone else on the loop.
_AT_ONCE = 256 * 1024
# Linux only; elsewhere each read goes to a thread.
_NOWAIT = getattr(os, "RWF_NOWAIT", None)
# The page cache is asked for a byte of each so many: files come there from their beginning on, and go so.
_STRIDE = 1024 * 1024
STAYS = 0.1
"""Seconds in which it is not asked again about a file: what was used last is the last to go."""


class Descriptor:
    """Closed when nobody holds it any more.

    Whoever reads in a thread holds it meanwhile: closed under that read, its number would be another file's.
    """

    __slots__ = ("_mapped", "_resident", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        self._mapped: memoryview | None = None
        self._resident = -math.inf  # when it was last seen to be in the page cache, in monotonic seconds

    def mapped(self, size: int) -> memoryview | None:
        """The first `size` bytes without a copy, where they are in the page cache now; see `Blob.mapped`."""
        now = time.monotonic()
        if now - self._resident > STAYS:
            if not _resident(self.number, size):
                return None
            self._resident = now
        if self._mapped is None:
            try:
                self._mapped = memoryview(mmap.mmap(self.number, size, prot=mmap.PROT_READ))
            except (OSError, ValueError):
                return None  # no room for it, or the file is shorter
        return self._mapped

    def __del__(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self.number)


async def read(threads: Threads, held: Descriptor, offset: int, size: int, end: int) -> Bytes:
    """At most `size` bytes from `offset`, fewer only at `end`: from the page cache at once, else in a thread."""
    size = min(size, end - offset)
    if size <= 0:
        return b""
    found: Bytes = _cached(held, offset, size) if size <= _AT_ONCE else b""
    if len(found) == size:
        return found
    return found + await threads.run(_read, held, offset + len(found), size - len(found))


def _cached(held: Descriptor, offset: int, size: int) -> Bytes:
    if _NOWAIT is None:  # pragma: no cover
        return b""
    buffer = bytearray(size)
    try:
        count = os.preadv(held.number, [buffer], offset, _NOWAIT)
    except OSError:
        return b""  # not in memory (EAGAIN), or a file system without this call (EOPNOTSUPP)
    del buffer[count:]
    return buffer


def _resident(number: int, size: int) -> bool:
    if _NOWAIT is None:  # pragma: no cover
        return False
    byte = [bytearray(1)]
    try:
        return all(os.preadv(number, byte, offset, _NOWAIT) for offset in (*range(0, size, _STRIDE), size - 1))
    except OSError:
        return False  # as in `_cached`


def _read(held: Descriptor, offset: int, size: int) -> bytes:
    pieces = []
    while size:
        piece = os.pread(held.number, size, offset)
        if not piece:
            raise OSError(errno.EIO, "the file is shorter than it was")
        pieces.append(piece)
        offset += len(piece)
        size -= len(piece)
    return b"".join(pieces)


def write(held: Descriptor, offset: int, data: Bytes) -> None:
    """All of `data` at `offset`. It blocks."""
    view = memoryview(data)
    while view:
        count = os.pwrite(held.number, view, offset)
        offset += count
        view = view[count:]
