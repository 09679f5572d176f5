"""Far more people at once than crates.io lets one address ask for: five thousand, at about one request a second."""

from __future__ import annotations

import asyncio
import contextlib
import tracemalloc
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from proxy.engine.answers import Answers
from proxy.engine.changes import Changes
from proxy.engine.copies import Copies, Hot
from proxy.engine.deferred import Deferred
from proxy.engine.renewing import Renewing
from proxy.errors import Throttled
from proxy.fleet.local import LocalFleet
from proxy.rules import endpoints, keys, routes
from proxy.rules.bucket import WINDOW, Limits, Urgency
from proxy.rules.endpoints import Kind, Policy
from proxy.rules.keys import Read
from proxy.stores.memory import Memory
from proxy.upstream.base import Ask, Need
from proxy.upstream.shield import Shield
from tests import virtual_time
from tests.engine.fakes import DictStore, FakeAnswer

CROWD = 5000
PUT_OFF = 1000
LIMITS = Limits(rate=1.0, burst=10, window=570, max_wait=10.0)


@dataclass
class CratesIo:
    """Answers everything, and notes when and for whom."""

    asked: list[tuple[float, Ask]] = field(default_factory=list)

    async def send(self, ask: Ask) -> FakeAnswer:
        self.asked.append((asyncio.get_running_loop().time(), ask))
        return FakeAnswer(b'{"crate":{}}')

    async def aclose(self) -> None:
        pass

    def of(self, urgency: Urgency) -> list[float]:
        return [at for at, ask in self.asked if ask.need.urgency is urgency]


def crate(number: int) -> Read:
    match = routes.match("GET", f"/api/v1/crates/crate-{number}", ())
    return keys.read(match, endpoints.policy(match.endpoint, ()))


async def machine(shield: Shield, until: asyncio.Event) -> int:
    """A warm run that would ask the API as fast as it is let; how often it was let."""
    let = 0
    while not until.is_set():
        try:
            await shield.send(Ask(endpoints.BY_NAME["crate"].host, "GET", "/warm", need=Need(Urgency.MACHINE)))
            let += 1
        except Throttled:
            await asyncio.sleep(5)
    return let


@dataclass
class Visit:
    """One of the crowd: what it was told, and how long each attempt took."""

    number: int
    waits: list[float] = field(default_factory=list)
    told: list[int] = field(default_factory=list)


async def visit(answers: Answers, number: int) -> Visit:
    """Ask, and as often as the answer is 429 come again when it says."""
    loop, visit = asyncio.get_running_loop(), Visit(number)
    while True:
        begun = loop.time()
        try:
            outcome = await answers.get(crate(number))
            assert outcome.entry.body == b'{"crate":{}}'
            visit.waits.append(loop.time() - begun)
            return visit
        except Throttled as refused:
            visit.waits.append(loop.time() - begun)
            assert refused.status == 429 and refused.retry_after is not None
            visit.told.append(refused.retry_after)
        await asyncio.sleep(visit.told[-1])


@dataclass(frozen=True)
class Parts:
    upstream: CratesIo
    shield: Shield
    answers: Answers
    deferred: Deferred


@contextlib.asynccontextmanager
async def served(directory: Path) -> AsyncIterator[Parts]:
    """What is between a crowd and crates.io, for JSON, in virtual time."""
    upstream, clock = CratesIo(), virtual_time.clock()
    fleet = await LocalFleet.opened(directory, lambda _: None, lambda: None, limits=LIMITS, clock=clock)
    shield = Shield(upstream, fleet.budget, clock=clock, chance=lambda: 0.5, stale_after=2.0)
    memory, negatives, store = Memory[Hot](1 << 20), Memory[Hot](1 << 20), DictStore()
    changes = Changes(store, keep=1.0, tiers=(memory, negatives))
    never = Renewing(index=lambda read: answers.get(read), index_policy=Policy(), ceiling=0.0, clock=clock)
    deferred = Deferred(refresh=lambda read: answers.refresh(read), held=lambda: 0.0, clock=clock)
    answers = Answers(
        copies=Copies(
            memory=memory, negatives=negatives, stores={Kind.JSON: store}, keep={Kind.JSON: None}, changes=changes
        ),
        upstream=shield,
        fleet=fleet,
        renewing=never,
        clock=clock,
        observe=lambda what, happened: None,
        stale_after=2.0,
        put_off=deferred.note,
    )
    deferred.start()
    yield Parts(upstream, shield, answers, deferred)
    await deferred.aclose()
    await answers.aclose()
    await shield.aclose()
    await fleet.aclose()


async def crowd(directory: Path) -> tuple[CratesIo, list[Visit], int, int]:
    async with served(directory) as parts:
        upstream, over = parts.upstream, asyncio.Event()
        warming = asyncio.create_task(machine(parts.shield, over))
        await asyncio.sleep(60)  # it has the API to itself, and takes what nobody else wants
        upstream.asked.clear()
        tracemalloc.start()
        begun = [asyncio.create_task(visit(parts.answers, number)) for number in range(CROWD)]
        await asyncio.sleep(LIMITS.max_wait)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        visits = await asyncio.gather(*begun)
        over.set()
        await warming
    return upstream, visits, peak, len(upstream.of(Urgency.MACHINE))


async def beside(directory: Path) -> tuple[CratesIo, list[Visit], float]:
    """A thousand that were put off, and now and then four people at once, who want something that nobody has."""
    loop = asyncio.get_running_loop()
    async with served(directory) as parts:
        begun = loop.time()
        for number in range(PUT_OFF):
            parts.deferred.note(crate(number))
        visits: list[Visit] = []
        while len(parts.deferred):
            wanted = range(CROWD + len(visits), CROWD + len(visits) + 4)
            visits += await asyncio.gather(*(visit(parts.answers, number) for number in wanted))
            await asyncio.sleep(20)
    return parts.upstream, visits, loop.time() - begun


def test_five_thousand_at_once_are_served_in_order_as_they_were_told(tmp_path: Path) -> None:
    with virtual_time.running() as runner:
        upstream, visits, peak, machines = runner.run(crowd(tmp_path))

    assert max(wait for each in visits for wait in each.waits) <= LIMITS.max_wait + 0.01, "nobody waits longer"
    sent = [at for at, _ in upstream.asked]
    assert all(len([at for at in sent if end - WINDOW < at <= end]) <= LIMITS.window for end in sent[::50])
    # In the order of asking, those who came at once and those who waited.
    first = [each.number for each in visits if not each.told]
    assert first == list(range(len(first))) and 18 <= len(first) <= 20
    # Whoever is refused is told a time of his own, later than those before him, and it is true: nobody who comes
    # when he was told to is sent away for long.
    promises = [each.told[0] for each in visits if each.told]
    assert promises == sorted(promises) and max(promises.count(each) for each in promises[::100]) <= 2
    assert sum(len(each.told) > 1 for each in visits) < CROWD / 100
    # All of it takes as long as it must, not longer.
    assert len(upstream.of(Urgency.CLIENT)) == CROWD
    assert max(sent) - min(sent) < 1.02 * CROWD * LIMITS.spacing
    assert machines < CROWD / 100, "the machine starves nobody"
    assert peak < CROWD * 30_000, "bytes a waiting client"


def test_what_was_put_off_takes_what_people_leave(tmp_path: Path) -> None:
    with virtual_time.running() as runner:
        upstream, visits, took = runner.run(beside(tmp_path))

    assert max(wait for each in visits for wait in each.waits) < 0.5, "half the burst is always theirs"
    assert not any(each.told for each in visits)
    behind = [ask.target.rpartition("-")[2] for _, ask in upstream.asked if ask.need.urgency is Urgency.REFRESH]
    assert behind == [str(number) for number in range(PUT_OFF)], "in order, each once"
    assert took < 1.1 * (PUT_OFF + len(visits)) * LIMITS.spacing, "and nothing lies idle meanwhile"
