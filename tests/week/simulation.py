"""A run in virtual time: a plan, a crates.io, the office, and between them the real application or nothing."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from proxy import settings
from proxy.rules.endpoints import TIMED
from proxy.settings import Settings
from proxy.web.app import App
from tests import virtual_time
from tests.week import population
from tests.week.books import Books
from tests.week.clients import Visitor
from tests.week.crates_io import CratesIo, Reached
from tests.week.office import Office
from tests.week.plan import HOUR, Plan
from tests.week.ways import Straight, Through, Way, started
from tests.week.witness import Witness

Progress = Callable[[float, float, Books, Witness], None]
"""Is told now and then: virtual seconds, real seconds, what crates.io and what the clients saw so far."""


@dataclass(frozen=True, slots=True)
class Run:
    """What came of it: `seconds` of virtual time, in which crates.io saw `books` and the clients `witness`."""

    seconds: float
    took: float
    books: Books
    witness: Witness


def through_the_proxy(plan: Plan, progress: Progress, given: Mapping[str, object] = {}) -> Run:
    """`given`: settings, by key."""

    async def run() -> Run:
        with tempfile.TemporaryDirectory(prefix="week-") as scratch:
            return await _run(plan, progress, partial(_application, _settings(Path(scratch), given), Path(scratch)))

    with virtual_time.running() as runner:
        return runner.run(run())


def straight(plan: Plan, progress: Progress) -> Run:
    """The same clients, with crates.io itself at the other end."""

    async def run() -> Run:
        return await _run(plan, progress, lambda crates_io: contextlib.nullcontext(Straight(crates_io)))

    with virtual_time.running() as runner:
        return runner.run(run())


def _settings(directory: Path, given: Mapping[str, object]) -> Settings:
    fixed = {"cache.dir": str(directory), "cache.min_free": 0, "upstream.contact": "tests@example.org"}
    return settings.load({**fixed, **given}, None, {}, endpoints=TIMED).settings


@contextlib.asynccontextmanager
async def _application(settings: Settings, directory: Path, crates_io: CratesIo):  # type: ignore[no-untyped-def]
    application = App(settings, directory, virtual_time.clock(), lambda _: Reached(crates_io))
    async with started(application):
        yield Through(application)


async def _run(
    plan: Plan, progress: Progress, opened: Callable[[CratesIo], contextlib.AbstractAsyncContextManager[Way]]
) -> Run:
    begun = time.monotonic()
    clock = virtual_time.clock()
    registry = population.registry(plan, clock)
    books = Books()
    witness = Witness(clock, partial(population.versions, registry))
    crates_io = CratesIo(registry, clock, plan.outages, plan.seed, books)

    async def told() -> None:
        while True:
            await asyncio.sleep(HOUR)
            progress(asyncio.get_running_loop().time(), time.monotonic() - begun, books, witness)

    teller = asyncio.create_task(told())
    async with opened(crates_io) as way:
        await Office(plan, Visitor(way, witness), registry).work()
    teller.cancel()
    return Run(plan.seconds, time.monotonic() - begun, books, witness)
