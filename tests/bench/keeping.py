"""A grown cache asked what operators ask, by command and in process, and made to make room; the memory tier alone."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Iterable
from pathlib import Path

from proxy.model import Entry, Selection
from proxy.stores.blobs import DiskBlobs
from proxy.stores.disk import DiskStore
from proxy.stores.limit import Limit
from proxy.stores.memory import Memory
from tests.bench import cores, filling
from tests.bench.load import Failed
from tests.bench.processes import ROOT
from tests.bench.targets import Figure

# Makes room for a tenth of what is there, as a limit that was lowered would.
_SHARE = 0.9
_LOOKED_UP = 1000
_TURNS = 50
# From so many answers on, what else moves in this process is nothing beside them.
_WEIGHED = 100_000


def commanded(directory: Path, size: int) -> list[Figure]:
    """How long an operator waits for each command that looks at all of a `cache.dir`. Raises `Failed`."""
    figures = []
    # There is room for all of it, so that `gc` only looks.
    environment = os.environ | {"CRATES_PROXY_CACHE__DIR": str(directory), "CRATES_PROXY_CACHE__MIN_FREE": "0"}
    for name in ("stats", "gc", "verify"):
        begun = time.monotonic()
        command = [sys.executable, "-m", "proxy", name, "--json"]
        ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        if ended.returncode:
            raise Failed(f"`crates-proxy {name}` on {size:,} answers ended with {ended.returncode}: {ended.stderr}")
        title = f"`crates-proxy {name}` with {size:,} answers"
        figures.append(Figure(f"growth-command-{name}-{size}", title, time.monotonic() - begun, "s"))
    return figures


def measured(directory: Path, size: int) -> list[Figure]:
    """Of the stores in a `cache.dir` that nobody else uses. It leaves less there than there was."""
    return asyncio.run(_measured(directory, size))


async def _measured(directory: Path, size: int) -> list[Figure]:
    def ignored(store: str, what: str) -> None:
        """What is evicted here is counted below."""

    begun = time.monotonic()
    blobs = DiskBlobs.opened(directory / "tarballs", 0, ignored)
    index, json = [DiskStore.opened(directory / part, part, ignored) for part in ("index", "json")]
    took = time.monotonic() - begun
    figures = [Figure(f"growth-open-{size}", f"opening the stores of {size:,} answers", took * 1000, "ms")]
    stores = [index, json]
    everything = Selection()
    counted = {
        "reconcile": ("looking for what a crash has left behind the start", _each([_reconciled(blobs, stores)])),
        "count": ("counting all answers", _each(store.count(everything) for store in stores)),
        "volume": ("measuring what is on the disk", _each([blobs.volume(), index.volume(), json.volume()])),
        "purge": ("purging one crate", _each(store.purge(Selection(crate=filling.name(0))) for store in stores)),
    }
    for what, (title, work) in counted.items():
        seconds, _ = await _timed(work)
        figures.append(Figure(f"growth-{what}-{size}", f"{title} of {size:,}", seconds * 1000, "ms"))
    volume = sum([await blobs.volume(), *[await store.volume() for store in stores]])
    before = sum([await store.count(everything) for store in stores])
    async with _stalls() as stalls:
        seconds, freed = await _timed(Limit(int(volume * _SHARE), blobs, [index, json]).trim())
    gone = before - sum([await store.count(everything) for store in stores])
    title = f"making room in {size:,}: {freed / 1e6:,.1f} MB of {volume / 1e6:,.1f}, {gone:,} answers"
    figures.append(Figure(f"growth-trim-{size}", title, seconds, "s"))
    title = f"the longest that meanwhile the loop of {size:,} answers stood"
    figures.append(Figure(f"growth-stall-{size}", title, max(stalls) * 1000, "ms"))
    await blobs.aclose()
    for store in stores:
        await store.aclose()
    return figures


async def _reconciled(blobs: DiskBlobs, stores: list[DiskStore]) -> int:
    await blobs.reconcile()
    for store in stores:
        await store.sweep()
    return 0


async def _each(work: Iterable[Awaitable[int]]) -> int:
    return sum([await each for each in work])


async def _timed(work: Awaitable[int]) -> tuple[float, int]:
    begun = time.monotonic()
    result = await work
    return time.monotonic() - begun, result


@contextlib.asynccontextmanager
async def _stalls() -> AsyncIterator[list[float]]:
    """How late each tick of a millisecond came."""
    late = [0.0]

    async def tick() -> None:
        while True:
            begun = time.monotonic()
            await asyncio.sleep(0.001)
            late.append(time.monotonic() - begun - 0.001)

    task = asyncio.create_task(tick())
    yield late
    task.cancel()


def tier(size: int) -> list[Figure]:
    """A memory tier with so many answers: what looking one up costs, and what each takes beside its body."""
    before = cores.resident([os.getpid()])
    tier: Memory[Entry] = Memory(1 << 40)
    for number, read in enumerate(filling.reads(size)):
        entry = filling.entry(read, number // 2, 0.0)
        tier.put(read.key, entry, size=len(entry.body), tag=read.tag)
    grown = cores.resident([os.getpid()]) - before
    wanted = [filling.index_read(number).key for number in random.Random(size).choices(range(size // 2), k=_LOOKED_UP)]
    spent = time.process_time()
    for _ in range(_TURNS):
        for key in wanted:
            tier.get(key)
    nanos = (time.process_time() - spent) / _TURNS / _LOOKED_UP * 1e9
    figures = [Figure(f"growth-look-{size}", f"looking up one of {_LOOKED_UP:,} among {size:,} in memory", nanos, "ns")]
    if size >= _WEIGHED:
        weight = (grown - tier.bytes) / size
        figures.append(Figure(f"growth-weight-{size}", "each of them in memory, beside its body", weight, "bytes"))
    return figures
