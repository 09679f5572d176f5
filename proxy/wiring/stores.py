"""Opens the stores, as the settings say: the part of `wiring` that names their classes."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from proxy.engine.catalogue import Catalogue
from proxy.engine.copies import Copies
from proxy.errors import SettingsError
from proxy.metrics.table import StoreName
from proxy.metrics.telling import Bounded, Medium
from proxy.settings import Settings
from proxy.stores import codec
from proxy.stores.base import Doubted, Observer, Store, Tagged
from proxy.stores.blobs import DiskBlobs
from proxy.stores.disk import DiskStore
from proxy.stores.limit import Limit
from proxy.stores.mirrored import Mirrored
from proxy.stores.reclaiming import Reclaiming
from proxy.stores.redis import RedisStore

Clock = Callable[[], float]


def _prepared(directory: Path) -> None:
    """Make `cache.dir`, for its owner alone. One that is another's, as a mounted volume may be, is taken as it is."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(PermissionError):
        directory.chmod(0o700)


@dataclass(frozen=True, slots=True)
class Stores:
    """`marks` are apart from the rest, so that no purge and no lack of room takes them. `media`: whatever holds what a
    metric calls by one name; the first of them is measured. `apart`: each that holds what was answered. `listed`: those
    that can be looked through. `expiring`: those on the disk that keep what they hold for a time. `left_alone`: whether
    the server that others share as well is not asked at the moment."""

    json: Store
    index: Store
    marks: Doubted
    blobs: DiskBlobs
    on_disk: Sequence[DiskStore]
    apart: Sequence[Store]
    media: Mapping[StoreName, Sequence[Medium]]
    listed: Mapping[StoreName, Tagged]
    expiring: Sequence[DiskStore] = ()
    left_alone: Callable[[], bool] = lambda: False

    @property
    def checked(self) -> tuple[Store, Store, DiskBlobs]:
        return self.json, self.index, self.blobs


async def stores(
    settings: Settings, directory: Path, clock: Clock, observe: Observer, stack: contextlib.AsyncExitStack
) -> Stores:
    """Index files lie on the disk whatever else is set, since offline builds hang on them."""

    async def disk(name: str) -> DiskStore:
        store = await asyncio.to_thread(DiskStore.opened, directory / name, name, observe)
        stack.push_async_callback(store.aclose)
        return store

    def bounded(medium: Medium) -> Medium:
        return Bounded(medium, settings.cache.max_size)

    def redis(part: str) -> RedisStore:
        return RedisStore(client.client, f"{prefix}{part}:", "redis", observe, time.monotonic, client.breaker)

    try:
        _prepared(directory)
        min_free = settings.cache.min_free
        blobs = await asyncio.to_thread(DiskBlobs.opened, directory / "tarballs", min_free, observe, clock)
        stack.push_async_callback(blobs.aclose)
        index = await disk("index")
        tarballs = {StoreName.TARBALL: [bounded(blobs)]}
        if not settings.redis.url:
            json, marks = await disk("json"), await disk("marks")
            media = {StoreName.JSON: [bounded(json), marks], StoreName.INDEX: [bounded(index)], **tarballs}
            own = {StoreName.JSON: json, StoreName.INDEX: index}
            return Stores(json, index, marks, blobs, [index, json], [index, json], media, own, [json, marks])
    except OSError as error:
        reason = f"cannot be used ({error.strerror or error}); name a directory that is yours to write"
        raise SettingsError([f"cache.dir = {str(directory)!r}: {reason}"]) from error
    prefix = settings.redis.prefix
    client = RedisStore.opened(settings.redis.url, prefix, "redis", observe)
    stack.push_async_callback(client.aclose)
    shared, remembered = redis("index"), redis("mark")
    media = {StoreName.JSON: [client, remembered], StoreName.INDEX: [bounded(index), shared], **tarballs}
    # Every index file that came through here is on the disk, which knows them in their order.
    listed: Mapping[StoreName, Tagged] = {StoreName.JSON: client, StoreName.INDEX: index}
    mirrored = Mirrored(shared, index, codec.responded_at)
    apart: list[Store] = [index, shared, client]
    return Stores(client, mirrored, remembered, blobs, [index], apart, media, listed, left_alone=client.left_alone)


def catalogue(settings: Settings, kept: Stores, copies: Copies, clock: Clock) -> Catalogue:
    return Catalogue(
        copies=copies,
        json=kept.listed[StoreName.JSON],
        json_values=kept.json,
        index=kept.listed[StoreName.INDEX],
        blobs=kept.blobs,
        keep=settings.cache.keep,
        clock=clock,
    )


def reclaiming(settings: Settings, directory: Path, kept: Stores, limit: Limit, clock: Clock) -> Reclaiming:
    """With Redis JSON is not on the disk, and Redis sees to its end by itself."""
    on_disk = dict(zip(("index", "json"), kept.on_disk, strict=False))
    return Reclaiming(
        directory,
        blobs=kept.blobs,
        limit=limit,
        kept=[store for name, store in on_disk.items() if name == "json"],
        named={"tarballs": kept.blobs, **on_disk},
        keep=settings.cache.keep,
        max_size=settings.cache.max_size,
        min_free=settings.cache.min_free,
        clock=clock,
    )
