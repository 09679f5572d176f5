"""The memory tier: prepared values, least recently used first out, bounded in bytes.

Synchronous, for one event loop. It knows nothing of bytes, clocks or freshness: whoever puts a value says
how large it is.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

from proxy.model import Selection
from proxy.stores import selecting

V = TypeVar("V")

# One object may take an eighth: a single large crate page must not empty the tier of everything else.
_SHARE = 8


class Memory(Generic[V]):
    """`bound` is in bytes; 0 keeps nothing."""

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._bytes = 0
        self.purges = 0  # how often values were purged, whether there were any or not
        self.evicted = 0  # values dropped to make room for others
        self._kept: OrderedDict[str, tuple[V, int, str]] = OrderedDict()
        self._tagged: dict[str, set[str]] = {}

    def get(self, key: str) -> V | None:
        """The value, which thereby becomes the most recently used."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        self._kept.move_to_end(key)
        return kept[0]

    def put(self, key: str, value: V, size: int, tag: str) -> None:
        """Keep a value that weighs `size` bytes; one too large is not kept, and replaces what was there."""
        self.delete(key)
        if self._bound <= 0 or size * _SHARE > self._bound:
            return
        self._kept[key] = (value, size, tag)
        self._tagged.setdefault(tag, set()).add(key)
        self._bytes += size
        while self._bytes > self._bound:
            self.delete(next(iter(self._kept)))
            self.evicted += 1

    def delete(self, key: str) -> None:
        kept = self._kept.pop(key, None)
        if kept is None:
            return
        _, size, tag = kept
        self._bytes -= size
        keys = self._tagged[tag]
        keys.discard(key)
        if not keys:
            del self._tagged[tag]

    def purge(self, selection: Selection) -> int:
        """Drop what the selection takes; how many values that were. By crate it costs that crate's values."""
        self.purges += 1
        known = self._kept if selection.crate is None else self._tagged.get(selection.crate, ())
        keys = [key for key in known if selecting.takes(selection, key)]
        for key in keys:
            self.delete(key)
        return len(keys)

    def clear(self) -> None:
        self.purges += 1
        self._kept.clear()
        self._tagged.clear()
        self._bytes = 0

    @property
    def bound(self) -> int:
        return self._bound

    @property
    def bytes(self) -> int:
        return self._bytes

    @property
    def entries(self) -> int:
        return len(self._kept)
