"""One limit over all that is kept on the disk. It knows what gives way first, and no database.

Tarballs go first, by least recent use, then the stores in the order given: an index file is worth more than one
tarball, because a build resolves with all of them and downloads a few.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

# Trimmed to this share, so that the next commits do not trim again.
_LOW = 0.95
# Bytes dropped between two measurements, as a share: processes that trim at the same time overshoot by one each.
_STEP = 0.02
# Between two measurements a process may add this share of what was left to the limit, or the least share of the
# limit itself: eight processes together stay within it, give or take the least.
_SHARE = 1 / 8
_LEAST = 1 / 256


Told = Callable[[int], None]
"""Hears how many bytes were freed just now."""


class Trimmed(Protocol):
    """A store on the disk; `pinned` tells which keys, or which SHA-256 of tarballs, stay whatever happens."""

    async def volume(self) -> int: ...

    async def trim(self, want: int, pinned: Callable[[str], bool]) -> int: ...


class Limit:
    """Keeps `blobs` and `stores` together under `max_size` bytes."""

    def __init__(
        self,
        max_size: int,
        blobs: Trimmed,
        stores: Sequence[Trimmed],
        pinned: Callable[[str], bool] = lambda name: False,
        told: Callable[[str], None] = lambda what: None,
    ) -> None:
        """`told` hears, once until that changes, that what is pinned does not fit."""
        self._max_size = max_size
        self._blobs = blobs
        self._stores = stores
        self._pinned = pinned
        self._told = told
        self._over = False
        self._allowance = 0.0
        self._busy = asyncio.Lock()

    async def keep(self, added: int) -> int:
        """To be called with the size of whatever was stored. Returns the bytes freed, 0 nearly always.

        It measures only when enough was added since the last time; until then it costs one subtraction.
        """
        self._allowance -= added
        if self._allowance > 0 or self._busy.locked():
            return 0
        async with self._busy:
            return await self.trim()

    async def trim(self, told: Told = lambda freed: None) -> int:
        """Measure now, and trim where it is over the limit. Returns the bytes freed; `told` hears of each step."""
        volume = await self.volume()
        freed = 0
        if volume > self._max_size:
            target = int(self._max_size * _LOW)
            while volume > target:
                step = await self._trimmed(min(volume - target, max(1, int(self._max_size * _STEP))))
                if step == 0:
                    break  # nothing is left but what is pinned, or the disk fails: later, then
                freed += step
                told(step)
                volume = await self.volume()
        over = volume > self._max_size
        if over and not self._over:
            self._told(f"{volume} bytes stay, more than cache.max_size: what is pinned is kept all the same")
        self._over = over
        self._allowance = max((self._max_size - volume) * _SHARE, self._max_size * _LEAST)
        return freed

    async def free(self, want: int, told: Told = lambda freed: None) -> int:
        """Free `want` bytes, whatever the limit says, as far as they are not pinned. Returns the bytes freed."""
        freed = 0
        while freed < want:
            step = await self._trimmed(min(want - freed, max(1, int(self._max_size * _STEP))))
            if step == 0:
                break
            freed += step
            told(step)
        return freed

    async def volume(self) -> int:
        """Bytes of all that it limits."""
        return sum(await asyncio.gather(self._blobs.volume(), *(store.volume() for store in self._stores)))

    async def _trimmed(self, want: int) -> int:
        freed = await self._blobs.trim(want, self._pinned)
        for store in self._stores:
            if freed < want:
                freed += await store.trim(want - freed, self._pinned)
        return freed
