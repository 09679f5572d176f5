from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.model import Entry, Outcome, Terms, Verdict
from proxy.rules import reuse, verdicts
from proxy.rules.reuse import Reuse
from proxy.rules.wishes import NONE, Wish

FRESH, STALE, REVALIDATE = Reuse.FRESH, Reuse.STALE, Reuse.REVALIDATE
ABSENT, UNAVAILABLE, WHILE = Reuse.ABSENT, Reuse.UNAVAILABLE, Reuse.STALE_WHILE_REVALIDATE

T = 784111777.0
NEVER = -math.inf
ENTRY = Entry("key", 200, (), b"body", '"a"', T, T, lifetime=60.0)
WINDOW = replace(ENTRY, terms=Terms(stale_while_revalidate=30.0))
STRICT = replace(ENTRY, terms=Terms(stale_while_revalidate=30.0, strict=True))

# Entry, what the request asks, seconds since it was fetched, when a change was (relative to that) -> what to do.
DECISIONS: list[tuple[Entry | None, Wish, float, float, Reuse]] = [
    (None, NONE, 0.0, NEVER, ABSENT),
    (None, Wish(only_if_cached=True), 0.0, NEVER, UNAVAILABLE),
    (ENTRY, NONE, 59.5, NEVER, FRESH),
    (ENTRY, NONE, 60.0, NEVER, REVALIDATE),
    (replace(ENTRY, initial_age=50.0), NONE, 9.5, NEVER, FRESH),
    (replace(ENTRY, initial_age=50.0), NONE, 10.0, NEVER, REVALIDATE),
    (replace(ENTRY, lifetime=None), NONE, 0.0, NEVER, REVALIDATE),
    (ENTRY, Wish(only_if_cached=True), 59.5, NEVER, FRESH),
    (ENTRY, Wish(only_if_cached=True), 60.0, NEVER, UNAVAILABLE),
    (ENTRY, Wish(no_cache=True), 0.0, NEVER, REVALIDATE),
    (ENTRY, Wish(no_cache=True, only_if_cached=True), 0.0, NEVER, UNAVAILABLE),
    (ENTRY, Wish(no_store=True), 59.5, NEVER, FRESH),
    (ENTRY, Wish(max_age=10.0), 10.0, NEVER, FRESH),
    (ENTRY, Wish(max_age=10.0), 10.5, NEVER, REVALIDATE),
    (ENTRY, Wish(min_fresh=20.0), 40.0, NEVER, FRESH),
    (ENTRY, Wish(min_fresh=20.0), 40.5, NEVER, REVALIDATE),
    (ENTRY, Wish(max_stale=10.0), 70.0, NEVER, STALE),
    (ENTRY, Wish(max_stale=10.0), 70.5, NEVER, REVALIDATE),
    (ENTRY, Wish(max_stale=math.inf), 1e9, NEVER, STALE),
    (ENTRY, Wish(max_stale=math.inf, max_age=65.0), 70.0, NEVER, REVALIDATE),
    (STRICT, Wish(max_stale=math.inf), 61.0, NEVER, REVALIDATE),
    (WINDOW, NONE, 60.0, NEVER, WHILE),
    (WINDOW, NONE, 89.5, NEVER, WHILE),
    (WINDOW, NONE, 90.0, NEVER, REVALIDATE),
    (WINDOW, Wish(max_age=1000.0), 61.0, NEVER, REVALIDATE),
    (WINDOW, Wish(min_fresh=1.0), 61.0, NEVER, REVALIDATE),
    (WINDOW, Wish(only_if_cached=True), 61.0, NEVER, WHILE),
    (STRICT, NONE, 61.0, NEVER, REVALIDATE),
    # A change at or after the request: revalidate before use, however fresh, whatever the client takes.
    (WINDOW, NONE, 5.0, 0.0, REVALIDATE),
    (WINDOW, Wish(max_stale=math.inf), 5.0, 3.0, REVALIDATE),
    # What was requested in the minute after a change is fresh for a second.
    (ENTRY, NONE, 0.5, -1.0, FRESH),
    (ENTRY, NONE, 1.0, -1.0, REVALIDATE),
    (ENTRY, NONE, 59.0, -60.0, FRESH),
    # A clock that went backwards: within a second it is noise, beyond it nothing is fresh.
    (ENTRY, NONE, -1.0, NEVER, FRESH),
    (ENTRY, NONE, -1.5, NEVER, REVALIDATE),
    (replace(ENTRY, responded_at=T + 3600.0), NONE, 5.0, NEVER, REVALIDATE),
]

# Terms, seconds since it was fetched -> may it answer where upstream answered wrongly, and where not at all?
ON_ERROR: list[tuple[Terms, float, bool, bool]] = [
    (Terms(), 61.0, False, True),
    (Terms(), 60.0 + 30 * 86400, False, False),
    (Terms(stale_if_error=10.0), 69.5, True, True),
    (Terms(stale_if_error=10.0), 70.0, False, False),
    (Terms(stale_if_error=10.0, strict=True), 61.0, False, False),
    (Terms(strict=True), 61.0, False, False),
    (Terms(strict=True), 59.0, False, True),
]


@pytest.mark.parametrize(("entry", "wish", "age", "changed", "expected"), DECISIONS)
def test_a_stored_answer_is_used_as_both_sides_allow(
    entry: Entry | None, wish: Wish, age: float, changed: float, expected: Reuse
) -> None:
    assert reuse.decide(entry, wish, T + age, T + changed) is expected


@pytest.mark.parametrize(("terms", "age", "answered", "silent"), ON_ERROR)
def test_a_failing_upstream_is_covered_for_where_it_allows_that(
    terms: Terms, age: float, answered: bool, silent: bool
) -> None:
    entry = replace(ENTRY, terms=terms)
    assert reuse.on_error(entry, T + age) is answered
    assert reuse.disconnected(entry, T + age) is silent


@pytest.mark.parametrize(
    ("terms", "variant", "authorized", "expected"),
    [
        (Terms(), "", False, True),
        (Terms(), "", True, False),
        (Terms(shared=True), "", True, True),
        (Terms(variant="a"), "a", False, True),
        (Terms(variant="a"), "b", False, False),
    ],
)
def test_an_entry_suits_requests_for_its_variant(terms: Terms, variant: str, authorized: bool, expected: bool) -> None:
    assert reuse.suits(replace(ENTRY, terms=terms), variant, authorized=authorized) is expected


SECONDS = st.floats(0, 1000)
ENTRIES = st.builds(
    lambda requested, took, initial_age, lifetime, terms: Entry(
        "key", 200, (), b"", '"a"', requested, requested + took, initial_age, lifetime, terms=terms
    ),
    SECONDS,
    st.floats(0, 100),
    SECONDS,
    st.none() | SECONDS,
    st.builds(Terms, SECONDS, st.none() | SECONDS, st.booleans(), st.booleans()),
)
WISHES = st.builds(
    Wish, st.booleans(), st.booleans(), st.booleans(), SECONDS | st.just(math.inf), SECONDS, SECONDS | st.just(math.inf)
)


@given(ENTRIES, WISHES, st.floats(0, 3000), st.just(NEVER) | st.floats(0, 2000))
def test_nothing_stale_is_used_but_for_a_reason(entry: Entry, wish: Wish, now: float, changed: float) -> None:
    left = reuse.fresh_for(entry, now, changed)
    age = reuse.age(entry, now)
    assert age >= 0.0
    match reuse.decide(entry, wish, now, changed):
        case Reuse.FRESH:
            assert left > 0
            assert age < (entry.lifetime or 0.0)
        case Reuse.STALE:
            assert -left <= wish.max_stale
            assert not entry.terms.strict
        case Reuse.STALE_WHILE_REVALIDATE:
            assert -left < entry.terms.stale_while_revalidate
            assert not entry.terms.strict
        case other:
            assert other is (UNAVAILABLE if wish.only_if_cached else REVALIDATE)


@given(ENTRIES, st.sampled_from(["max-stale", "stale-while-revalidate", "stale-if-error", "offline"]), SECONDS)
def test_a_stale_answer_tells_its_reason(entry: Entry, detail: str, left: float) -> None:
    told = verdicts.cache_status(Outcome(Verdict.STALE, entry, -left, 0.0, detail=detail))
    assert told.endswith(f"; detail={detail}".encode())
