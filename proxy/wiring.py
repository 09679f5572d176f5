"""Builds everything, for `serve` and for every other command: the only module that names concrete classes.

The order of the wrappers is told here. Settings are unpacked here and go no further in.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from proxy import __version__, wiring_answers, wiring_ready
from proxy.engine.answers import Answers
from proxy.engine.changes import Changes, Forgetful
from proxy.engine.depot import Depot
from proxy.engine.downloads import Downloads
from proxy.engine.inventory import Inventory
from proxy.engine.passing import Passing
from proxy.engine.pinning import Pinned
from proxy.engine.purging import Holdings, Purging
from proxy.engine.ready import Ready
from proxy.engine.transparent import Transparent
from proxy.errors import SettingsError
from proxy.fleet import redis_budget
from proxy.fleet.base import Budget, Fleet, Listener, Lost, Standing
from proxy.fleet.local import LocalFleet
from proxy.fleet.redis import RedisFleet
from proxy.logs import Calm
from proxy.model import Health, Host
from proxy.rules import endpoints
from proxy.rules.bucket import Limits
from proxy.rules.endpoints import BY_NAME, Policy
from proxy.settings import Settings
from proxy.stores.base import Observer, Store
from proxy.stores.blobs import DiskBlobs
from proxy.stores.disk import DiskStore
from proxy.stores.limit import Limit
from proxy.stores.mirrored import Mirrored
from proxy.stores.redis import RedisStore
from proxy.upstream.base import Upstream
from proxy.upstream.http import HttpUpstream
from proxy.upstream.offline import OfflineUpstream
from proxy.upstream.shield import Shield
from proxy.wiring_memory import Tiers

TIDY_EVERY = 30.0
"""Seconds between two looks at what can wait: noting what was used last, keeping the cache under its size."""

Clock = Callable[[], float]
Reach = Callable[[Settings], Upstream]


@dataclass(frozen=True, slots=True)
class Proxy:
    """The engine, running: everything that a server or a command needs."""

    answers: Answers
    downloads: Downloads
    passing: Passing
    transparent: Transparent
    purging: Purging
    ready: Ready
    stores: Callable[[], Sequence[Awaitable[Health]]]
    upstream: Callable[[], Sequence[Awaitable[Health]]]
    standing: Callable[[], Awaitable[Standing]]


@contextlib.asynccontextmanager
async def opened(
    settings: Settings, directory: Path, clock: Clock = time.time, reach: Reach | None = None, *, serving: bool = False
) -> AsyncIterator[Proxy]:
    """Open the stores in `directory` (`cache.dir`), join the fleet, and close everything in the end.

    `clock` gives seconds since the epoch, `reach` the way to crates.io, which by default is HTTP. `serving`: do also
    what is done for clients before they ask. Raises `SettingsError` where a setting cannot be put to use.
    """
    observe = Calm()
    async with contextlib.AsyncExitStack() as stack:
        stores = await _stores(settings, directory, clock, observe, stack)
        tiers = Tiers.of(settings.cache.memory)
        member = await _member(settings, directory, stores, clock, tiers.all, stack)
        changes, keep = member.changes, settings.cache.keep
        shield = _shielded(settings, reach or over_http, member.budget, clock, stack)
        upstream = OfflineUpstream() if settings.upstream.offline else shield
        copies = tiers.copies(json=stores.json, index=stores.index, keep=keep, changes=changes)
        inventory = Inventory(copies=copies, blobs=stores.blobs)
        pinned = await wiring_ready.pinned(settings, inventory, observe)
        limit = _limited(settings, stores, pinned, observe, stack)
        answers = wiring_answers.answers(
            settings, copies, upstream, member.fleet, clock, observe, index_policy=_policy(settings, "index")
        )
        stack.push_async_callback(answers.aclose)
        feeds = wiring_answers.feeds(
            settings, stores.marks, member.purging, member.fleet, upstream, clock, observe, stack, serving=serving
        )
        downloads = Downloads(
            answers=answers,
            blobs=stores.blobs,
            at_hand=tiers.at_hand(stores.blobs),
            fleet=member.machine,
            upstream=upstream,
            index_policy=_policy(settings, "index"),
            missing_ttl=_policy(settings, "download").negative_ttl,
            largest=settings.cache.max_object,
            clock=clock,
            observe=observe,
            stored=limit.keep,
        )
        stack.push_async_callback(downloads.aclose)
        passing = Passing(upstream=upstream, purging=member.purging, origin=settings.upstream.api)
        shelf = tiers.shelf(json=stores.json, keep=keep, changes=changes, clock=clock)
        transparent = Transparent(passing=passing, shelf=shelf, fleet=member.fleet, clock=clock, observe=observe)
        stack.push_async_callback(transparent.aclose)
        parts = wiring_ready.Parts(answers, downloads, inventory, pinned)
        yield Proxy(
            answers=answers,
            downloads=downloads,
            passing=passing,
            transparent=transparent,
            purging=member.purging,
            ready=_ready(settings, stores, member, parts, limit, clock, observe),
            stores=lambda: [*(each.health() for each in stores.checked), *member.checks()],
            upstream=lambda: [*shield.checks(), *(feed.health() for feed in feeds)],
            standing=shield.standing,
        )


def origins(settings: Settings) -> dict[Host, str]:
    """Where the three upstream hosts are."""
    upstream = settings.upstream
    return {Host.API: upstream.api, Host.INDEX: upstream.index, Host.STATIC: upstream.static}


def _prepared(directory: Path) -> None:
    """Make `cache.dir`, for its owner alone. One that is another's, as a mounted volume may be, is taken as it is."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(PermissionError):
        directory.chmod(0o700)


@dataclass(frozen=True, slots=True)
class _Stores:
    """`marks` are apart from the rest, so that no purge and no lack of room takes them."""

    json: Store
    index: Store
    marks: Store
    blobs: DiskBlobs
    on_disk: Sequence[DiskStore]

    @property
    def checked(self) -> tuple[Store, Store, DiskBlobs]:
        return self.json, self.index, self.blobs


async def _stores(
    settings: Settings, directory: Path, clock: Clock, observe: Observer, stack: contextlib.AsyncExitStack
) -> _Stores:
    """Index files lie on the disk whatever else is set, since offline builds hang on them."""

    async def disk(name: str) -> DiskStore:
        store = await asyncio.to_thread(DiskStore.opened, directory / name, name, observe)
        stack.push_async_callback(store.aclose)
        return store

    def redis(part: str) -> RedisStore:
        return RedisStore(client.client, f"{prefix}{part}:", "redis", observe, time.monotonic)

    try:
        _prepared(directory)
        min_free = settings.cache.min_free
        blobs = await asyncio.to_thread(DiskBlobs.opened, directory / "tarballs", min_free, observe, clock)
        stack.push_async_callback(blobs.aclose)
        index = await disk("index")
        if not settings.redis.url:
            json = await disk("json")
            return _Stores(json, index, await disk("marks"), blobs, [index, json])
    except OSError as error:
        reason = f"cannot be used ({error.strerror or error}); name a directory that is yours to write"
        raise SettingsError([f"cache.dir = {str(directory)!r}: {reason}"]) from error
    prefix = settings.redis.prefix
    client = RedisStore.opened(settings.redis.url, prefix, "redis", observe)
    stack.push_async_callback(client.aclose)
    return _Stores(client, Mirrored(redis("index"), index), redis("mark"), blobs, [index])


@dataclass(frozen=True, slots=True)
class _Member:
    """This process among those that share something with it: the replicas' `fleet`, the `machine`'s own, and the
    `budget` of all that may reach crates.io from here."""

    changes: Changes
    fleet: Fleet
    machine: Fleet
    budget: Budget
    purging: Purging

    def checks(self) -> Sequence[Awaitable[Health]]:
        return [self.fleet.health()] if self.machine is self.fleet else [self.fleet.health(), self._local()]

    async def _local(self) -> Health:
        return replace(await self.machine.health(), name="machine")


async def _member(
    settings: Settings,
    directory: Path,
    stores: _Stores,
    clock: Clock,
    tiers: Sequence[Forgetful],
    stack: contextlib.AsyncExitStack,
) -> _Member:
    changes = Changes(stores.marks, keep=settings.cache.keep, tiers=tiers)
    holdings = Holdings(changes=changes, stores=(stores.json, stores.index), blobs=stores.blobs)
    stack.push_async_callback(holdings.aclose)
    fleet, machine, budget = await _fleets(settings, directory, clock, holdings.hear, changes.forget, stack)
    purging = Purging(changes=changes, holdings=holdings, fleet=fleet, clock=clock)
    return _Member(changes, fleet, machine, budget, purging)


async def _fleets(
    settings: Settings, directory: Path, clock: Clock, hear: Listener, lost: Lost, stack: contextlib.AsyncExitStack
) -> tuple[Fleet, Fleet, Budget]:
    """The fleet that shares the stores, the processes of this machine that share `cache.dir`, and the budget of the
    former. Without Redis the two are the same. What is announced is announced to the first."""
    upstream = settings.upstream
    limits = Limits(upstream.requests_per_second, upstream.burst, upstream.window_requests, upstream.max_wait)
    joined = partial(LocalFleet.opened, directory, limits=limits, workers=settings.server.workers, clock=clock)
    if not settings.redis.url:
        local = await joined(hear, lost)
        stack.push_async_callback(local.aclose)
        return local, local, local.budget
    machine = await joined(lambda _: None, lambda: None)
    stack.push_async_callback(machine.aclose)
    url, prefix, name = settings.redis.url, settings.redis.prefix, redis_budget.machine(directory)
    replicas = await RedisFleet.opened(url, prefix, hear, lost, limits=limits, apart=machine.budget, machine=name)
    stack.push_async_callback(replicas.aclose)
    return replicas, machine, replicas.budget


def _shielded(
    settings: Settings, reach: Reach, budget: Budget, clock: Clock, stack: contextlib.AsyncExitStack
) -> Shield:
    inner = _upstream(settings, reach, stack)
    return Shield(inner, budget, clock=clock, chance=random.random, stale_after=settings.upstream.stale_after)


def _upstream(settings: Settings, reach: Reach, stack: contextlib.AsyncExitStack) -> Upstream:
    if settings.upstream.offline:
        return OfflineUpstream()
    upstream = reach(settings)
    stack.push_async_callback(upstream.aclose)
    return upstream


def over_http(settings: Settings) -> Upstream:
    """crates.io as the settings tell the way to it."""
    given = settings.upstream
    contact = f" ({given.contact})" if given.contact else ""
    try:
        return HttpUpstream(
            origins(settings),
            user_agent=f"crates-proxy/{__version__}{contact}",
            connect_timeout=given.connect_timeout,
            patience=given.read_timeout,
            proxy=given.proxy,
            ca_file=given.ca_file,
        )
    except OSError as error:  # of which ssl.SSLError is one
        reason = error.strerror or error
        raise SettingsError([f"upstream.ca_file = {given.ca_file!r}: cannot be used ({reason})"]) from error


def _ready(
    settings: Settings,
    stores: _Stores,
    member: _Member,
    parts: wiring_ready.Parts,
    limit: Limit,
    clock: Clock,
    observe: Observer,
) -> Ready:
    depot = Depot(stores.index, stores.json, stores.blobs, member.changes)
    fleets = wiring_ready.Fleets(member.fleet, member.machine)
    common = wiring_ready.Common(_policy(settings, "index"), limit.keep, clock, observe)
    return wiring_ready.ready(settings, depot, fleets, member.purging, parts, common)


def _policy(settings: Settings, name: str) -> Policy:
    return endpoints.policy(BY_NAME[name], (), settings.endpoints.get(name))


def _limited(
    settings: Settings, stores: _Stores, pinned: Pinned, observe: Observer, stack: contextlib.AsyncExitStack
) -> Limit:
    told = partial(observe, "cache")
    limit = Limit(settings.cache.max_size, stores.blobs, stores.on_disk, pinned.__contains__, told)
    stack.callback(asyncio.create_task(_tidy(stores.blobs, limit)).cancel)
    return limit


async def _tidy(blobs: DiskBlobs, limit: Limit) -> None:
    while True:
        await asyncio.sleep(TIDY_EVERY)
        await blobs.flush()
        await limit.trim()
