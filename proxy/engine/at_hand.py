"""Tarballs that were asked for lately, at hand without a look at the store: small ones in memory, others held open.

What is in memory has had its checksum taken when it came there. What was announced as purged is forgotten as in any
memory tier, and so is everything when the fleet is lost. It knows no index and no client.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from proxy.model import Crate
from proxy.rules import names
from proxy.rules.digest import Digest
from proxy.stores.base import Blob, BlobStore
from proxy.stores.memory import Memory

LARGEST = 256 * 1024
"""Bytes of a tarball that is held in memory: nine in ten are smaller."""
OPEN = 128
"""Larger ones that are held open, which the usual limit of 1024 files a process leaves room for."""
_OVERHEAD = 2048  # bytes that one in memory costs beside its content, measured roughly


@dataclass(frozen=True, slots=True)
class Held:
    """A `Blob` in memory. `prepared` is the edge's: what it has made of it lives and goes with it."""

    sha256: str
    data: bytes
    stored: float
    prepared: dict[object, object] = field(default_factory=dict, compare=False, repr=False)

    @property
    def size(self) -> int:
        return len(self.data)

    async def read(self, offset: int, size: int) -> bytes:
        return self.data[offset : offset + size]

    def again(self) -> Held:
        return self

    def sound(self) -> bool:
        return True

    def close(self) -> None:
        pass


def key(crate: Crate, sha256: str) -> str:
    return f"download {crate.name} {crate.version} {sha256}"


class AtHand:
    """`small` and `files` are memory tiers, the second counted in files; both have to hear what is purged."""

    def __init__(self, *, blobs: BlobStore, small: Memory[Held], files: Memory[Blob]) -> None:
        self._blobs = blobs
        self._small = small
        self._files = files

    def held(self, key: str) -> Held | None:
        """The file in memory, counted as used."""
        held = self._small.get(key)
        if held is not None:
            self._blobs.used(held.sha256)
        return held

    def opened(self, key: str) -> Blob | None:
        """The file that is held open, counted as used."""
        kept = self._files.get(key)
        if kept is None:
            return None
        if not kept.sound():
            self._files.delete(key)
            return None
        self._blobs.used(key.rpartition(" ")[2])
        return kept.again()

    async def open(self, crate: Crate, sha256: str) -> Blob | None:
        """As `BlobStore.open`."""
        name = key(crate, sha256)
        at_hand = self.held(name) or self.opened(name)
        if at_hand is not None:
            return at_hand
        purges = self._small.purges
        blob = await self._blobs.open(crate, sha256)
        if blob is None:
            return None
        tag = names.folded(crate.name)
        if blob.size > LARGEST:
            if self._small.purges == purges:
                self._files.put(name, blob.again(), size=1, tag=tag)
            return blob
        found = await _whole(blob, sha256)
        if found is None:
            return blob
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
