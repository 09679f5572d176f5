"""A run in virtual time: a plan, a crates.io, the office, and between them the real application or nothing."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
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
from tests.week.plan import Plan
from tests.week.report import Run
from tests.week.ways import Straight, Through, Way, started
from tests.week.witness import Witness

Progress = Callable[[Run], None]
"""Is told now and then what has come of it so far."""
TOLD_EVERY = 0.5
"""Real seconds between two words of progress, and virtual ones between two looks at that clock."""
LOOKED_EVERY = 60.0


def through_the_proxy(plan: Plan, progress: Progress, given: Mapping[str, str]) -> Run:
    """`given`: settings, by key, as the environment would give them."""

    async def run() -> Run:
        with tempfile.TemporaryDirectory(prefix="week-") as scratch:
            directory = Path(scratch)
            return await _run(plan, progress, partial(_application, configured(directory, given), directory))

    with virtual_time.running() as runner:
        return runner.run(run())


def straight(plan: Plan, progress: Progress) -> Run:
    """The same clients, with crates.io itself at the other end."""

    async def run() -> Run:
        return await _run(plan, progress, lambda crates_io: contextlib.nullcontext(Straight(crates_io)))

    with virtual_time.running() as runner:
        return runner.run(run())


def configured(directory: Path, given: Mapping[str, str]) -> Settings:
    """The settings of a run, `given` over them."""
    chosen = {"cache.dir": str(directory), "upstream.contact": "tests@example.org", **given}
    return settings.load({}, None, environment(chosen), endpoints=TIMED).settings


def environment(given: Mapping[str, str]) -> dict[str, str]:
    """Settings, by key, as variables of the environment."""
    return {f"CRATES_PROXY_{key.upper().replace('.', '__')}": value for key, value in given.items()}


@contextlib.asynccontextmanager
async def _application(settings: Settings, directory: Path, crates_io: CratesIo) -> AsyncIterator[Way]:
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
    witness = Witness(clock, partial(population.versions, registry), lambda: books.asked("api"))
    crates_io = CratesIo(registry, clock, plan.outages, plan.seed, books)

    async def told() -> None:
        told_at = begun
        while True:
            await asyncio.sleep(LOOKED_EVERY)
            if time.monotonic() - told_at > TOLD_EVERY:
                told_at = time.monotonic()
                progress(Run(asyncio.get_running_loop().time(), told_at - begun, books, witness))

    teller = asyncio.create_task(told())
    async with opened(crates_io) as way:
        await Office(plan, Visitor(way, witness), registry).work()
    teller.cancel()
    return Run(plan.seconds, time.monotonic() - begun, books, witness)
