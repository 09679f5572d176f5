"""What is never evicted because lock files need it, and its upkeep: what they need is fetched and kept fresh.

It refuses to know where lock files lie and what else is stored.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from typing import Protocol

from proxy.engine.inventory import Inventory, Wanted
from proxy.engine.warming import Warmed, Warming
from proxy.errors import Error
from proxy.fleet.base import Fleet
from proxy.model import Health, State
from proxy.rules import keys, sparse
from proxy.rules.lockfile import Locked
from proxy.stores.base import Observer

LOOK_EVERY = 60.0
"""Seconds between two looks at the lock files."""
RENEW_EVERY = 900.0
"""Seconds after which a pinned index file is revalidated, which costs one conditional request on a host without a
limit: what is known of a release when the line drops is then a quarter of an hour old at most."""
RETRY_EVERY = 300.0
"""Seconds after which what could not be had is tried again."""
AT_ONCE = 2
"""Files under way: nobody waits for them."""

_COMPONENT = "pinned"


class LockFiles(Protocol):
    @property
    def packages(self) -> frozenset[Locked]:
        """What all of them need, as they were read last."""
        ...

    @property
    def problems(self) -> Mapping[str, str]:
        """File -> why it cannot be read now; what it said last counts on."""
        ...

    def read(self) -> bool:
        """Look at all files; whether what they need is another than before. It blocks."""
        ...


class Pinned:
    """What is pinned, by the names of what is stored: keys of index files, SHA-256 of tarballs."""

    def __init__(self, *, files: LockFiles, inventory: Inventory, observe: Observer) -> None:
        self._files = files
        self._inventory = inventory
        self._observe = observe
        self._names: frozenset[str] = frozenset()
        self._told: Mapping[str, str] = {}

    def __contains__(self, name: str) -> bool:
        """It may be called in any thread."""
        return name in self._names

    @property
    def packages(self) -> list[Wanted]:
        return [Wanted(each.name, each.version, each.checksum) for each in self._files.packages]

    @property
    def problems(self) -> list[str]:
        return [f"{file}: {problem}" for file, problem in self._files.problems.items()]

    async def look(self) -> bool:
        """Read the lock files that have changed; whether their needs have. What cannot be read is told once."""
        changed = await asyncio.to_thread(self._files.read)
        problems = dict(self._files.problems)
        for file, problem in problems.items():
            if self._told.get(file) != problem:
                self._observe(f"{_COMPONENT} {file}", f"{problem}; what it said last, if anything, stays pinned")
        self._told = problems
        if changed or any(package.checksum is None for package in self._files.packages):
            self._names = await self._named()
        return changed

    async def _named(self) -> frozenset[str]:
        """Where a lock file tells no checksum, the stored index does."""
        names: set[str] = set()
        for wanted in self.packages:
            names.add(keys.index_read(sparse.path(wanted.name)).key)
            release = await self._inventory.release(wanted) if wanted.sha256 is None else None
            sha256 = wanted.sha256 or (release.sha256 if release is not None else None)
            names |= {sha256} if sha256 is not None else set()
        return frozenset(names)


class Upkeep:
    """`fleet`: the processes that share what is stored here; one of them at a time sees to it. `offline`: nobody
    upstream may be asked, so that only the lock files are looked at."""

    def __init__(
        self,
        *,
        pinned: Pinned,
        warming: Warming,
        fleet: Fleet,
        clock: Callable[[], float],
        observe: Observer,
        offline: bool,
    ) -> None:
        self._pinned = pinned
        self._warming = warming
        self._fleet = fleet
        self._clock = clock
        self._observe = observe
        self._offline = offline
        self._tried = -math.inf
        self._failures: dict[str, str] = {}

    async def run(self) -> None:
        """For ever."""
        while True:
            try:
                await self.once()
            except Error as error:
                self._observe(_COMPONENT, error.detail)
            await asyncio.sleep(LOOK_EVERY)

    async def once(self) -> None:
        """Look; fetch what is missing and revalidate what is old, where it is time for that."""
        changed = await self._pinned.look()
        now = self._clock()
        pause = RETRY_EVERY if self._failures else RENEW_EVERY
        if self._offline or not (changed or now - self._tried >= pause or now < self._tried):
            return
        self._tried = now
        async with self._fleet.lease(_COMPONENT, RENEW_EVERY) as lease:
            # Whoever had the turn before has done it: then all of this is there, and young enough.
            ended = await self._warming.run(
                self._pinned.packages, lambda each: None, at_once=AT_ONCE, renewed_since=now - RENEW_EVERY
            )
            lease.done()
        self._tell(ended)

    async def health(self) -> Health:
        problems = self._pinned.problems + [f"{name}: {why}" for name, why in self._failures.items()]
        if not problems:
            return Health(_COMPONENT, State.OK, f"{len(self._pinned.packages)} packages")
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        return Health(_COMPONENT, State.DEGRADED, problems[0] + more)

    def _tell(self, ended: list[Warmed]) -> None:
        before = self._failures
        self._failures = {str(each.wanted): each.failure for each in ended if each.failure is not None}
        new = [f"{name}: {why}" for name, why in self._failures.items() if name not in before]
        if new:
            self._observe(_COMPONENT, new[0] + (f" (and {len(new) - 1} more)" if len(new) > 1 else ""))
