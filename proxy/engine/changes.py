"""What changed, and when: the marks that make stored entries need revalidation, or make them gone.

A mark outlives a restart and reaches every member of the fleet. It is compared with the time at which an entry
was *requested*, so that it wins over every fetch that was under way when it was set.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Protocol

from proxy.model import Invalidation, Mark, Selection
from proxy.rules.keys import Read
from proxy.stores import codec
from proxy.stores.base import Store

_KEY = "key/"
_REMEMBERED = 50_000  # marks held in memory; more than the versions that crates.io sees in a month


class Forgetful(Protocol):
    """The memory tier, as far as it is told of changes."""

    def purge(self, selection: Selection) -> int: ...

    def clear(self) -> None: ...


class Changes:
    """The marks, in memory and in a store. `tiers` are the memory tiers that forget what changed."""

    def __init__(self, store: Store, *, keep: float, tiers: Sequence[Forgetful]) -> None:
        self._store = store
        self._keep = keep
        self._tiers = tiers
        self._known: dict[str, Mark] = {}

    async def of(self, read: Read) -> Mark:
        """The newest marks that cover this read."""
        scopes = ["all", f"endpoint/{read.endpoint.name}"]
        if read.tag:
            scopes.append(f"crate/{read.tag}")
        # What is known now may be forgotten while the rest is read.
        mark = Mark()
        for scope in scopes:
            mark = mark.merged(self._known.get(scope, Mark()))
        unknown = [scope for scope in scopes if scope not in self._known]
        if unknown:
            for scope, stored in zip(unknown, await asyncio.gather(*map(self._stored, unknown)), strict=True):
                self._learn(scope, stored)
                mark = mark.merged(stored)
        # And some was announced meanwhile. What became of a single key is told to those who run; whoever starts later
        # finds it deleted.
        for scope in (*scopes, _KEY + read.key):
            mark = mark.merged(self._known.get(scope, Mark()))
        return mark

    def hear(self, invalidation: Invalidation) -> None:
        """From now on this member knows."""
        self._learn(_scope(invalidation.selection), _mark(invalidation))
        for tier in self._tiers:
            tier.purge(invalidation.selection)

    def forget(self) -> None:
        """The fleet was lost: announcements may have been missed, so nothing in memory can be trusted."""
        self._known.clear()
        for tier in self._tiers:
            tier.clear()

    async def record(self, invalidation: Invalidation) -> None:
        """Write a mark down for those who start later."""
        kind = "changed" if invalidation.soft else "purged"
        key = f"{kind} {_scope(invalidation.selection)}"
        await self._store.put(key, codec.encoded_time(invalidation.at), tag="", keep=self._keep)

    async def _stored(self, scope: str) -> Mark:
        changed, purged = await asyncio.gather(*(self._time(f"{kind} {scope}") for kind in ("changed", "purged")))
        return Mark(changed, purged)

    async def _time(self, key: str) -> float:
        value = await self._store.get(key)
        return -math.inf if value is None else codec.decoded_time(value)

    def _learn(self, scope: str, mark: Mark) -> None:
        self._known[scope] = self._known.pop(scope, Mark()).merged(mark)
        if len(self._known) > _REMEMBERED:
            del self._known[next(iter(self._known))]


def _scope(selection: Selection) -> str:
    if selection.key is not None:
        return _KEY + selection.key
    if selection.crate is not None:
        return f"crate/{selection.crate}"
    return "all" if selection.endpoint is None else f"endpoint/{selection.endpoint}"


def _mark(invalidation: Invalidation) -> Mark:
    return Mark(changed=invalidation.at) if invalidation.soft else Mark(purged=invalidation.at)
