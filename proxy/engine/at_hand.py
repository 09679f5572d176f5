"""Tarballs that were asked for lately, at hand without a look at the store: small ones in memory, others held open.

What is in memory has had its checksum taken when it came there. What was announced as purged is forgotten as in any
memory tier, and so is everything when the fleet is lost. It knows no index and no client.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from proxy.model import Crate
from proxy.rules import names
from proxy.rules.digest import Digest
from proxy.stores.base import MAPPED, Blob, BlobStore
from proxy.stores.memory import Memory

LARGEST = 256 * 1024
"""Bytes of a tarball that is held in memory: nine in ten are smaller."""
OPEN = 128
"""Larger ones that are held open at most, which the usual limit of 1024 files a process leaves room for, though one
that is mapped counts twice."""
OPEN_BYTES = 64 * 1024 * 1024
"""What of them is mapped at most. It is the page cache's, and all workers', but is told as memory of each."""
_OPEN_LEAST = OPEN_BYTES // OPEN
_OVERHEAD = 4096  # bytes that one in memory costs beside its content, most of them what the edge has prepared


@dataclass(frozen=True, slots=True)
class Held:
    """A `Blob` in memory. `prepared` is the edge's: what it has made of it lives and goes with it."""

    sha256: str
    data: bytes
    stored: float
    prepared: dict[object, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def size(self) -> int:
        return len(self.data)

    async def read(self, offset: int, size: int) -> bytes:
        return self.data[offset : offset + size]

    def mapped(self) -> memoryview:
        return memoryview(self.data)

    def fileno(self) -> None:
        return None

    def again(self) -> Held:
        return self

    def sound(self) -> bool:
        return True

    def close(self) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Opened:
    """A file that is held open. `prepared` as with `Held`."""

    sha256: str
    blob: Blob
    prepared: dict[object, Any] = field(default_factory=dict, compare=False, repr=False)


def key(crate: Crate, sha256: str) -> str:
    return f"download {crate.name} {crate.version} {sha256}"


class AtHand:
    """`small` and `files` are memory tiers; both have to hear what is purged."""

    def __init__(self, *, blobs: BlobStore, small: Memory[Held], files: Memory[Opened]) -> None:
        self._blobs = blobs
        self._small = small
        self._files = files

    def kept(self, key: str) -> Held | Opened | None:
        """What is at hand. Whoever answers with it says that it is `used`, now and then."""
        return self._small.get(key) or self._files.get(key)

    def used(self, sha256: str) -> None:
        self._blobs.used(sha256)

    def again(self, key: str) -> Blob | None:
        """The file at hand, for one more reader and counted as used."""
        kept = self.kept(key)
        if kept is None:
            return None
        if isinstance(kept, Held):
            self.used(kept.sha256)
            return kept
        if not kept.blob.sound():
            self._files.delete(key)
            return None
        self.used(kept.sha256)
        return kept.blob.again()

    async def open(self, crate: Crate, sha256: str) -> Blob | None:
        """As `BlobStore.open`."""
        name = key(crate, sha256)
        at_hand = self.again(name)
        if at_hand is not None:
            return at_hand
        purges = self._small.purges
        blob = await self._blobs.open(crate, sha256)
        if blob is None:
            return None
        tag = names.folded(crate.name)
        if blob.size > LARGEST:
            if self._small.purges == purges:
                size = blob.size if blob.size <= MAPPED else 0
                self._files.put(name, Opened(sha256, blob.again()), size=max(size, _OPEN_LEAST), tag=tag)
            return blob
        found = await _whole(blob, sha256)
        if found is None:
            blob.close()
            return await self._blobs.open(crate, sha256)  # which finds out what is wrong with it, and sets it aside
        if self._small.purges == purges:  # else it may be what was purged
            self._small.put(name, found, size=found.size + _OVERHEAD, tag=tag)
        blob.close()
        return found


async def _whole(blob: Blob, sha256: str) -> Held | None:
    """A small file in memory; None where it cannot be read, or is not what it is stored as."""
    try:
        data = bytes(await blob.read(0, blob.size))
    except OSError:
        return None
    digest = Digest(sha256)
    digest.update(data)
    return Held(sha256, data, blob.stored) if digest.matches() else None
