"""Where all that is stored lies: what an archive is filled from, and what it fills. A name for four things."""

from __future__ import annotations

from dataclasses import dataclass

from proxy.engine.changes import Changes
from proxy.rules.endpoints import Kind
from proxy.rules.keys import Read
from proxy.stores.base import BlobStore, Store


@dataclass(frozen=True, slots=True)
class Depot:
    """`answers` has JSON, readmes and what upstream's own headers govern."""

    index: Store
    answers: Store
    blobs: BlobStore
    changes: Changes

    def of(self, read: Read) -> Store:
        return self.index if read.endpoint.kind is Kind.INDEX else self.answers
