"""Fills the cache from a list: the index file and the tarball of each version, several at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from proxy.engine.answers import Answers
from proxy.engine.downloads import Downloads
from proxy.engine.fill import Fill
from proxy.errors import Error, Faulty, Refused
from proxy.rules import keys, sparse
from proxy.rules.endpoints import Policy

AT_ONCE = 12
"""Versions under way: below the connections that the static host is given, so that clients find one free."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A version to have in the cache; without a version, the newest that is not yanked."""

    name: str
    version: str | None = None
    sha256: str | None = None

    def __str__(self) -> str:
        return self.name if self.version is None else f"{self.name} {self.version}"


@dataclass(frozen=True, slots=True)
class Warmed:
    """What became of one: how many bytes were fetched (0 where it was there already), or why it failed."""

    wanted: Wanted
    fetched: int = 0
    failure: str | None = None


class Warming:
    def __init__(self, *, answers: Answers, downloads: Downloads, index_policy: Policy) -> None:
        self._answers = answers
        self._downloads = downloads
        self._index_policy = index_policy

    async def run(self, wanted: Iterable[Wanted], told: Callable[[Warmed], None]) -> list[Warmed]:
        """Fetch what is not stored; `told` hears of each as it ends. Returns the ones that failed."""
        queue = iter(dict.fromkeys(wanted))
        failures: list[Warmed] = []

        async def work() -> None:
            for item in queue:
                warmed = await self._warm(item)
                told(warmed)
                if warmed.failure is not None:
                    failures.append(warmed)

        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(work())
        return failures

    async def _warm(self, item: Wanted) -> Warmed:
        try:
            version = item.version or await self._newest(item.name)
            if item.version is not None:
                await self._answers.get(keys.index_read(sparse.path(item.name), self._index_policy))
            download = await self._downloads.get(item.name, version, item.sha256)
            try:
                fetched = await _whole(download.source) if isinstance(download.source, Fill) else 0
            finally:
                await self._downloads.done(download)
        except Error as error:
            return Warmed(item, failure=error.detail)
        return Warmed(item, fetched=fetched)

    async def _newest(self, name: str) -> str:
        outcome = await self._answers.get(keys.index_read(sparse.path(name), self._index_policy))
        found = sparse.newest(outcome.entry.body) if outcome.entry.status == 200 else None
        if found is None:
            raise Refused(f"crate `{name}` does not exist or has no version that is not yanked", status=404)
        return found.version


async def _whole(fill: Fill) -> int:
    """Wait for the end; the bytes that are stored now. Raises `Faulty` where they are not."""
    size = await fill.whole()
    if not fill.kept:
        raise Faulty(f"its {size} bytes were not kept: more than cache.max_object, or the disk is full")
    return size
