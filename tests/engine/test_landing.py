"""What is answered before it is stored: who sees which copy, and what a purge means to it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

import pytest

from proxy.engine import landing
from proxy.engine.answers import Answers
from proxy.engine.changes import Changes
from proxy.engine.copies import Copies, Hot
from proxy.engine.renewing import Renewing
from proxy.model import Head, Invalidation, Selection, Verdict
from proxy.rules import endpoints, keys, routes
from proxy.rules.endpoints import Kind, Policy
from proxy.rules.keys import Read
from proxy.stores.memory import Memory
from proxy.upstream.base import Ask
from tests.engine.fakes import DictStore, FakeAnswer, FakeFleet, FakeUpstream
from tests.waiting import happened

pytestmark = pytest.mark.anyio


class HeldStore(DictStore):
    """What is put into it is there when it `may` be; what is read of it comes when it may `come`."""

    def __init__(self) -> None:
        super().__init__()
        self.may, self.come, self.asked = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.come.set()

    async def get(self, key: str) -> bytes | None:
        found = await super().get(key)
        await self.come.wait()
        return found

    async def put(self, key: str, value: bytes, *, tag: str, keep: float | None) -> None:
        self.asked.set()
        await self.may.wait()
        await super().put(key, value, tag=tag, keep=keep)


class Numbering(FakeUpstream):
    """Each answer tells its number."""

    def __init__(self) -> None:
        super().__init__(b"")
        self.status = 200
        self.size = 0

    async def send(self, ask: Ask) -> FakeAnswer:
        self.asked += 1
        answer = FakeAnswer(b'{"dependencies":[%d]}%b' % (self.asked, b" " * self.size))
        answer.head = Head(self.status, answer.head.headers)
        return answer


@dataclass
class Place:
    memory: int = 1 << 20
    now: float = 1e9
    store: HeldStore = field(default_factory=HeldStore)
    upstream: Numbering = field(default_factory=Numbering)

    def __post_init__(self) -> None:
        hot, negatives = Memory[Hot](self.memory), Memory[Hot](self.memory)
        self.hot = hot
        self.changes = Changes(DictStore(), keep=1.0, tiers=(hot, negatives))
        self.answers = Answers(
            copies=Copies(
                memory=hot,
                negatives=negatives,
                stores={Kind.JSON: self.store},
                keep={Kind.JSON: None},
                changes=self.changes,
            ),
            upstream=self.upstream,
            fleet=FakeFleet(alone=True),
            renewing=Renewing(
                index=lambda read: self.answers.get(read), index_policy=Policy(), ceiling=0.0, clock=lambda: self.now
            ),
            clock=lambda: self.now,
            observe=lambda what, happened: None,
            stale_after=2.0,
        )

    def purge(self) -> None:
        self.changes.hear(Invalidation(Selection(crate="leaf"), soft=False, at=self.now))

    async def settled(self) -> None:
        self.store.may.set()
        await self.answers.settled()


def read(number: int = 0) -> Read:
    match = routes.match("GET", f"/api/v1/crates/leaf/1.0.{number}/dependencies", ())
    return keys.read(match, endpoints.policy(match.endpoint, ()))


@pytest.mark.parametrize("memory", [1 << 20, 0], ids=["memory", "no memory"])
async def test_an_answer_does_not_wait_for_the_store_and_a_purge_meanwhile_wins(memory: int) -> None:
    place = Place(memory)
    assert (await place.answers.get(read())).verdict is Verdict.MISS
    await place.store.asked.wait()
    assert place.store.values == {} and place.answers.unstored == 1
    second = asyncio.create_task(place.answers.get(read()))
    await asyncio.sleep(0.01)
    assert second.done() is (memory > 0), "without memory it waits for the store, and does not ask upstream"
    place.now += 1
    place.purge()
    place.now += 1
    third = asyncio.create_task(place.answers.get(read()))
    await asyncio.sleep(0.01)
    place.store.may.set()
    assert (await third).entry.requested_at == place.now, "what was told before the purge is no answer after it"
    assert (await second).verdict is (Verdict.HIT if memory else Verdict.MISS)
    await place.answers.aclose()
    assert place.upstream.asked == 2 and set(place.store.values) == {read().key}


async def test_what_was_answered_is_stored_before_it_closes() -> None:
    place = Place()
    await place.answers.get(read())
    asyncio.get_running_loop().call_later(0.05, place.store.may.set)
    await place.answers.aclose()
    assert set(place.store.values) == {read().key}


async def test_what_a_store_is_too_late_for_is_told_when_it_closes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("proxy.engine.flight.ENDING", 0.05)
    place = Place()
    await place.answers.get(read())
    await place.answers.aclose()
    assert "1 answers are not stored" in caplog.text


async def test_what_is_purged_before_it_was_stored_is_not_left_in_the_store() -> None:
    place = Place()
    await place.answers.get(read())
    await place.store.asked.wait()
    place.now += 1
    place.purge()
    await place.settled()
    assert place.store.values == {}


async def test_who_looks_while_something_newer_is_on_its_way_to_the_store_gets_that() -> None:
    place = Place()
    await place.answers.get(read())
    await place.settled()
    place.store.may.clear()
    place.now += 1000
    newer = await place.answers.get(replace(read(), no_cache=True))
    for policy in (read().policy, replace(read().policy, ttl=0.0, stale_while_revalidate=1000.0)):
        assert (await place.answers.get(replace(read(), policy=policy))).entry.body == newer.entry.body
    await place.settled()


async def test_what_was_read_for_a_while_does_not_replace_a_newer_absence() -> None:
    place = Place()
    await place.answers.get(read())
    await place.settled()
    place.hot.clear()
    place.now += 100
    place.store.come.clear()
    slow = asyncio.create_task(place.answers.get(read()))
    await asyncio.sleep(0.01)
    place.upstream.status = 404
    forced = asyncio.create_task(place.answers.get(replace(read(), no_cache=True)))
    await asyncio.sleep(0.01)
    place.store.come.set()
    assert (await forced).entry.status == 404
    await slow
    assert (await place.answers.get(read())).entry.status == 404
    await place.settled()
    assert place.store.values == {}


async def test_an_absence_has_replaced_what_is_stored_when_it_is_answered() -> None:
    place = Place()
    await place.answers.get(read())
    await place.settled()
    assert set(place.store.values) == {read().key}
    place.now += 1000
    place.upstream.status = 404
    assert (await place.answers.get(replace(read(), no_cache=True))).entry.status == 404
    assert place.store.values == {}, "another worker must not find it any more"


@pytest.mark.parametrize("what", ["many", "large"])
async def test_past_a_bound_clients_wait_for_the_store(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    place, before = Place(), 0
    if what == "large":
        place.upstream.size = landing.LARGE
    else:
        monkeypatch.setattr(landing, "UNSTORED", before := 3)
        for number in range(before):
            await place.answers.get(read(number))
    waiting = asyncio.create_task(place.answers.get(read(before)))
    await happened(lambda: place.upstream.asked == before + 1)
    await asyncio.sleep(0.05)
    assert not waiting.done() and place.answers.unstored == before
    place.store.may.set()
    assert (await waiting).verdict is Verdict.MISS
    await place.settled()
    assert len(place.store.values) == before + 1
