"""Fills the cache from a list: the index file and the tarball of each version, several at a time.

What a version needs and is stored already is not asked for again, so that a run that was broken off is taken up
where it stopped.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from proxy.engine.answers import Answers
from proxy.engine.downloads import Downloads
from proxy.engine.fill import Fill
from proxy.engine.inventory import Inventory, Wanted
from proxy.errors import Error, Faulty, Refused
from proxy.model import Outcome, Verdict
from proxy.rules import keys, sparse
from proxy.rules.endpoints import Policy

AT_ONCE = 12
"""Versions under way: below the connections that the static host is given, so that clients find one free."""


@dataclass(frozen=True, slots=True)
class Warmed:
    """What became of one. `version`: the one meant, where only the newest was asked for. `fetched`: bytes of its
    tarball that came from upstream; `asked`: whether anything had to. `failure`: why it cannot be had."""

    wanted: Wanted
    version: str | None = None
    fetched: int = 0
    asked: bool = False
    failure: str | None = None


class Warming:
    def __init__(self, *, answers: Answers, downloads: Downloads, inventory: Inventory, index_policy: Policy) -> None:
        self._answers = answers
        self._downloads = downloads
        self._inventory = inventory
        self._index_policy = index_policy

    async def run(
        self,
        wanted: Iterable[Wanted],
        told: Callable[[Warmed], None],
        *,
        at_once: int = AT_ONCE,
        renewed_since: float = -math.inf,
    ) -> list[Warmed]:
        """Fetch what is not stored, and index files that upstream has not vouched for since `renewed_since`.

        `told` hears of each as it ends. Returns what became of all. That a version was there or has come does not
        mean that there was room for all: see `evicted`.
        """
        queue = iter(dict.fromkeys(wanted))
        ended: list[Warmed] = []

        async def work() -> None:
            for item in queue:
                warmed = await self._warm(item, renewed_since)
                told(warmed)
                ended.append(warmed)

        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(work())
        return ended

    async def evicted(self, ended: Iterable[Warmed]) -> list[Warmed]:
        """Those of `run` that had come and are gone: later ones took their room."""
        await self._downloads.settled()
        await self._answers.settled()
        gone = []
        for each in ended:
            lacks = await self._inventory.lacks(replace(each.wanted, version=each.version)) if not each.failure else []
            if lacks:
                why = f"its {lacks[0].what} is gone again ({lacks[0].reason}): is cache.max_size large enough?"
                gone.append(replace(each, failure=why))
        return gone

    async def _warm(self, item: Wanted, renewed_since: float) -> Warmed:
        version = item.version
        try:
            if version is None:
                version = await self._newest(item.name)
            elif not await self._lacking(item, renewed_since):
                return Warmed(item, version)
            else:
                await self._indexed(item.name)
            download = await self._downloads.get(item.name, version, item.sha256)
            try:
                fetched = await _whole(download.source) if isinstance(download.source, Fill) else 0
            finally:
                await self._downloads.done(download)
        except Error as error:
            return Warmed(item, version, asked=True, failure=error.detail)
        return Warmed(item, version, fetched, asked=True)

    async def _lacking(self, item: Wanted, renewed_since: float) -> bool:
        if await self._inventory.lacks(item):
            return True
        entry = await self._inventory.index(item.name)
        return entry is None or entry.responded_at < renewed_since

    async def _newest(self, name: str) -> str:
        outcome = await self._indexed(name)
        found = sparse.newest(outcome.entry.body) if outcome.entry.status == 200 else None
        if found is None:
            raise Refused(f"crate `{name}` does not exist or has no version that is not yanked", status=404)
        if outcome.verdict is Verdict.STALE:
            raise Faulty(
                f"its newest version is not known: crates.io cannot be asked; {found.version} is the last known"
            )
        return found.version

    async def _indexed(self, name: str) -> Outcome:
        return await self._answers.get(keys.index_read(sparse.path(name), self._index_policy))


async def _whole(fill: Fill) -> int:
    """Wait for the end; the bytes that are stored now. Raises `Faulty` where they are not."""
    size = await fill.whole()
    if not fill.kept:
        raise Faulty(f"its {size} bytes were not kept: more than cache.max_object, or the disk is full")
    return size
