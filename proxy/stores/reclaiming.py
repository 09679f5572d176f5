"""Frees what a cache directory holds in vain, and what it holds too much, at once rather than when it shows.

It knows the parts and their order, and neither a database nor what anything stored means.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from proxy.stores.blobs import DiskBlobs
from proxy.stores.disk import DiskStore
from proxy.stores.limit import Limit, Told


@dataclass(frozen=True, slots=True)
class Freed:
    files: int = 0
    bytes: int = 0

    def since(self, before: Freed) -> Freed:
        return Freed(self.files - before.files, self.bytes - before.bytes)


@dataclass(frozen=True, slots=True)
class Reclaimed:
    """temporary: what killed writers left; expired: values past their time; evicted: by store, to keep `max_size` and
    `min_free`. stored: bytes that are left; free: bytes of the disk."""

    temporary: Freed
    expired: Freed
    evicted: Mapping[str, Freed]
    stored: int
    max_size: int
    free: int
    min_free: int

    @property
    def problems(self) -> list[str]:
        """Why it is not as the settings want it."""
        found = []
        if self.stored > self.max_size:
            found.append(
                f"{self.stored} bytes are stored, more than cache.max_size = {self.max_size}: what is pinned is kept"
            )
        if self.free < self.min_free:
            found.append(
                f"{self.free} bytes of the disk are free, less than cache.min_free = {self.min_free}: something else"
                " fills it, or what is pinned does; tarballs are passed on and not stored meanwhile"
            )
        return found


class Reclaiming:
    """`kept`: the stores whose values are kept for `keep` seconds. `named`: what `limit` is over, by name."""

    def __init__(
        self,
        directory: Path,
        *,
        blobs: DiskBlobs,
        limit: Limit,
        kept: Sequence[DiskStore],
        named: Mapping[str, DiskBlobs | DiskStore],
        keep: float,
        max_size: int,
        min_free: int,
        clock: Callable[[], float],
    ) -> None:
        self._directory = directory
        self._blobs = blobs
        self._limit = limit
        self._kept = kept
        self._named = named
        self._keep = keep
        self._max_size = max_size
        self._min_free = min_free
        self._clock = clock

    async def run(self, told: Told) -> Reclaimed:
        """Free it; `told` hears of each step. Whoever reads a file that goes reads it to its end."""
        await self._blobs.reconcile()
        for each in self._named.values():
            if isinstance(each, DiskStore):
                await each.sweep()
        # What was stored while `cache.keep` was longer has that on it.
        dropped = [await store.expire(self._clock() - self._keep) for store in self._kept]
        expired = Freed(sum(count for count, _ in dropped), sum(freed for _, freed in dropped))
        before = {name: Freed(each.evicted, each.freed) for name, each in self._named.items()}
        await self._limit.trim(told)
        await self._limit.free(self._min_free - await self._free(), told)
        return Reclaimed(
            temporary=Freed(*self._blobs.swept),
            expired=expired,
            evicted={name: Freed(each.evicted, each.freed).since(before[name]) for name, each in self._named.items()},
            stored=await self._limit.volume(),
            max_size=self._max_size,
            free=await self._free(),
            min_free=self._min_free,
        )

    async def _free(self) -> int:
        """Bytes of the disk that are free to us."""
        room = await asyncio.to_thread(os.statvfs, self._directory)
        return room.f_bavail * room.f_frsize
