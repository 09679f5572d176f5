"""The part of the wiring that says what a process has in memory, and how much of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from proxy.engine import at_hand
from proxy.engine.at_hand import AtHand, Held, Opened
from proxy.engine.changes import Changes, Forgetful
from proxy.engine.copies import Copies, Hot
from proxy.engine.shelf import Shelf
from proxy.rules.endpoints import Kind
from proxy.stores.base import BlobStore, Store
from proxy.stores.memory import Memory

TARBALLS = 4
"""Of `cache.memory` one part in so many is for small tarballs: a byte of an index file or of JSON saves more."""
NEGATIVES = 4 * 1024 * 1024
"""Bytes of the memory tier for what does not exist: some two thousand names a worker."""


@dataclass(frozen=True, slots=True)
class Tiers:
    """Each forgets what it is told has changed."""

    entries: Memory[Hot]
    negatives: Memory[Hot]
    small: Memory[Held]
    files: Memory[Opened]

    @classmethod
    def of(cls, room: int) -> Tiers:
        """With `room` bytes (`cache.memory`) for what exists."""
        tarballs = room // TARBALLS
        return cls(Memory(room - tarballs), Memory(NEGATIVES), Memory(tarballs), Memory(at_hand.OPEN_BYTES))

    @property
    def all(self) -> Sequence[Forgetful]:
        return self.entries, self.negatives, self.small, self.files

    def told(self, serving: bool) -> Sequence[Memory[Any]]:
        """Those of which figures tell: what holds bytes, not files. The memory of a mere command serves nobody."""
        return (self.entries, self.negatives, self.small) if serving else ()

    def copies(self, *, json: Store, index: Store, keep: float, changes: Changes) -> Copies:
        return Copies(
            memory=self.entries,
            negatives=self.negatives,
            stores={Kind.JSON: json, Kind.HTML: json, Kind.INDEX: index},
            keep={Kind.JSON: keep, Kind.HTML: keep, Kind.INDEX: None},
            changes=changes,
        )

    def shelf(self, *, json: Store, keep: float, changes: Changes, clock: Callable[[], float]) -> Shelf:
        return Shelf(memory=self.entries, negatives=self.negatives, store=json, changes=changes, keep=keep, clock=clock)

    def at_hand(self, blobs: BlobStore) -> AtHand:
        return AtHand(blobs=blobs, small=self.small, files=self.files)
