"""The path of a read where the order of what happens at the same time matters."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator

import pytest

from proxy.engine import exchange
from proxy.engine.answers import UNREACHED, Answers
from proxy.engine.changes import Changes
from proxy.engine.copies import Copies, Hot
from proxy.engine.deferred import Deferred
from proxy.engine.flight import FIRST_BYTE
from proxy.engine.pace import Pace
from proxy.engine.renewing import Renewing
from proxy.engine.whole import LONGEST, whole
from proxy.errors import Faulty, Late
from proxy.model import Invalidation, Mark, Selection, Verdict
from proxy.rules import endpoints, keys, routes
from proxy.rules.endpoints import Kind, Policy
from proxy.stores import codec
from proxy.stores.memory import Memory
from proxy.upstream.base import Answer, Ask, Need
from tests import virtual_time
from tests.engine.fakes import DictStore, FakeAnswer, FakeFleet, FakeUpstream

PATH = "/api/v1/crates/leaf/1.0.0/dependencies"


class SlowStore(DictStore):
    """`meanwhile` happens while a value of an entry is being read."""

    def __init__(self) -> None:
        super().__init__()
        self.meanwhile: list[Invalidation] = []
        self.hear: list[Changes] = []

    async def get(self, key: str) -> bytes | None:
        if key.startswith("dependencies "):
            for invalidation in self.meanwhile:
                self.hear[0].hear(invalidation)
        return await super().get(key)


@pytest.mark.anyio
@pytest.mark.parametrize("soft", [True, False])
async def test_what_is_announced_while_the_store_is_read_counts(soft: bool) -> None:
    now = [1000.0]
    store, memory, negatives = SlowStore(), Memory[Hot](1 << 20), Memory[Hot](1 << 20)
    changes = Changes(store, keep=1.0, tiers=(memory, negatives))
    store.hear.append(changes)
    upstream = FakeUpstream(b'{"dependencies":[]}')
    copies = Copies(
        memory=memory, negatives=negatives, stores={Kind.JSON: store}, keep={Kind.JSON: None}, changes=changes
    )
    never = Renewing(index=lambda read: answers.get(read), index_policy=Policy(), ceiling=0.0, clock=lambda: now[0])
    answers = Answers(
        copies=copies,
        upstream=upstream,
        fleet=FakeFleet(),
        renewing=never,
        clock=lambda: now[0],
        observe=lambda what, happened: None,
        stale_after=2.0,
    )
    match = routes.match("GET", PATH, ())
    read = keys.read(match, endpoints.policy(match.endpoint, ()))
    assert (await answers.get(read)).verdict is Verdict.MISS
    memory.clear()
    now[0] += 10
    store.meanwhile = [Invalidation(Selection(crate="leaf"), soft=soft, at=now[0])]
    now[0] += 1
    assert (await answers.get(read)).verdict is Verdict.MISS, "the copy from before the announcement is not fresh"
    assert upstream.asked == 2
    await answers.aclose()


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("body", "believed"),
    [
        (b'{"dependencies":[]}', True),
        (b"<html>", False),
        (b"[" + b" " * (exchange.LARGEST - 2) + b"]", True),
        (b"[" + b" " * (exchange.LARGEST - 1) + b"]", False),
    ],
    ids=["JSON", "HTML", "large", "too large"],
)
async def test_what_is_not_believed_is_said_to_whoever_keeps_the_connection(body: bytes, believed: bool) -> None:
    match = routes.match("GET", PATH, ())
    read, upstream = keys.read(match, endpoints.policy(match.endpoint, ())), FakeUpstream(body)
    with contextlib.nullcontext() if believed else pytest.raises(Faulty):
        await exchange.asked(upstream, read, (), lambda: None, Pace(1).turn, Need(), lambda: 0.0)
    assert upstream.answer.distrusted is not believed


class CountingStore(DictStore):
    def __init__(self) -> None:
        super().__init__()
        self.read: list[str] = []

    async def get(self, key: str) -> bytes | None:
        self.read.append(key)
        return await super().get(key)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("alone", "memory", "looks"),
    [(True, 1 << 20, 1), (False, 1 << 20, 2), (True, 0, 2)],
    ids=["alone", "one of several", "alone without memory"],
)
async def test_the_store_is_looked_into_again_where_somebody_may_have_stored_it(
    alone: bool, memory: int, looks: int
) -> None:
    store, hot = CountingStore(), Memory[Hot](memory)
    copies = Copies(
        memory=hot,
        negatives=Memory[Hot](memory),
        stores={Kind.JSON: store},
        keep={Kind.JSON: None},
        changes=Changes(DictStore(), keep=1.0, tiers=()),
    )
    answers = Answers(
        copies=copies,
        upstream=FakeUpstream(b'{"dependencies":[]}'),
        fleet=FakeFleet(alone=alone),
        renewing=Renewing(index=lambda read: answers.get(read), index_policy=Policy(), ceiling=0.0, clock=lambda: 1e9),
        clock=lambda: 1e9,
        observe=lambda what, happened: None,
        stale_after=2.0,
    )
    match = routes.match("GET", PATH, ())
    read = keys.read(match, endpoints.policy(match.endpoint, ()))
    assert (await answers.get(read)).verdict is Verdict.MISS
    assert store.read == [read.key] * looks
    await answers.aclose()
    value = store.values.pop(read.key)
    hot.clear()

    # Another flight of this process lands between the look and the lease: memory has it, and the store.
    async def late(key: str) -> bytes | None:
        store.read.append(key)
        if len(store.read) == looks + 1:
            entry = codec.decoded(value)
            assert entry is not None
            copies.warm(read, entry, Mark(), 1e9)
            store.values[key] = value
            return None
        return store.values.get(key)

    store.get = late  # type: ignore[method-assign]
    assert (await answers.get(read)).verdict is Verdict.HIT


class Dribbling(FakeAnswer):
    """Its head comes at once, its body never ends, nor does it stall."""

    async def body(self) -> AsyncGenerator[bytes]:
        while True:
            await asyncio.sleep(1)
            yield b" "


def test_who_has_a_copy_is_not_failed_by_an_upstream_that_begins_and_does_not_end() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, virtual_time.VirtualTimeLoop)
        changes = Changes(DictStore(), keep=1.0, tiers=())
        memory, negatives, store = Memory[Hot](1 << 20), Memory[Hot](1 << 20), DictStore()
        upstream = FakeUpstream(b'{"dependencies":[]}')
        answers = Answers(
            copies=Copies(
                memory=memory, negatives=negatives, stores={Kind.JSON: store}, keep={Kind.JSON: None}, changes=changes
            ),
            upstream=upstream,
            fleet=FakeFleet(),
            renewing=Renewing(
                index=lambda read: answers.get(read), index_policy=Policy(), ceiling=0.0, clock=loop.clock
            ),
            clock=loop.clock,
            observe=lambda what, happened: None,
            stale_after=2.0,
        )
        match = routes.match("GET", PATH, ())
        read = keys.read(match, endpoints.policy(match.endpoint, ()))
        await answers.get(read)
        await asyncio.sleep(8 * 86400)
        upstream.answer = Dribbling(b"")
        begun = loop.time()
        outcome = await answers.get(read)
        assert (outcome.verdict, outcome.detail) == (Verdict.STALE, "stale-if-error")
        assert loop.time() - begun <= FIRST_BYTE
        upstream.answer = FakeAnswer(b'{"dependencies":[]}')
        await asyncio.sleep(LONGEST)
        assert (await answers.get(read)).verdict is Verdict.MISS, "the endless one is not in its way any more"
        await answers.aclose()

    with virtual_time.running() as runner:
        runner.run(main())


def test_an_answer_that_is_read_for_the_store_is_given_up_where_it_has_no_end() -> None:
    async def main() -> None:
        with pytest.raises(Late):
            await whole(Dribbling(b""))
        assert asyncio.get_running_loop().time() <= LONGEST + 1

    with virtual_time.running() as runner:
        runner.run(main())


class Away(FakeUpstream):
    """Cannot be reached until a time of the loop."""

    def __init__(self, body: bytes) -> None:
        super().__init__(body)
        self.until = 0.0

    async def send(self, ask: Ask) -> FakeAnswer:
        if asyncio.get_running_loop().time() < self.until:
            error = Faulty("it cannot be reached")
            error.unsent = True
            raise error
        return await super().send(ask)


def test_what_was_asked_for_while_upstream_could_not_be_reached_is_fetched_when_it_can() -> None:
    async def main() -> None:
        clock, loop = virtual_time.clock(), asyncio.get_running_loop()
        store, memory, negatives = DictStore(), Memory[Hot](1 << 20), Memory[Hot](1 << 20)
        upstream = Away(b'{"dependencies":[]}')
        deferred = Deferred(refresh=lambda read: answers.refresh(read), held=lambda: 0.0, clock=clock)
        answers = Answers(
            copies=Copies(
                memory=memory,
                negatives=negatives,
                stores={Kind.JSON: store},
                keep={Kind.JSON: None},
                changes=Changes(store, keep=1.0, tiers=(memory, negatives)),
            ),
            upstream=upstream,
            fleet=FakeFleet(),
            renewing=Renewing(index=lambda read: answers.get(read), index_policy=Policy(), ceiling=0.0, clock=clock),
            clock=clock,
            observe=lambda what, happened: None,
            stale_after=2.0,
            put_off=deferred.note,
        )
        deferred.start()
        match = routes.match("GET", PATH, ())
        read = keys.read(match, endpoints.policy(match.endpoint, ()))
        await answers.get(read)
        await asyncio.sleep(8 * 86400)
        upstream.until = loop.time() + 3600
        assert (await answers.get(read)).detail == "stale-if-error"
        await asyncio.sleep(3600)
        assert upstream.asked == 1
        await asyncio.sleep(UNREACHED)
        hot = answers.hot(read.key)
        assert upstream.asked == 2 and hot is not None and hot.fresh(clock()) and len(deferred) == 0
        await deferred.aclose()
        await answers.aclose()

    with virtual_time.running() as runner:
        runner.run(main())


def test_the_fakes_have_the_shape_of_what_they_stand_for() -> None:
    ask: Ask = Ask(endpoints.BY_NAME["index"].host, "GET", "/")
    answer: Answer = FakeUpstream(b"{}").answer
    assert ask.body is None and answer.head.status == 200
