"""The part of the wiring that makes a cache ready for a time without crates.io."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from proxy.engine.answers import Answers
from proxy.engine.depot import Depot
from proxy.engine.downloads import Downloads
from proxy.engine.exporting import Exporting
from proxy.engine.importing import Importing
from proxy.engine.inventory import Inventory
from proxy.engine.pinning import Pinned, Upkeep
from proxy.engine.purging import Purging
from proxy.engine.ready import Ready
from proxy.engine.verifying import Verifying
from proxy.engine.warming import Warming
from proxy.fleet.base import Fleet
from proxy.rules.endpoints import Policy
from proxy.settings import Settings
from proxy.stores.base import Observer, Store
from proxy.stores.pins import Pins


@dataclass(frozen=True, slots=True)
class Fleets:
    """`shared`: the processes that share the stores; `machine`: those that share `cache.dir`."""

    shared: Fleet
    machine: Fleet


@dataclass(frozen=True, slots=True)
class Common:
    """`stored` is told the size of what was stored; it tells how many bytes had to make room for it. `directory`:
    `cache.dir`. `stores`: all that hold what was answered, each by itself."""

    index_policy: Policy
    stored: Callable[[int], Awaitable[int]]
    clock: Callable[[], float]
    observe: Observer
    directory: Path
    stores: Sequence[Store]


@dataclass(frozen=True, slots=True)
class Parts:
    answers: Answers
    downloads: Downloads
    inventory: Inventory
    pinned: Pinned


async def pinned(settings: Settings, inventory: Inventory, observe: Observer) -> Pinned:
    """It has read the lock files: nothing may be evicted before."""
    made = Pinned(files=Pins(settings.cache.pinned), inventory=inventory, observe=observe)
    await made.look()
    return made


def ready(settings: Settings, depot: Depot, fleets: Fleets, purging: Purging, parts: Parts, common: Common) -> Ready:
    inventory = parts.inventory
    warming = Warming(
        answers=parts.answers, downloads=parts.downloads, inventory=inventory, index_policy=common.index_policy
    )
    return Ready(
        inventory=inventory,
        warming=warming,
        exporting=Exporting(depot=depot, inventory=inventory, directory=common.directory),
        importing=Importing(
            depot=depot,
            inventory=inventory,
            purging=purging,
            fleet=fleets.shared,
            keep=settings.cache.keep,
            largest=settings.cache.max_object,
            stored=common.stored,
            clock=common.clock,
        ),
        verifying=Verifying(blobs=depot.blobs, stores=common.stores, purging=purging),
        upkeep=Upkeep(
            pinned=parts.pinned,
            warming=warming,
            fleet=fleets.machine,
            clock=common.clock,
            observe=common.observe,
            offline=settings.upstream.offline,
        ),
    )
