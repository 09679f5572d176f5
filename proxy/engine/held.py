"""A file held in memory, for the time that it takes to pass it on: what is left where the disk is full or fails."""

from __future__ import annotations

import errno

from proxy.stores.base import Blob, Bytes

LARGEST = 16 * 1024 * 1024
"""Bytes of one file. crates.io takes 10 MiB where it makes no exception."""


class HeldSpool:
    """A `Spool` that can be read along but not kept. `name` is empty: no other process can follow it."""

    name = ""

    def __init__(self) -> None:
        self._data = bytearray()

    async def write(self, data: Bytes) -> None:
        if len(self._data) + len(data) > LARGEST:
            raise OSError(errno.EFBIG, f"the disk fails, and at most {LARGEST} bytes are held in memory instead")
        self._data += data

    async def read(self, offset: int, size: int) -> bytes:
        return bytes(self._data[offset : offset + size])

    async def commit(self) -> Blob:
        raise OSError(errno.EIO, "what is held in memory cannot be kept")

    async def discard(self) -> None:
        self._data.clear()
