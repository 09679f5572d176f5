"""What this proxy is asked for about itself: its metrics and its figures. It gathers, and counts nothing.

Of the process group it tells one answer, whichever worker is asked: counts are the sum over all workers, what they
share is told once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any, Protocol

from proxy.metrics import exposition, table
from proxy.metrics.booking import Booking
from proxy.metrics.counting import Counters
from proxy.metrics.lately import Record
from proxy.metrics.table import Series, StoreName
from proxy.model import Host
from proxy.stores.base import Volume
from proxy.stores.memory import Memory

MEMORY_BOUND = "memory_max_bytes"
"""A level that is no metric: what the memory of all workers may hold."""
FAILING = "failing"
"""Another one: by host, the workers that find it failing."""


class Medium(Protocol):
    """A store, as far as it counts by itself."""

    @property
    def errors(self) -> int: ...

    @property
    def evicted(self) -> int: ...

    async def held(self) -> Volume: ...


class Hold(Protocol):
    @property
    def seconds(self) -> float: ...


class Standing(Protocol):
    """What may be asked of upstream now. `free`: requests that could go to the web API at once; `holds`: the hosts
    that are not asked."""

    @property
    def free(self) -> int: ...

    @property
    def holds(self) -> Mapping[Host, Hold]: ...


class Shield(Protocol):
    """What protects upstream, as far as it tells how it stands."""

    async def standing(self) -> Standing | None:
        """None where nobody limits or holds anything."""
        ...


class Unshielded:
    async def standing(self) -> None:
        return None


class Tiers:
    """The memory of this process."""

    def __init__(self, tiers: Sequence[Memory[Any]]) -> None:
        self._tiers = tiers

    def levels(self) -> Mapping[Series, float]:
        return {
            (table.STORE_BYTES.name, StoreName.MEMORY.value): sum(tier.bytes for tier in self._tiers),
            (table.STORE_ENTRIES.name, StoreName.MEMORY.value): sum(tier.entries for tier in self._tiers),
            (MEMORY_BOUND,): sum(tier.bound for tier in self._tiers),
        }

    @property
    def evicted(self) -> int:
        return sum(tier.evicted for tier in self._tiers)


class Telling:
    def __init__(self, booking: Booking, media: Mapping[StoreName, Medium], shield: Shield) -> None:
        """`media`: of each kind of store the medium that is measured."""
        self._booking = booking
        self._media = media
        self._shield = shield

    async def metrics(self, accept: str) -> tuple[bytes, str]:
        """The text for Prometheus, in the format that `accept` asks for, and its content type."""
        return await asyncio.to_thread(exposition.rendered, await self.values(), accept)

    async def values(self) -> dict[Series, float]:
        """Every series of the metrics. Where there is no series nothing is known, or nothing was counted yet."""
        counts, levels = await self._booking.totals()
        values = counts | {series: value for series, value in levels.items() if series[0] in table.BY_NAME}
        for store, volume in (await self._volumes()).items():
            if volume.entries is not None:
                values[table.STORE_ENTRIES.name, store.value] = volume.entries
            if volume.bytes is not None:
                values[table.STORE_BYTES.name, store.value] = volume.bytes
        standing = await self._shield.standing()
        if standing is not None:
            values[(table.BUDGET.name,)] = standing.free
            for host, hold in standing.holds.items():
                values[table.HOLD.name, host.value] = hold.seconds
        return values

    async def failing(self) -> dict[Host, int]:
        """How many workers find each host failing; those of which none does are left out."""
        _, levels = await self._booking.totals()
        found = {host: int(levels.get((FAILING, host.value), 0)) for host in Host}
        return {host: workers for host, workers in found.items() if workers}

    async def lately(self) -> Record:
        """What was done and what went wrong in the last days."""
        return await self._booking.lately()

    async def stats(self) -> dict[str, Any]:
        """What was saved, and what is stored: JSON of `/-/stats` and of `stats --json`."""
        report = await self._booking.report()
        _, levels = await self._booking.totals()
        memory = Volume(
            int(levels.get((table.STORE_ENTRIES.name, StoreName.MEMORY.value), 0)),
            int(levels.get((table.STORE_BYTES.name, StoreName.MEMORY.value), 0)),
            int(levels.get((MEMORY_BOUND,), 0)),
        )
        volumes = {StoreName.MEMORY: memory} | await self._volumes()
        return {**report, "stores": [{"store": store.value, **asdict(volume)} for store, volume in volumes.items()]}

    async def _volumes(self) -> dict[StoreName, Volume]:
        volumes: list[Volume] = await asyncio.gather(*(medium.held() for medium in self._media.values()))
        return dict(zip(self._media, volumes, strict=True))


class Bounded:
    """A medium that shares a limit with others, which it does not know itself."""

    def __init__(self, medium: Medium, max_bytes: int) -> None:
        self._medium = medium
        self._max_bytes = max_bytes

    @property
    def errors(self) -> int:
        return self._medium.errors

    @property
    def evicted(self) -> int:
        return self._medium.evicted

    async def held(self) -> Volume:
        return replace(await self._medium.held(), max_bytes=self._max_bytes)


def watch(counters: Counters, media: Mapping[StoreName, Sequence[Medium]], tiers: Tiers) -> None:
    """Have counted what the stores count by themselves."""
    for store, several in media.items():
        for medium in several:
            counters.watch(table.STORE_ERRORS, (store.value,), partial(getattr, medium, "errors"))
            counters.watch(table.EVICTIONS, (store.value,), partial(getattr, medium, "evicted"))
    counters.watch(table.EVICTIONS, (StoreName.MEMORY.value,), lambda: tiers.evicted)
