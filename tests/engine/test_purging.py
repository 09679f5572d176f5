"""What another member purged, where this one has it in memory and on a disk of its own."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import pytest

from proxy.engine.at_hand import AtHand, Held, Opened, key
from proxy.engine.changes import Changes
from proxy.engine.purging import Holdings
from proxy.model import Crate, Invalidation, Selection
from proxy.stores.blobs import DiskBlobs
from proxy.stores.memory import Memory
from tests.engine.fakes import DictStore

pytestmark = pytest.mark.anyio

LEAF = Crate("leaf", "1.0.0")
CONTENT = b"x" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class SlowDisk(DiskBlobs):
    """It deletes nothing until it is `time` for that."""

    time: asyncio.Event

    async def purge(self, selection: Selection) -> int:
        await self.time.wait()
        return await super().purge(selection)


async def test_a_tarball_taken_to_memory_while_it_is_being_purged_is_forgotten_with_its_file(tmp_path: Path) -> None:
    blobs = SlowDisk(tmp_path, 0, lambda what, happened: None, lambda: 1000.0)
    blobs.time = asyncio.Event()
    small, files = Memory[Held](1 << 24), Memory[Opened](1 << 24)
    at_hand = AtHand(blobs=blobs, small=small, files=files)
    changes = Changes(DictStore(), keep=1.0, tiers=(small, files))
    holdings = Holdings(changes=changes, stores=(), blobs=blobs)
    spool = await blobs.spool(LEAF, SHA256)
    await spool.write(CONTENT)
    (await spool.commit()).close()
    holdings.hear(Invalidation(Selection(crate="leaf"), soft=False, at=1000.0))
    assert await at_hand.open(LEAF, SHA256) is not None, "its file is still there"
    blobs.time.set()
    await holdings.aclose()
    assert at_hand.kept(key(LEAF, SHA256)) is None
    assert await at_hand.open(LEAF, SHA256) is None
    await blobs.aclose()
