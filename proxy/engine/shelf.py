"""Where answers that upstream's own headers govern are kept: one place for a key, and some for its variants.

It finds and puts. It refuses to know how upstream is reached, and whether what it finds may be used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from proxy.engine.changes import Changes
from proxy.engine.copies import Hot
from proxy.model import Entry, Headers, Mark
from proxy.rules import headers, reuse, storing, vary
from proxy.rules.keys import Read
from proxy.stores import codec
from proxy.stores.base import Store
from proxy.stores.memory import Memory

_ENTRY_OVERHEAD = 2048  # bytes that an entry in memory costs beside its body, measured roughly


@dataclass(frozen=True, slots=True)
class Found:
    """What is stored for a request. `first`: of its key, whichever variant that is; it tells what answers vary on."""

    entry: Entry | None
    first: Entry | None
    mark: Mark


class Shelf:
    def __init__(
        self,
        *,
        memory: Memory[Hot],
        negatives: Memory[Hot],
        store: Store,
        changes: Changes,
        keep: float | None,
        clock: Callable[[], float],
    ) -> None:
        """`negatives` holds what upstream does not have, as in `Copies`."""
        self._memory = memory
        self._negatives = negatives
        self._store = store
        self._changes = changes
        self._keep = keep
        self._clock = clock

    async def find(self, read: Read, sent: Headers) -> Found:
        """What answers a request whose fields go upstream as `sent`."""
        mark = await self._changes.of(read)
        first = entry = await self._kept(read, read.key, mark)
        if first is not None and not suits(first, sent):
            place = _place(read, first.terms.vary, vary.variant(first.terms.vary, sent), first)
            entry = await self._kept(read, place, mark) if place != read.key else None
            if entry is not None and not suits(entry, sent):
                entry = None
        return Found(entry, first, mark)

    async def put(self, read: Read, found: Found, entry: Entry) -> tuple[bool, Mark]:
        """Keep an entry; whether it is kept, and the marks by now: a purge during its flight wins over it."""
        place = _place(read, entry.terms.vary, entry.terms.variant, found.first)
        absent = storing.absent(entry.status)
        if absent:  # it replaces what is stored at once
            await self._store.delete(place)
        else:
            await self._store.put(place, codec.encoded(entry), tag=read.tag, keep=self._keep)
        mark = await self._changes.of(read)
        if entry.requested_at <= mark.purged:
            return False, mark
        self._warm(read, place, entry)
        return not absent or self._negatives.get(place) is not None, mark

    async def forget(self, read: Read, found: Found) -> None:
        """Drop what was found."""
        if found.entry is not None:
            place = _place(read, found.entry.terms.vary, found.entry.terms.variant, found.first)
            self._memory.delete(place)
            self._negatives.delete(place)
            await self._store.delete(place)

    async def _kept(self, read: Read, place: str, mark: Mark) -> Entry | None:
        """What is kept in a place: from memory while it is fresh there, else the newest there is."""
        hot = self._memory.get(place) or self._negatives.get(place)
        entry = hot.entry if hot is not None else None
        if entry is None or reuse.fresh_for(entry, self._clock(), mark.changed) <= 0:
            value = await self._store.get(place)
            stored = codec.decoded(value) if value is not None else None
            if stored is not None and (entry is None or stored.responded_at > entry.responded_at):
                entry = stored
                self._warm(read, place, entry)
        return entry if entry is not None and entry.requested_at > mark.purged else None

    def _warm(self, read: Read, place: str, entry: Entry) -> None:
        tier, other = self._memory, self._negatives
        if storing.absent(entry.status):
            tier, other = other, tier
        other.delete(place)
        tier.put(place, Hot(entry, 0.0), size=len(entry.body) + _ENTRY_OVERHEAD, tag=read.tag)


def suits(entry: Entry, sent: Headers) -> bool:
    """Whether it is the variant that these fields select, and is not kept from their Authorization."""
    authorized = headers.value(sent, b"authorization") is not None
    return reuse.suits(entry, vary.variant(entry.terms.vary, sent), authorized=authorized)


def flight(read: Read, sent: Headers, found: Found) -> str:
    """The name of the flight for a request: one for each variant, as far as it is known what answers vary on."""
    names = found.first.terms.vary if found.first is not None else ()
    return f"{read.key} {vary.variant(names, sent)}"


def _place(read: Read, names: tuple[str, ...], variant: str, first: Entry | None) -> str:
    """Where a variant belongs: in the first place, unless another one by the same fields is there."""
    if first is None or first.terms.vary != names or first.terms.variant == variant:
        return read.key
    return vary.slot(read.key, variant)
