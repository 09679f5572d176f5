"""Invalidates and deletes, here and in the whole fleet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from proxy.engine.changes import Changes
from proxy.fleet.base import Fleet
from proxy.model import Invalidation, Selection
from proxy.rules import names, vary
from proxy.stores.base import BlobStore, Store

DOWNLOAD = "download"
"""The endpoint of tarballs."""


class Holdings:
    """What this member holds, and its ear for what the others of the fleet announce."""

    def __init__(self, *, changes: Changes, stores: Sequence[Store], blobs: BlobStore) -> None:
        self._changes = changes
        self._stores = stores
        self._blobs = blobs
        self._deleting: set[asyncio.Task[None]] = set()

    def hear(self, invalidation: Invalidation) -> None:
        """The fleet's listener. Another member's disk need not be ours: what it purged, each purges itself."""
        self._changes.hear(invalidation)
        if not invalidation.soft:
            task = asyncio.ensure_future(self._deleted(invalidation))
            self._deleting.add(task)
            task.add_done_callback(self._deleting.discard)

    async def _deleted(self, invalidation: Invalidation) -> None:
        """Delete it here, too, and forget it once more: until a file was gone, somebody may have taken it to memory,
        and no mark is looked at for tarballs."""
        await self.delete(invalidation.selection)
        self._changes.hear(invalidation)

    async def delete(self, selection: Selection) -> int:
        """Delete from the stores of this member; how many values and files that were (0 told for a single key)."""
        if selection.key is not None:
            await asyncio.gather(*(store.delete(key) for store in self._stores for key in vary.family(selection.key)))
            return 0
        deletions = [store.purge(selection) for store in self._stores]
        if selection.endpoint in (None, DOWNLOAD):
            deletions.append(self._blobs.purge(Selection(crate=selection.crate)))
        return sum(await asyncio.gather(*deletions))

    async def count(self, selection: Selection) -> int:
        """How many stored values `selection` takes. Tarballs never need to be revalidated and are not among them."""
        return sum(await asyncio.gather(*(store.count(selection) for store in self._stores)))

    async def aclose(self) -> None:
        await asyncio.gather(*self._deleting)


class Purging:
    def __init__(self, *, changes: Changes, holdings: Holdings, fleet: Fleet, clock: Callable[[], float]) -> None:
        self._changes = changes
        self._holdings = holdings
        self._fleet = fleet
        self._clock = clock

    async def changed(self, selection: Selection) -> None:
        """What `selection` takes must be revalidated before use, but still serves when upstream fails."""
        await self._tell(Invalidation(selection, soft=True, at=self._clock()))

    async def purge(self, selection: Selection, *, soft: bool = False) -> int:
        """Delete what `selection` takes; returns how many stored values and files that were. `soft` does what
        `changed` does, and tells how many values that concerns."""
        if soft:
            await self.changed(selection)
            return await self._holdings.count(selection)
        purged = await self._holdings.delete(selection)
        await self._tell(Invalidation(selection, soft=False, at=self._clock()))
        # What a fetch under way stored meanwhile is gone by its mark; this frees the room.
        return purged + await self._holdings.delete(selection)

    async def outdated(self, endpoint: str, key: str) -> None:
        """A change made what is stored under one key worthless (RFC 9111 section 4.4)."""
        selection = Selection(endpoint=endpoint, key=key)
        await self._holdings.delete(selection)
        await self._fleet.announce(Invalidation(selection, soft=False, at=self._clock()))

    async def withdrawn(self, crate: str, key: str) -> None:
        """A tarball is no longer to be served: whoever has it in memory or open, under this key of `at_hand`, lets go
        of it. Nothing is deleted."""
        selection = Selection(crate=names.folded(crate), endpoint=DOWNLOAD, key=key)
        await self._fleet.announce(Invalidation(selection, soft=True, at=self._clock()))

    async def evicted(self) -> None:
        """Tarballs were dropped for lack of room: who has some open closes them, which is what frees the room."""
        await self._fleet.announce(Invalidation(Selection(endpoint=DOWNLOAD), soft=True, at=0.0))

    async def supplied(self) -> None:
        """Somebody has put better copies into the stores: whoever holds some in memory looks again.

        It is told as a change at the beginning of time: memory tiers forget, and no stored entry is older than that.
        """
        await self._fleet.announce(Invalidation(Selection(), soft=True, at=0.0))

    async def _tell(self, invalidation: Invalidation) -> None:
        await self._changes.record(invalidation)
        await self._fleet.announce(invalidation)
