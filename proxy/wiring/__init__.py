"""Builds everything, for `serve` and for every other command: the only package that names concrete classes.

The order of the wrappers is told here, the parts by the modules beside it. Settings are unpacked in this package and
go no further in.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from proxy.engine.answers import Answers
from proxy.engine.catalogue import Catalogue
from proxy.engine.depot import Depot
from proxy.engine.downloads import Downloads
from proxy.engine.inventory import Inventory
from proxy.engine.passing import Passing
from proxy.engine.pinning import Pinned
from proxy.engine.purging import Purging
from proxy.engine.ready import Ready
from proxy.engine.transparent import Transparent
from proxy.fleet.base import Standing
from proxy.lasting import lasting
from proxy.logs import Calm
from proxy.metrics.counting import Counters
from proxy.metrics.incidents import Incidents, heard
from proxy.metrics.lately import Lately
from proxy.metrics.metering import Metering
from proxy.metrics.table import CHECKSUM_FAILURES, RENEWALS
from proxy.metrics.telling import FAILING, Telling
from proxy.model import Health, Host
from proxy.rules import endpoints
from proxy.rules.endpoints import BY_NAME, Policy
from proxy.settings import Settings
from proxy.stores.base import Observer
from proxy.stores.limit import Limit
from proxy.stores.memory import Memory
from proxy.stores.reclaiming import Reclaiming
from proxy.upstream.base import Upstream
from proxy.upstream.offline import OfflineUpstream
from proxy.upstream.shield import Shield
from proxy.wiring import answers as answers_
from proxy.wiring import members, ready, stores
from proxy.wiring.memory import Tiers
from proxy.wiring.reach import Reach, origins, over_http, shielded
from proxy.wiring.stores import Stores

__all__ = ["Clock", "Proxy", "Reach", "opened", "origins", "over_http"]

TIDY_EVERY = 30.0
"""Seconds between two looks at what can wait: noting what was used last, keeping the cache under its size."""

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Proxy:
    """The engine, running: everything that a server or a command needs. `reach`: the way to crates.io, with the budget
    and the holds that are over it. `forget`: what is in memory is read anew from the stores."""

    answers: Answers
    downloads: Downloads
    passing: Passing
    transparent: Transparent
    purging: Purging
    ready: Ready
    counters: Counters
    telling: Telling
    lately: Lately
    catalogue: Catalogue
    stores: Callable[[], Sequence[Awaitable[Health]]]
    upstream: Callable[[], Sequence[Awaitable[Health]]]
    standing: Callable[[], Awaitable[Standing]]
    reclaiming: Reclaiming
    reach: Upstream
    forget: Callable[[], None]


@contextlib.asynccontextmanager
async def opened(
    settings: Settings, directory: Path, clock: Clock = time.time, reach: Reach | None = None, *, serving: bool = False
) -> AsyncIterator[Proxy]:
    """Open the stores in `directory` (`cache.dir`), join the fleet, and close everything in the end.

    `clock` gives seconds since the epoch, `reach` the way to crates.io, which by default is HTTP. `serving`: do also
    what is done for clients before they ask. Raises `SettingsError` where a setting cannot be put to use.
    """
    observe = heard(Calm(), noted := Incidents(clock))
    async with contextlib.AsyncExitStack() as stack:
        kept = await stores.stores(settings, directory, clock, observe, stack)
        tiers = Tiers.of(settings.cache.memory)
        member = await members.member(settings, directory, kept, clock, tiers.all, stack)
        memory = tiers.told(serving)
        counters, telling, lately = await _metered(directory, kept, memory, member, noted, clock, observe, stack)
        shield = shielded(settings, reach or over_http, member.budget, counters, clock, stack)
        upstream: Upstream = OfflineUpstream() if settings.upstream.offline else shield
        keep, changes, index = settings.cache.keep, member.changes, _policy(settings, "index")
        copies = tiers.copies(json=kept.json, index=kept.index, keep=keep, changes=changes)
        inventory = Inventory(copies=copies, blobs=kept.blobs)
        pinned, limit = await _limited(settings, kept, inventory, observe, stack, serving=serving)
        answers = answers_.answers(settings, copies, upstream, member, clock, observe, index, stack, serving=serving)
        feeds = answers_.feeds(
            settings, kept.marks, member.purging, member.fleet, upstream, clock, observe, stack, serving=serving
        )
        downloads = _downloads(settings, answers, kept, tiers, member, upstream, limit, clock, observe)
        stack.push_async_callback(downloads.aclose)
        _watched(counters, answers, downloads, shield)
        passing = Passing(upstream=upstream, purging=member.purging, origin=settings.upstream.api)
        shelf = tiers.shelf(json=kept.json, keep=keep, changes=changes, clock=clock)
        transparent = answers_.transparent(settings, passing, shelf, member, clock, observe, stack)
        parts = ready.Parts(answers, downloads, inventory, pinned)
        yield Proxy(
            answers=answers,
            downloads=downloads,
            passing=passing,
            transparent=transparent,
            purging=member.purging,
            ready=_ready(settings, kept, member, parts, limit, clock, observe, directory),
            counters=counters,
            telling=telling,
            lately=lately,
            catalogue=stores.catalogue(settings, kept, copies, clock),
            stores=lambda: [*(each.health() for each in kept.checked), *member.checks()],
            upstream=lambda: [*shield.checks(), *(feed.health() for feed in feeds)],
            standing=shield.standing,
            reclaiming=stores.reclaiming(settings, directory, kept, limit, clock),
            reach=upstream,
            forget=changes.forget,
        )


def _downloads(
    settings: Settings,
    answers: Answers,
    kept: Stores,
    tiers: Tiers,
    member: members.Member,
    upstream: Upstream,
    limit: Limit,
    clock: Clock,
    observe: Observer,
) -> Downloads:
    return Downloads(
        answers=answers,
        blobs=kept.blobs,
        at_hand=tiers.at_hand(kept.blobs),
        fleet=member.machine,
        upstream=upstream,
        index_policy=_policy(settings, "index"),
        missing_ttl=_policy(settings, "download").negative_ttl,
        largest=settings.cache.max_object,
        clock=clock,
        observe=observe,
        stored=limit.keep,
    )


def _watched(counters: Counters, answers: Answers, downloads: Downloads, shield: Shield) -> None:
    counters.watch(CHECKSUM_FAILURES, (), lambda: downloads.checksum_failures)
    counters.watch(RENEWALS, (), lambda: answers.avoided)
    for host in Host:
        counters.stand(FAILING, host.value, partial(shield.fails, host))


async def _metered(
    directory: Path,
    kept: Stores,
    memory: Sequence[Memory[Any]],
    member: members.Member,
    incidents: Incidents,
    clock: Clock,
    observe: Observer,
    stack: contextlib.AsyncExitStack,
) -> tuple[Counters, Telling, Lately]:
    """It ends after those who count and before what it writes to. `memory`: what is told of."""
    counters = Counters()
    counters.watch(CHECKSUM_FAILURES, (), lambda: kept.blobs.corrupt)
    metering = Metering(counters, kept.media, memory, member.machine.tally, incidents, member.budget)
    return counters, *await metering.opened(directory, clock, observe, stack)


def _ready(
    settings: Settings,
    kept: Stores,
    member: members.Member,
    parts: ready.Parts,
    limit: Limit,
    clock: Clock,
    observe: Observer,
    directory: Path,
) -> Ready:
    depot = Depot(kept.index, kept.json, kept.blobs, member.changes)
    fleets = ready.Fleets(member.fleet, member.machine)
    common = ready.Common(_policy(settings, "index"), limit.keep, clock, observe, directory, kept.apart)
    return ready.ready(settings, depot, fleets, member.purging, parts, common)


def _policy(settings: Settings, name: str) -> Policy:
    return endpoints.policy(BY_NAME[name], (), settings.endpoints.get(name))


async def _limited(
    settings: Settings,
    kept: Stores,
    inventory: Inventory,
    observe: Observer,
    stack: contextlib.AsyncExitStack,
    *,
    serving: bool,
) -> tuple[Pinned, Limit]:
    """What is pinned is known before anything can be evicted."""
    pinned = await ready.pinned(settings, inventory, observe)
    told = partial(observe, "cache")
    limit = Limit(settings.cache.max_size, kept.blobs, kept.on_disk, pinned.__contains__, told)
    stack.callback(
        asyncio.create_task(lasting("keeping the cache in order", partial(_tidy, kept, limit, serving=serving))).cancel
    )
    return pinned, limit


async def _tidy(kept: Stores, limit: Limit, *, serving: bool) -> None:
    if (
        serving
    ):  # What a crash may have left: nobody waits for that, and the commands that must know of it look by themselves.
        await kept.blobs.reconcile()
        for store in kept.on_disk:
            await store.sweep()
    while True:
        await asyncio.sleep(TIDY_EVERY)
        await kept.blobs.flush()
        for store in kept.expiring:
            await store.expire()
        await limit.trim()
