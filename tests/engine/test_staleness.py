"""Whatever happens on a row with a ttl: what is served and not fresh says why, and no age is negative."""

from __future__ import annotations

import asyncio
from enum import Enum, auto

from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.engine.answers import Answers
from proxy.engine.changes import Changes
from proxy.engine.copies import Copies, Hot
from proxy.engine.renewing import Renewing
from proxy.errors import Declined, Down, Error, Faulty, Late, Offline, Throttled
from proxy.model import Invalidation, Selection, Verdict
from proxy.rules import endpoints, freshness, keys, routes, verdicts
from proxy.rules.endpoints import Kind, Policy
from proxy.stores.memory import Memory
from proxy.upstream.base import Ask
from tests import virtual_time
from tests.engine.fakes import DictStore, FakeAnswer, FakeFleet, FakeUpstream

REASONS = {"stale-while-revalidate", "stale-if-error", "throttled", "offline"}
ERRORS = (
    Faulty("no"),
    Late("late"),
    Down("down", retry_after=1),
    Throttled("later", retry_after=1),
    Declined("enough", status=429),
    Offline("never"),
)


class Moody(FakeUpstream):
    """Fails as it is told to, after so many seconds."""

    def __init__(self) -> None:
        super().__init__(b'{"crate":{}}')
        self.error: Error | None = None
        self.takes = 0.0

    async def send(self, ask: Ask) -> FakeAnswer:
        await asyncio.sleep(self.takes)
        if self.error is not None:
            raise self.error
        return await super().send(ask)


class Event(Enum):
    READ = auto()
    INSISTING_READ = auto()
    CHANGE = auto()
    RESTART = auto()  # the memory tier is empty


STEPS = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.5, 2.0, 30.0, 61.0, 250.0, 301.0, 700.0, 86_400.0, 40 * 86_400.0]),
        st.none() | st.sampled_from(ERRORS),
        st.sampled_from([Event.READ, Event.READ, *Event]),
    ),
    min_size=1,
    max_size=12,
)
"""So many seconds later, when upstream answers so, that happens."""


@settings(deadline=None, max_examples=200)
@given(STEPS, st.sampled_from([0.0, 0.1, 3.0]))
def test_a_stale_answer_never_comes_without_a_reason(
    steps: list[tuple[float, Error | None, Event]], takes: float
) -> None:
    async def main() -> None:
        clock, upstream, store = virtual_time.clock(), Moody(), DictStore()
        memory, negatives = Memory[Hot](1 << 20), Memory[Hot](1 << 20)
        changes = Changes(store, keep=1e9, tiers=(memory, negatives))
        copies = Copies(
            memory=memory, negatives=negatives, stores={Kind.JSON: store}, keep={Kind.JSON: None}, changes=changes
        )
        answers = Answers(
            copies=copies,
            upstream=upstream,
            fleet=FakeFleet(),
            renewing=Renewing(index=lambda read: answers.get(read), index_policy=Policy(), ceiling=0.0, clock=clock),
            clock=clock,
            observe=lambda what, happened: None,
            stale_after=2.0,
        )
        match = routes.match("GET", "/api/v1/crates/leaf", ())
        policy = endpoints.policy(match.endpoint, ())
        changed = float("-inf")
        await answers.get(keys.read(match, policy))
        upstream.takes = takes
        for seconds, upstream.error, event in steps:
            await asyncio.sleep(seconds)
            match event:
                case Event.READ | Event.INSISTING_READ:
                    read = keys.read(match, policy, no_cache=event is Event.INSISTING_READ)
                    try:
                        outcome = await answers.get(read)
                    except Error as error:
                        assert upstream.error is not None and error.detail == upstream.error.detail
                        continue
                    left = freshness.fresh_for(outcome.entry, policy, clock(), changed)
                    assert outcome.age >= 0.0 and freshness.age(outcome.entry, clock()) >= 0.0
                    assert left > 0 or outcome.verdict is Verdict.STALE
                    if outcome.verdict is Verdict.STALE:
                        assert outcome.detail in REASONS
                        told = verdicts.cache_status(outcome).decode()
                        assert told.endswith(f"; detail={outcome.detail}")
                        assert verdicts.cache_control(outcome) == b"no-cache"
                case Event.CHANGE:
                    changed = clock()
                    invalidation = Invalidation(Selection(crate="leaf"), soft=True, at=changed)
                    await changes.record(invalidation)
                    changes.hear(invalidation)
                    await asyncio.sleep(0.01)
                case Event.RESTART:
                    memory.purge(Selection())
        await answers.aclose()

    with virtual_time.running() as runner:
        runner.run(main())
