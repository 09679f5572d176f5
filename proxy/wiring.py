"""Builds everything, for `serve` and for every other command: the only module that names concrete classes.

The order of the wrappers is told here. Settings are unpacked here and go no further in.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from proxy import __version__, wiring_ready
from proxy.engine.answers import Answers
from proxy.engine.changes import Changes, Forgetful
from proxy.engine.copies import Copies, Hot
from proxy.engine.depot import Depot
from proxy.engine.downloads import Downloads
from proxy.engine.inventory import Inventory
from proxy.engine.passing import Passing
from proxy.engine.purging import Holdings, Purging
from proxy.engine.ready import Ready
from proxy.engine.shelf import Shelf
from proxy.engine.transparent import Transparent
from proxy.errors import SettingsError
from proxy.fleet.base import Fleet, Listener, Lost
from proxy.fleet.local import LocalFleet
from proxy.fleet.redis import RedisFleet
from proxy.logs import Calm
from proxy.model import Health, Host
from proxy.rules import endpoints
from proxy.rules.endpoints import BY_NAME, Kind, Policy
from proxy.settings import Settings
from proxy.stores.base import Observer, Store
from proxy.stores.blobs import DiskBlobs
from proxy.stores.disk import DiskStore
from proxy.stores.limit import Limit
from proxy.stores.memory import Memory
from proxy.stores.mirrored import Mirrored
from proxy.stores.redis import RedisStore
from proxy.upstream.base import Upstream
from proxy.upstream.http import HttpUpstream
from proxy.upstream.offline import OfflineUpstream
from proxy.upstream.watched import WatchedUpstream

NEGATIVES = 4 * 1024 * 1024
"""Bytes of the memory tier for what does not exist: some two thousand names a worker."""
TIDY_EVERY = 30.0
"""Seconds between two looks at what can wait: noting what was used last, keeping the cache under its size."""

Clock = Callable[[], float]


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


@contextlib.asynccontextmanager
async def opened(settings: Settings, directory: Path, clock: Clock = time.time) -> AsyncIterator[Proxy]:
    """Open the stores in `directory` (`cache.dir`), join the fleet, and close everything in the end.

    `clock` gives seconds since the epoch. Raises `SettingsError` where a setting cannot be put to use.
    """
    observe = Calm()
    async with contextlib.AsyncExitStack() as stack:
        stores = await _stores(settings, directory, clock, observe, stack)
        memory: Memory[Hot] = Memory(settings.cache.memory)
        negatives: Memory[Hot] = Memory(NEGATIVES)
        member = await _member(settings, directory, stores, clock, (memory, negatives), stack)
        changes, fleet = member.changes, member.fleet
        upstream = WatchedUpstream(_upstream(settings, stack))
        copies = _copies(settings, stores, changes, memory, negatives)
        inventory = Inventory(copies=copies, blobs=stores.blobs)
        pinned = await wiring_ready.pinned(settings, inventory, observe)
        told = partial(observe, "cache")
        limit = Limit(settings.cache.max_size, stores.blobs, stores.on_disk, pinned.__contains__, told)
        stack.callback(asyncio.create_task(_tidy(stores.blobs, limit)).cancel)
        answers = Answers(
            copies=copies,
            upstream=upstream,
            fleet=fleet,
            clock=clock,
            observe=observe,
            stale_after=settings.upstream.stale_after,
            offline=settings.upstream.offline,
        )
        stack.push_async_callback(answers.aclose)
        downloads = Downloads(
            answers=answers,
            blobs=stores.blobs,
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
        keep = settings.cache.keep
        shelf = Shelf(memory=memory, negatives=negatives, store=stores.json, changes=changes, keep=keep, clock=clock)
        transparent = Transparent(passing=passing, shelf=shelf, fleet=fleet, clock=clock, observe=observe)
        stack.push_async_callback(transparent.aclose)
        parts = wiring_ready.Parts(answers, downloads, inventory, pinned)
        yield Proxy(
            answers=answers,
            downloads=downloads,
            passing=passing,
            transparent=transparent,
            purging=member.purging,
            ready=_ready(settings, stores, member, parts, limit, clock, observe, directory),
            stores=lambda: [*(each.health() for each in stores.checked), *member.checks()],
            upstream=upstream.checks,
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
    """This process among those that share something with it: the replicas' `fleet`, the `machine`'s own."""

    changes: Changes
    fleet: Fleet
    machine: Fleet
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
    fleet, machine = await _fleets(settings, directory, holdings.hear, changes.forget, stack)
    purging = Purging(changes=changes, holdings=holdings, fleet=fleet, clock=clock)
    return _Member(changes, fleet, machine, purging)


async def _fleets(
    settings: Settings, directory: Path, hear: Listener, lost: Lost, stack: contextlib.AsyncExitStack
) -> tuple[Fleet, Fleet]:
    """The fleet that shares the stores, and the processes of this machine that share `cache.dir`: without Redis
    they are the same. What is announced is announced to the first."""
    if not settings.redis.url:
        local = await LocalFleet.opened(directory, hear, lost)
        stack.push_async_callback(local.aclose)
        return local, local
    machine = await LocalFleet.opened(directory, lambda _: None, lambda: None)
    stack.push_async_callback(machine.aclose)
    replicas = await RedisFleet.opened(settings.redis.url, settings.redis.prefix, hear, lost)
    stack.push_async_callback(replicas.aclose)
    return replicas, machine


def _upstream(settings: Settings, stack: contextlib.AsyncExitStack) -> Upstream:
    given = settings.upstream
    if given.offline:
        return OfflineUpstream()
    contact = f" ({given.contact})" if given.contact else ""
    try:
        upstream = HttpUpstream(
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
    stack.push_async_callback(upstream.aclose)
    return upstream


def _copies(
    settings: Settings, stores: _Stores, changes: Changes, memory: Memory[Hot], negatives: Memory[Hot]
) -> Copies:
    keep = settings.cache.keep
    return Copies(
        memory=memory,
        negatives=negatives,
        stores={Kind.JSON: stores.json, Kind.HTML: stores.json, Kind.INDEX: stores.index},
        keep={Kind.JSON: keep, Kind.HTML: keep, Kind.INDEX: None},
        changes=changes,
    )


def _ready(
    settings: Settings,
    stores: _Stores,
    member: _Member,
    parts: wiring_ready.Parts,
    limit: Limit,
    clock: Clock,
    observe: Observer,
    directory: Path,
) -> Ready:
    depot = Depot(stores.index, stores.json, stores.blobs, member.changes)
    fleets = wiring_ready.Fleets(member.fleet, member.machine)
    common = wiring_ready.Common(_policy(settings, "index"), limit.keep, clock, observe, directory)
    return wiring_ready.ready(settings, depot, fleets, member.purging, parts, common)


def _policy(settings: Settings, name: str) -> Policy:
    return endpoints.policy(BY_NAME[name], (), settings.endpoints.get(name))


async def _tidy(blobs: DiskBlobs, limit: Limit) -> None:
    while True:
        await asyncio.sleep(TIDY_EVERY)
        await blobs.flush()
        await limit.trim()
