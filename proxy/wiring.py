"""Builds everything, for `serve` and for every other command: the only module that names concrete classes.

The order of the wrappers is told here. Settings are unpacked here and go no further in.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from proxy import __version__
from proxy.engine.answers import Answers, Hot
from proxy.engine.changes import Changes
from proxy.engine.downloads import Downloads
from proxy.engine.passing import Passing
from proxy.engine.purging import Holdings, Purging
from proxy.engine.transparent import Transparent
from proxy.engine.warming import Warming
from proxy.errors import SettingsError
from proxy.fleet.base import Fleet, Listener, Lost
from proxy.fleet.local import LocalFleet
from proxy.fleet.redis import RedisFleet
from proxy.model import Health, Host
from proxy.rules import endpoints
from proxy.rules.endpoints import BY_NAME, Kind
from proxy.settings import Settings
from proxy.stores.base import Store
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
from proxy.web.dispatch import Dispatch, Site

log = logging.getLogger("proxy")

NEGATIVES = 4 * 1024 * 1024
"""Bytes of the memory tier for what does not exist: some two thousand names a worker."""
TIDY_EVERY = 30.0
"""Seconds between two looks at what can wait: noting what was used last, keeping the cache under its size."""

Check = Callable[[], Awaitable[Health]]


@dataclass(frozen=True, slots=True)
class Proxy:
    """Everything that a command needs."""

    dispatch: Dispatch
    purging: Purging
    warming: Warming
    checks: Callable[[], Sequence[Awaitable[Health]]]


@contextlib.asynccontextmanager
async def opened(settings: Settings, directory: Path, clock: Callable[[], float] = time.time) -> AsyncIterator[Proxy]:
    """Open the stores in `directory` (`cache.dir`), join the fleet, and close everything in the end.

    `clock` gives seconds since the epoch.

    Raises `SettingsError` where a setting cannot be put to use.
    """
    async with contextlib.AsyncExitStack() as stack:
        cache = settings.cache
        prepared(directory)
        stores = await _stores(settings, directory, stack)
        blobs = await asyncio.to_thread(DiskBlobs.opened, directory / "tarballs", cache.min_free, observe, clock)
        stack.push_async_callback(blobs.aclose)
        limit = Limit(cache.max_size, blobs, stores.on_disk)
        upstream = _upstream(settings, stack)
        watched = WatchedUpstream(upstream)

        memory: Memory[Hot] = Memory(cache.memory)
        negatives: Memory[Hot] = Memory(NEGATIVES)
        changes = Changes(stores.marks, keep=cache.keep, tiers=(memory, negatives))
        holdings = Holdings(changes=changes, stores=(stores.json, stores.index), blobs=blobs)
        stack.push_async_callback(holdings.aclose)
        fleet = await _fleet(settings, directory, holdings.hear, changes.forget, stack)
        purging = Purging(changes=changes, holdings=holdings, fleet=fleet, clock=clock)
        answers = Answers(
            memory=memory,
            negatives=negatives,
            stores={Kind.JSON: stores.json, Kind.HTML: stores.json, Kind.INDEX: stores.index},
            keep={Kind.JSON: cache.keep, Kind.HTML: cache.keep, Kind.INDEX: None},
            upstream=watched,
            changes=changes,
            clock=clock,
            observe=observe,
            offline=settings.upstream.offline,
        )
        stack.push_async_callback(answers.aclose)
        index_policy = endpoints.policy(BY_NAME["index"], (), settings.endpoints.get("index"))
        downloads = Downloads(
            answers=answers,
            blobs=blobs,
            upstream=watched,
            index_policy=index_policy,
            missing_ttl=endpoints.policy(BY_NAME["download"], (), settings.endpoints.get("download")).negative_ttl,
            largest=cache.max_object,
            clock=clock,
            observe=observe,
            stored=limit.keep,
        )
        stack.push_async_callback(downloads.aclose)
        passing = Passing(upstream=watched, purging=purging)
        transparent = Transparent(
            passing=passing, memory=memory, store=stores.json, changes=changes, keep=cache.keep, clock=clock
        )
        site = Site(
            public_url=settings.server.public_url,
            hosts=frozenset(settings.server.hosts),
            origins=_origins(settings),
            overrides=settings.endpoints,
            read_only=settings.access.read_only,
        )
        dispatch = Dispatch(site=site, answers=answers, downloads=downloads, passing=passing, transparent=transparent)
        tidying = asyncio.create_task(_tidy(blobs, limit))
        stack.callback(tidying.cancel)

        def checks() -> Sequence[Awaitable[Health]]:
            return [
                stores.json.health(),
                stores.index.health(),
                blobs.health(),
                fleet.health(),
                *watched.checks(),
            ]

        yield Proxy(
            dispatch=dispatch,
            purging=purging,
            warming=Warming(answers=answers, downloads=downloads, index_policy=index_policy),
            checks=checks,
        )


def observe(what: str, happened: str) -> None:
    """The observer of everything that does not reach the edge."""
    log.warning("%s: %s", what, happened)


def prepared(directory: Path) -> None:
    """Make `cache.dir`, for its owner alone. Raises `SettingsError` where that cannot be."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)
    except OSError as error:
        raise SettingsError(
            [f"cache.dir = {directory}: cannot be used ({error.strerror}); name a directory of yours"]
        ) from None


@dataclass(frozen=True, slots=True)
class _Stores:
    """`marks` are apart from the rest, so that no purge and no lack of room takes them."""

    json: Store
    index: Store
    marks: Store
    on_disk: Sequence[DiskStore]


async def _stores(settings: Settings, directory: Path, stack: contextlib.AsyncExitStack) -> _Stores:
    """Index files lie on the disk whatever else is set, since offline builds hang on them."""

    async def disk(name: str) -> DiskStore:
        store = await asyncio.to_thread(DiskStore.opened, directory / name, name, observe)
        stack.push_async_callback(store.aclose)
        return store

    index = await disk("index")
    if not settings.redis.url:
        json = await disk("json")
        return _Stores(json, index, await disk("marks"), [index, json])
    prefix = settings.redis.prefix
    redis = RedisStore.opened(settings.redis.url, prefix, "redis", observe)
    stack.push_async_callback(redis.aclose)

    def part(name: str) -> RedisStore:
        return RedisStore(redis.client, f"{prefix}{name}:", "redis", observe, time.monotonic)

    return _Stores(redis, Mirrored(part("index"), index), part("mark"), [index])


async def _fleet(
    settings: Settings, directory: Path, hear: Listener, lost: Lost, stack: contextlib.AsyncExitStack
) -> Fleet:
    fleet: Fleet
    if settings.redis.url:
        fleet = await RedisFleet.opened(settings.redis.url, settings.redis.prefix, hear, lost)
    else:
        fleet = await LocalFleet.opened(directory, hear, lost)
    stack.push_async_callback(fleet.aclose)
    return fleet


def _upstream(settings: Settings, stack: contextlib.AsyncExitStack) -> Upstream:
    if settings.upstream.offline:
        return OfflineUpstream()
    contact = f" ({settings.upstream.contact})" if settings.upstream.contact else ""
    upstream = HttpUpstream(
        _origins(settings),
        user_agent=f"crates-proxy/{__version__}{contact}",
        connect_timeout=settings.upstream.connect_timeout,
        patience=settings.upstream.read_timeout,
        proxy=settings.upstream.proxy,
        ca_file=settings.upstream.ca_file,
    )
    stack.push_async_callback(upstream.aclose)
    return upstream


def _origins(settings: Settings) -> dict[Host, str]:
    upstream = settings.upstream
    return {Host.API: upstream.api, Host.INDEX: upstream.index, Host.STATIC: upstream.static}


async def _tidy(blobs: DiskBlobs, limit: Limit) -> None:
    while True:
        await asyncio.sleep(TIDY_EVERY)
        await blobs.flush()
        await limit.trim()
