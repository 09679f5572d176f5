"""Reads all that is stored and sets aside, or drops, what is not what it was when it was stored.

It asks nobody upstream: what is missing then is fetched when somebody wants it. Running servers are told of each
tarball, so that who has it in memory or open lets go of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

from proxy.engine import at_hand
from proxy.engine.purging import Purging
from proxy.stores import codec
from proxy.stores.base import BlobStore, Listed, Store

AT_ONCE = 3
"""Files being read: what a store has threads for."""

Told = Callable[[int], None]
"""Hears of each thing read, with its size in bytes."""


@dataclass(frozen=True, slots=True)
class Corrupt:
    """A tarball that was set aside, and why."""

    file: Listed
    reason: str


@dataclass(slots=True)
class Verified:
    """What came of it. unreadable: keys of values that were dropped because they could not be read."""

    tarballs: int = 0
    bytes: int = 0
    entries: int = 0
    corrupt: list[Corrupt] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)


class Verifying:
    def __init__(self, *, blobs: BlobStore, stores: Sequence[Store], purging: Purging) -> None:
        """`stores`: each by itself, since what one of two mirrors has hides what the other has not."""
        self._blobs = blobs
        self._stores = stores
        self._purging = purging

    async def count(self) -> int:
        """About how many things there are to read."""
        count = 0
        async for _ in self._blobs.files():
            count += 1
        for store in self._stores:
            async for _ in store.keys():
                count += 1
        return count

    async def run(self, told: Told) -> Verified:
        verified = Verified()
        files = self._blobs.files()
        turn = asyncio.Lock()
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(self._tarballs(files, turn, verified, told))
        verified.corrupt.sort(key=lambda each: (each.file.name, each.file.sha256))
        for store in self._stores:
            await self._entries(store, verified, told)
        return verified

    async def _tarballs(self, files: AsyncIterator[Listed], turn: asyncio.Lock, verified: Verified, told: Told) -> None:
        while True:
            async with turn:  # an iterator bears one at a time
                file = await anext(files, None)
            if file is None:
                return
            wrong = await self._blobs.verify(file)
            if wrong is None:
                continue  # evicted or purged meanwhile
            if wrong:
                verified.corrupt.append(Corrupt(file, wrong))
                if file.crate is not None:  # else nobody was served from it
                    await self._purging.withdrawn(file.crate.name, at_hand.key(file.crate, file.sha256))
            verified.tarballs += 1
            verified.bytes += file.size
            told(file.size)

    async def _entries(self, store: Store, verified: Verified, told: Told) -> None:
        suspects = set()
        async for key in store.keys():
            value = await store.get(key)
            verified.entries += 1
            told(len(value or b""))
            if value is None or codec.decoded(value) is None:
                suspects.add(key)
        if not suspects:
            return
        # What has merely expired or been deleted between the two looks is no longer listed, or is there anew.
        async for key in store.keys():
            if key in suspects:
                value = await store.get(key)
                if value is None or codec.decoded(value) is None:
                    await store.delete(key)
                    verified.unreadable.append(key)
