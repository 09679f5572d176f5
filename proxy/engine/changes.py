"""What changed, and when: the marks that make stored entries need revalidation, or make them gone.

A mark outlives a restart and reaches every member of the fleet. It is compared with the time at which an entry
was *requested*, so that it wins over every fetch that was under way when it was set.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from typing import Protocol

from proxy.model import Invalidation, Mark, Selection
from proxy.rules.keys import Read
from proxy.stores import codec
from proxy.stores.base import Store

_KEY = "key/"
_REMEMBERED = 50_000  # marks held in memory; more than the versions that crates.io sees in a month
_AT_ONCE = 64  # marks read side by side
_NONE = Mark()
_KINDS = _CHANGED, _PURGED = "changed", "purged"


class Forgetful(Protocol):
    """The memory tier, as far as it is told of changes."""

    def purge(self, selection: Selection) -> int: ...

    def clear(self) -> None: ...


class Changes:
    """The marks, in memory and in a store. `tiers` are the memory tiers that forget what changed."""

    def __init__(
        self, store: Store, *, keep: float, tiers: Sequence[Forgetful], unanswered: Callable[[], int] = lambda: 0
    ) -> None:
        """`unanswered`: how often the store could not say what it has: what it did not tell then may be there."""
        self._store = store
        self._unanswered = unanswered
        self._forgotten = 0  # times
        self._keep = keep
        self._tiers = tiers
        self._known: dict[str, Mark] = {}
        self._every = False  # all marks of the store are among the known
        self._unread = asyncio.Event()
        self._unread.set()

    async def of(self, read: Read) -> Mark:
        """The newest marks that cover this read."""
        scopes = ["all", f"endpoint/{read.endpoint.name}"]
        if read.tag:
            scopes.append(f"crate/{read.tag}")
        # What is known now may be forgotten while the rest is read.
        mark = self._among_known(scopes)
        unknown = [] if self._every else [scope for scope in scopes if scope not in self._known]
        if unknown:
            for stored in await self._learnt(unknown):
                mark = mark.merged(stored)
        # And some was announced meanwhile. What became of a single key is told to those who run; whoever starts later
        # finds it deleted.
        return mark.merged(self._among_known([*scopes, _KEY + read.key]))

    async def read_ahead(self) -> None:
        """From now on have all marks in memory, as far as there is room, so that none is looked for at a read that it
        does not concern. To be called where this member hears what is announced; runs until it is cancelled."""
        while True:
            await self._unread.wait()
            self._unread.clear()
            before = self._doubts
            found: dict[str, None] = {}
            async for key in self._store.keys():
                kind, _, scope = key.partition(" ")
                if kind in _KINDS:
                    found[scope] = None
                if len(found) > _REMEMBERED:
                    break
            scopes = list(found)
            for start in range(0, len(scopes), _AT_ONCE):
                await self._learnt(scopes[start : start + _AT_ONCE])
            self._every = self._doubts == before and len(self._known) < _REMEMBERED

    def hear(self, invalidation: Invalidation) -> None:
        """From now on this member knows."""
        self._learn(_scope(invalidation.selection), _mark(invalidation))
        for tier in self._tiers:
            tier.purge(invalidation.selection)

    def forget(self) -> None:
        """The fleet was lost: announcements may have been missed, so nothing in memory can be trusted."""
        self._known.clear()
        self._forgotten += 1
        self._every = False
        self._unread.set()
        for tier in self._tiers:
            tier.clear()

    async def record(self, invalidation: Invalidation) -> None:
        """Write a mark down for those who start later."""
        kind = _CHANGED if invalidation.soft else _PURGED
        key = f"{kind} {_scope(invalidation.selection)}"
        await self._store.put(key, codec.encoded_time(invalidation.at), tag="", keep=self._keep)

    @property
    def _doubts(self) -> tuple[int, int]:
        """What has been read of the marks counts for later only where this is as it was before."""
        return self._forgotten, self._unanswered()

    def _among_known(self, scopes: Sequence[str]) -> Mark:
        mark = _NONE
        for scope in scopes:
            if (known := self._known.get(scope)) is not None:
                mark = known if mark is _NONE else mark.merged(known)
        return mark

    async def _learnt(self, scopes: Sequence[str]) -> list[Mark]:
        """What the store has, remembered where that is sure to be all."""
        before = self._doubts
        marks = await self._stored(scopes)
        if self._doubts == before:
            for scope, mark in zip(scopes, marks, strict=True):
                self._learn(scope, mark)
        return marks

    async def _stored(self, scopes: Sequence[str]) -> list[Mark]:
        times = await asyncio.gather(*(self._time(f"{kind} {scope}") for scope in scopes for kind in _KINDS))
        return [Mark(*pair) for pair in zip(times[::2], times[1::2], strict=True)]

    async def _time(self, key: str) -> float:
        value = await self._store.get(key)
        return -math.inf if value is None else codec.decoded_time(value)

    def _learn(self, scope: str, mark: Mark) -> None:
        self._known[scope] = self._known.pop(scope, _NONE).merged(mark)
        if len(self._known) > _REMEMBERED:
            del self._known[next(iter(self._known))]
            self._every = False


def _scope(selection: Selection) -> str:
    if selection.key is not None:
        return _KEY + selection.key
    if selection.crate is not None:
        return f"crate/{selection.crate}"
    return "all" if selection.endpoint is None else f"endpoint/{selection.endpoint}"


def _mark(invalidation: Invalidation) -> Mark:
    return Mark(changed=invalidation.at) if invalidation.soft else Mark(purged=invalidation.at)
