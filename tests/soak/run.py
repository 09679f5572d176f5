"""The run: the load and the lanes of faults side by side, first without and then with a Redis, with calms between.

In a calm every fault rests, nobody asks, and then everything is asked for once: all has to be right and there, and
what the workers hold is counted. After the last deadly fault the processes live on to the end, to see what they gather.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import shutil
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

from tests.soak import census, plan
from tests.soak.census import Census
from tests.soak.load import Load
from tests.soak.machine import Machine
from tests.soak.oracle import Oracle
from tests.soak.plan import DEADLY, Kind, Lane, Timing
from tests.soak.report import Report
from tests.soak.shared import Shared
from tests.soak.stage import Server, Stage, redis_behind
from tests.soak.way import Way
from tests.soak.windows import Windows
from tests.soak.wire import Connection

VISITORS = 16
QUIET = 7.0
"""Seconds of calm before all has to be well: a breaker and a hold rest for five."""
SAMPLE = 400
"""Objects that are asked for in a calm."""
CALMS = (0.4, 0.8, 0.9, 1.0)
SHORT_CALMS = (1.0,)
PATIENCE = 120.0
"""Seconds more, at least, for the kinds of faults that have not come often enough: on a busy machine few clients ask
for what only crates.io has, and a fault of its answers finds none to befall."""

MOST = {"sockets": 150, "databases": 75, "tarballs": 135, "others": 30}
"""Descriptors of a worker while nobody asks: idle connections, of which Redis's may be 64 and crates.io's as many as
there were requests at once; five databases of three threads, three files each; 128 tarballs that are kept open."""
LARGEST = 300 * 2**20
"""Bytes of memory of a worker: 90 MiB are its own, an answer without end may have 64, twice for a moment."""

Progress = Callable[[Report], None]


@dataclass
class Half:
    """The run with one kind of store."""

    stage: Stage
    server: Server
    timing: Timing
    dice: random.Random
    report: Report
    number: int  # 1, 2
    windows: Windows = field(default_factory=Windows)
    locks: dict[Lane, asyncio.Lock] = field(default_factory=dict)
    counted: list[list[Census]] = field(default_factory=list)

    async def run(self, redis: Shared | None) -> None:
        seconds = self.timing.whole / 2
        await asyncio.to_thread(self.server.serve)
        report, stage = self.report, self.stage
        oracle = Oracle(
            stage.chronicle, self.windows, answers=report.answers, statuses=report.statuses, faults=report.faults
        )
        load = Load(self.server.port, stage.chronicle, oracle, self.dice, left=report.left)
        machine = Machine(self.server, stage.levers, load, self.windows, self.dice, report.came, redis is not None, {})
        way = Way(stage.upstream, self.windows, self.dice, report.came)
        every = {Lane.MACHINE: machine.befall, Lane.WAY: way.befall, **({Lane.SHARED: redis.befall} if redis else {})}
        befall = {lane: do for lane, do in every.items() if lane in report.lanes}
        self.locks = {lane: asyncio.Lock() for lane in befall}
        load.going.set()
        begun = time.monotonic()
        others = [load.visit() for _ in range(VISITORS)] + [load.change(), way.watch()]
        tasks = [asyncio.create_task(each) for each in others]
        tasks += [asyncio.create_task(self._lane(lane, do, begun, seconds)) for lane, do in befall.items()]
        try:
            for share in CALMS if self.timing.minutes >= 5 else SHORT_CALMS:
                await _first(tasks, asyncio.sleep(max(0.0, begun + share * seconds - time.monotonic())))
                if share == 1.0:
                    await _first(tasks, self._enough(list(befall)))
                await _first(tasks, self._calm(load, machine, way, share))
            await self._ended(tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        self._compare()
        await asyncio.to_thread(self.server.stop, 40.0)

    async def _ended(self, tasks: list[asyncio.Task[None]]) -> None:
        """No fault is broken off half way."""
        async with contextlib.AsyncExitStack() as stack:
            for lock in self.locks.values():
                await stack.enter_async_context(lock)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _lane(self, lane: Lane, befall: Callable[[Kind], Awaitable[None]], begun: float, seconds: float) -> None:
        """The faults of a lane, one after the other, for ever; when their time is up, those that are lacking."""
        lasts = seconds * (1.0 if lane is Lane.SHARED else 2.0)
        slot = self.timing.slot(lane, lasts - self.timing.living)
        order = plan.order(lane, self.dice, self.report.without)
        while True:
            living = time.monotonic() > begun + seconds - self.timing.living / 2
            lacking = self.report.lacking([lane], self._wanted()) if time.monotonic() > begun + seconds else []
            kind = self.dice.choice(lacking) if lacking else next(order)
            if living and kind in DEADLY and self.report.came[kind] >= self._wanted():
                await asyncio.sleep(0.02)  # there may be no other kind
                continue
            start = time.monotonic()
            async with self.locks[lane]:
                self.report.told_of(f"{kind.value} ...")
                await befall(kind)
                self.report.told_of(f"{kind.value} over")
            await asyncio.sleep(max(0.02, start + slot - time.monotonic()))

    def _wanted(self) -> int:
        return math.ceil(plan.least(self.timing.minutes) * self.number / 2)

    async def _enough(self, lanes: list[Lane]) -> None:
        """Until each kind of fault has come as often as it has to, within reason."""
        end = time.monotonic() + max(PATIENCE, self.timing.whole / 2)
        while self.report.lacking(lanes, self._wanted()) and time.monotonic() < end:
            await asyncio.sleep(0.2)

    async def _calm(self, load: Load, machine: Machine, way: Way, share: float) -> None:
        async with contextlib.AsyncExitStack() as stack:
            for lock in self.locks.values():
                await stack.enter_async_context(lock)
            self.report.told_of("calm")
            way.heal()
            await load.rest()
            self.report.told_of("calm: nobody asks")
            await self._mended(machine)
            await asyncio.sleep(QUIET)
            connection = Connection(load.port)
            failed = await load.everything(connection, SAMPLE if self.timing.minutes >= 5 else SAMPLE // 4)
            await connection.close()
            self.report.faults += [f"when all was well again: {each}" for each in failed]
            await asyncio.sleep(1.0)  # what was answered last is stored by now; what hangs is there still
            found = [census.taken(pid, self.stage.levers.place) for pid in self.server.workers]
            self.counted.append([each for each in found if each is not None])
            self.report.note(f"{self.server.cache.name} at {share:.0%}", self.counted[-1])
            load.going.set()

    async def _mended(self, machine: Machine) -> None:
        """A damaged database is seen to be replaced, or nobody has noticed by now: then it is removed by hand, as what
        it held cannot be relied on."""
        for key, window in list(machine.damaged.items()):
            name = key.partition("/")[2]
            folder = self.server.cache / name
            replaced = any(path.stat().st_ctime for path in folder.glob("v*.damaged-*"))
            if not replaced:
                await asyncio.to_thread(self.server.stop, 40.0)
                for path in folder.glob("v*[0-9]"):
                    shutil.rmtree(path)
                await asyncio.to_thread(self.server.serve)
            for path in folder.glob("v*.damaged-*"):
                shutil.rmtree(path, ignore_errors=True)
            window.end = time.monotonic() + 2.0
            del machine.damaged[key]

    def _compare(self) -> None:
        """What a worker has gathered between the last deadly fault and the end."""
        first, last = self.counted[-3:][0], self.counted[-1]
        known = {each.pid: each for each in first}
        for each in last:
            if each.pid in known:
                self.report.leaks += leaks(known[each.pid], each)


def leaks(before: Census, after: Census) -> Iterator[str]:
    """What there is too much of: more than it may ever be, or growing."""
    for kind, most in MOST.items():
        if after.descriptors[kind] > most:
            yield f"{kind} open in worker {after.pid}: {before.descriptors[kind]}, then {after.descriptors[kind]}"
    if after.tasks.total() > before.tasks.total() + 6:
        yield f"tasks of worker {after.pid}: {dict(before.tasks)}, then {dict(after.tasks)}"
    if after.memory > LARGEST:
        yield f"memory of worker {after.pid}: {before.memory // 2**20} MiB, then {after.memory // 2**20} MiB"


async def _first(tasks: list[asyncio.Task[None]], work: Awaitable[None]) -> None:
    """Do the work; whatever of the tasks fails meanwhile fails all."""
    doing = asyncio.ensure_future(work)
    done, _ = await asyncio.wait([doing, *tasks], return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        if task is not doing:
            doing.cancel()
        task.result()


async def run(stage: Stage, minutes: float, dice: random.Random, report: Report, progress: Progress) -> None:
    timing = Timing(minutes)

    async def told() -> None:
        while True:
            await asyncio.sleep(1.0)
            progress(report)

    telling = asyncio.create_task(told())
    try:
        embedded = Half(stage, stage.server("embedded", {}), timing, dice, report, 1)
        try:
            await embedded.run(None)
        finally:
            await asyncio.to_thread(embedded.server.kill)
            report.logs.append(embedded.server.log)
        if Lane.SHARED not in report.lanes:
            return
        async with redis_behind(dice) as (servers, between):
            server = stage.server("shared", {"CRATES_PROXY_REDIS__URL": between.url})
            half = Half(stage, server, timing, dice, report, 2)
            shared = Shared(servers, between, half.windows, dice, report.came)
            try:
                await half.run(shared)
            finally:
                await asyncio.to_thread(server.kill)
                report.logs.append(server.log)
    finally:
        telling.cancel()
        report.came[Kind.CLIENT_LEFT] = report.left.total()
