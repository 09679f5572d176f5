"""The copies of what is answered from memory whole: in the memory tier, and in the store of its kind.

It knows what is kept and what was announced about it since. It judges nothing and asks nobody upstream.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from proxy.engine.changes import Changes
from proxy.model import Entry, Mark, Outcome, Verdict
from proxy.rules import freshness
from proxy.rules.endpoints import Kind
from proxy.rules.keys import Read
from proxy.stores import codec
from proxy.stores.base import Store
from proxy.stores.memory import Memory

_ENTRY_OVERHEAD = 2048  # bytes that an entry in memory costs beside its body, measured roughly
_PREPARED = 3072  # bytes that the edge makes of it to answer at once, in one coding; of what is there, not of absences


@dataclass(frozen=True, slots=True)
class Hot:
    """An entry in the memory tier; until `fresh_until` nothing needs to be decided about it.

    `prepared` is the edge's: what it has made of the entry lives and goes with it, and nothing in here reads it.
    """

    entry: Entry
    fresh_until: float
    prepared: dict[object, Any] = field(default_factory=dict, compare=False, repr=False)

    def fresh(self, now: float) -> bool:
        """A clock that went backwards makes nothing fresh for longer."""
        return now < self.fresh_until and not freshness.ahead(self.entry, now)

    def hit(self, now: float) -> Outcome:
        """What a read comes to that it answers; it has to be fresh."""
        return Outcome(Verdict.HIT, self.entry, self.fresh_until - now, freshness.age(self.entry, now))


class Copies:
    def __init__(
        self,
        *,
        memory: Memory[Hot],
        negatives: Memory[Hot],
        stores: Mapping[Kind, Store],
        keep: Mapping[Kind, float | None],
        changes: Changes,
    ) -> None:
        """`negatives` holds the 404s, apart from the rest and in memory only, so that a flood of names that do
        not exist pushes nothing out. `keep`: seconds for which a store keeps an entry of that kind, None for ever.
        """
        self._memory = memory
        self._negatives = negatives
        self._stores = stores
        self._keep = keep
        self._changes = changes

    def hot(self, key: str) -> Hot | None:
        """What is in memory, fresh or not."""
        return self._memory.get(key) or self._negatives.get(key)

    async def stored(self, read: Read, *, absent: bool = False) -> tuple[Entry | None, Mark]:
        """The newer of what the store and memory have under the key: the store may have failed, and is told last; and
        the marks. `absent`: the store did not have it, and nobody but this process has stored it since."""
        known = absent and self._memory.bound > 0
        value = None if known else await self._stores[read.endpoint.kind].get(read.key)
        # The marks come last: what was announced while the store was read must count.
        mark = await self._changes.of(read)
        entry = codec.decoded(value) if value is not None else None
        hot = self._memory.get(read.key)
        if hot is not None and (entry is None or hot.entry.responded_at > entry.responded_at):
            entry = hot.entry
        return (entry if entry is not None and entry.requested_at > mark.purged else None), mark

    async def mark(self, read: Read) -> Mark:
        """The marks that cover this read by now."""
        return await self._changes.of(read)

    async def keep(self, read: Read, entry: Entry) -> None:
        """Store what upstream gave, for as long as its kind is kept, unless it is purged by now."""
        store = self._stores[read.endpoint.kind]
        if entry.status == 200:
            await store.put(read.key, codec.encoded(entry), tag=read.tag, keep=self._keep[read.endpoint.kind])
        else:  # upstream's 404 replaces what is stored at once
            await store.delete(read.key)
        if entry.requested_at <= (await self._changes.of(read)).purged:  # its own deletion may have come before
            await store.delete(read.key)

    def warm(self, read: Read, entry: Entry, mark: Mark, now: float) -> None:
        """Have it at hand in memory for as long as it is fresh, unless something newer is: it may have been read from
        the store for a while."""
        kept = self.hot(read.key)
        if kept is not None and entry.responded_at < kept.entry.responded_at <= now:
            return
        left = freshness.fresh_for(entry, read.policy, now, mark.changed)
        size = len(entry.body) + len(entry.gzip.body if entry.gzip else b"") + _ENTRY_OVERHEAD
        if entry.status == 200:
            self._memory.put(read.key, Hot(entry, now + left), size=size + _PREPARED, tag=read.tag)
        else:
            self._memory.delete(read.key)
            self._negatives.put(read.key, Hot(entry, now + left), size=size, tag=read.tag)
