from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.model import Entry, Head, Headers, Witness
from proxy.rules import directives, freshness
from proxy.rules.endpoints import Policy
from proxy.rules.freshness import Decision

FRESH, STALE_WHILE_REVALIDATE = Decision.FRESH, Decision.STALE_WHILE_REVALIDATE
REVALIDATE, ABSENT = Decision.REVALIDATE, Decision.ABSENT

T = 784111777.0  # Sun, 06 Nov 1994 08:49:37 GMT
NEVER = -math.inf
DATE = (b"date", b"Sun, 06 Nov 1994 08:49:37 GMT")
A_MINUTE_BEFORE = (b"date", b"Sun, 06 Nov 1994 08:48:37 GMT")
A_MINUTE_AFTER = (b"expires", b"Sun, 06 Nov 1994 08:50:37 GMT")

OURS = Policy(ttl=60.0, stale_while_revalidate=30.0, stale_if_error=100.0, negative_ttl=10.0)
INDEX = Policy(ttl=60.0, stale_if_error=math.inf, negative_ttl=30.0)

ENTRY = Entry("key", 200, ((b"content-type", b"text/plain"),), b"body", '"a"', T, T)
MISSING = replace(ENTRY, status=404)


def after(seconds: float) -> float:
    return T + seconds


# Entry, policy, seconds since it was fetched, when a change was (relative to that) -> what to do, seconds left.
DECISIONS: list[tuple[Entry, Policy, float, float, Decision, float]] = [
    (ENTRY, OURS, 0.0, NEVER, FRESH, 60.0),
    (ENTRY, OURS, 59.5, NEVER, FRESH, 0.5),
    (ENTRY, OURS, 60.0, NEVER, STALE_WHILE_REVALIDATE, 0.0),
    (ENTRY, OURS, 89.5, NEVER, STALE_WHILE_REVALIDATE, -29.5),
    (ENTRY, OURS, 90.0, NEVER, REVALIDATE, -30.0),
    (ENTRY, OURS, 1e9, NEVER, REVALIDATE, 60.0 - 1e9),
    (ENTRY, INDEX, 59.0, NEVER, FRESH, 1.0),
    (ENTRY, INDEX, 60.0, NEVER, REVALIDATE, 0.0),
    (ENTRY, Policy(ttl=0.0), 0.0, NEVER, REVALIDATE, 0.0),
    (ENTRY, Policy(ttl=math.inf), 1e9, NEVER, FRESH, math.inf),
    # What upstream's headers say does not count where our ttl rules.
    (replace(ENTRY, lifetime=0.0), OURS, 0.0, NEVER, FRESH, 60.0),
    (replace(ENTRY, lifetime=600.0), OURS, 60.0, NEVER, STALE_WHILE_REVALIDATE, 0.0),
    (replace(ENTRY, initial_age=500.0), OURS, 0.0, NEVER, FRESH, 60.0),
    # An entry whose absence is what is stored: its own ttl, never stale.
    (MISSING, OURS, 9.5, NEVER, FRESH, 0.5),
    (MISSING, OURS, 10.0, NEVER, REVALIDATE, 0.0),
    # A clock that went backwards: within a second it is noise, beyond it nothing is fresh.
    (ENTRY, OURS, -0.5, NEVER, FRESH, 60.0),
    (ENTRY, OURS, -1.0, NEVER, FRESH, 60.0),
    (ENTRY, INDEX, -1.5, NEVER, REVALIDATE, 0.0),
    (ENTRY, INDEX, -1e6, NEVER, REVALIDATE, 0.0),
    # It was an hour ahead when the answer came, or when it was asked for.
    (replace(ENTRY, responded_at=after(3600.0)), INDEX, 5.0, NEVER, REVALIDATE, 0.0),
    (replace(ENTRY, requested_at=after(3600.0)), INDEX, 5.0, NEVER, REVALIDATE, -5.0),
    (replace(ENTRY, responded_at=after(3600.0)), INDEX, 3600.0, NEVER, FRESH, 60.0),
    # A change at or after the request: revalidate before use, however fresh.
    (ENTRY, OURS, 5.0, 0.0, REVALIDATE, -5.0),
    (ENTRY, OURS, 5.0, 3.0, REVALIDATE, -5.0),
    (ENTRY, OURS, 70.0, 3.0, REVALIDATE, -70.0),
    (MISSING, OURS, 5.0, 3.0, REVALIDATE, -5.0),
    # What was requested in the minute after a change is fresh for a second, and never served stale.
    (ENTRY, OURS, 0.5, -1.0, FRESH, 0.5),
    (ENTRY, OURS, 1.0, -1.0, REVALIDATE, 0.0),
    (ENTRY, OURS, 1.0, -59.0, REVALIDATE, 0.0),
    (MISSING, OURS, 0.5, -1.0, FRESH, 0.5),
    (ENTRY, Policy(ttl=0.5), 0.25, -1.0, FRESH, 0.25),
    # After that minute all is as before.
    (ENTRY, OURS, 59.0, -60.0, FRESH, 1.0),
    (ENTRY, OURS, 60.0, -60.0, STALE_WHILE_REVALIDATE, 0.0),
    # Requested before the minute was over, answered after it: still the state that may be the old one.
    (replace(ENTRY, requested_at=after(-10.0)), OURS, 2.0, -65.0, REVALIDATE, -1.0),
]

# Seconds since it was fetched, policy -> what a client's no-cache comes to.
FORCED: list[tuple[float, Policy, Decision]] = [
    (9.5, OURS, FRESH),
    (10.0, OURS, REVALIDATE),
    (59.0, OURS, REVALIDATE),
    (70.0, OURS, REVALIDATE),
    (9.5, Policy(ttl=5.0, stale_while_revalidate=30.0), STALE_WHILE_REVALIDATE),
]

# The index vouched for it a second ago, the API was asked so long ago: a client's no-cache wants the API.
FORCED_ALTHOUGH_RENEWED: list[tuple[float, Decision]] = [(9.5, FRESH), (10.0, REVALIDATE), (3600.0, REVALIDATE)]

# Entry, policy, seconds since it was fetched, when a change was -> may it be served because upstream failed?
ON_ERROR: list[tuple[Entry, Policy, float, float, bool]] = [
    (ENTRY, OURS, 10.0, NEVER, True),
    (ENTRY, OURS, 159.5, NEVER, True),
    (ENTRY, OURS, 160.0, NEVER, False),
    (ENTRY, INDEX, 1e9, NEVER, True),
    (ENTRY, OURS, 50.0, 20.0, True),
    (ENTRY, OURS, 100.0, 20.0, False),
    (ENTRY, INDEX, 1e9, 20.0, True),
    (MISSING, OURS, 5.0, NEVER, False),
    (MISSING, INDEX, 50.0, NEVER, False),
    (ENTRY, Policy(ttl=60.0), 61.0, NEVER, False),
    (ENTRY, OURS, -1e6, NEVER, True),
]

CACHED = (b"cache-control", b"public, max-age=60")
# Status, fields -> may it be stored where our ttl rules?
STORABLE: list[tuple[int, Headers, bool]] = [
    (200, (), True),
    (200, (CACHED,), True),
    (200, ((b"cache-control", b"max-age=0"),), True),
    (200, ((b"cache-control", b"max-age=nonsense"),), True),
    (200, (CACHED, (b"cache-control", b"no-cache")), True),
    (200, (CACHED, (b"cache-control", b"no-store")), False),
    (200, (CACHED, (b"cache-control", b"No-Store")), False),
    (200, (CACHED, (b"cache-control", b"private")), False),
    (200, (CACHED, (b"cache-control", b'private="x"')), False),
    (200, (CACHED, (b"set-cookie", b"a=b")), False),
    (200, (CACHED, (b"set-cookie", b"")), False),
    (200, (CACHED, (b"vary", b"*")), False),
    (200, (CACHED, (b"vary", b"accept"), (b"vary", b" *")), False),
    (200, (CACHED, (b"vary", b"accept-encoding")), True),
    (200, (CACHED, (b"vary", b"accept-encoding, cookie")), True),
    (200, (CACHED, (b"content-encoding", b"gzip")), False),
    (200, (CACHED, (b"content-encoding", b"identity")), True),
    (404, (CACHED,), True),
    (404, (CACHED, (b"cache-control", b"no-store")), False),
    (404, (CACHED, (b"set-cookie", b"a=b")), False),
    *((status, (CACHED,), False) for status in range(100, 600) if status not in (200, 404)),
]

ENTRIES = st.builds(
    lambda requested, took, status, initial_age, lifetime: Entry(
        "key", status, (), b"", '"a"', requested, requested + took, initial_age, lifetime
    ),
    st.floats(0, 1000),
    st.floats(0, 100),
    st.sampled_from([200, 404]),
    st.floats(0, 1000),
    st.none() | st.floats(0, 1000),
)
TIMES = st.floats(0, 1000)
POLICIES = st.builds(Policy, TIMES, TIMES, TIMES, TIMES)
NOW = st.floats(0, 3000)
CHANGED = st.just(NEVER) | st.floats(0, 2000)

FIELDS = st.lists(
    st.sampled_from(
        [
            CACHED,
            DATE,
            A_MINUTE_AFTER,
            (b"cache-control", b"no-store"),
            (b"cache-control", b"private"),
            (b"cache-control", b"x=1, No-Store"),
            (b"cache-control", b"s-maxage=100"),
            (b"cache-control", b"no-cache"),
            (b"set-cookie", b"a=b"),
            (b"vary", b"*"),
            (b"vary", b"accept, *"),
            (b"vary", b"accept-encoding"),
            (b"content-encoding", b"gzip"),
            (b"age", b"7"),
            (b"etag", b'"a"'),
            (b"last-modified", b"Sun, 06 Nov 1994 08:00:00 GMT"),
        ]
    ),
    max_size=6,
).map(tuple)
STATUSES = st.sampled_from([200, 206, 304, 400, 403, 404, 429, 500, 503])


@pytest.mark.parametrize(("entry", "policy", "age", "changed", "decision", "left"), DECISIONS)
def test_what_is_done_with_an_entry_depends_on_its_age(
    entry: Entry, policy: Policy, age: float, changed: float, decision: Decision, left: float
) -> None:
    assert freshness.fresh_for(entry, policy, after(age), after(changed)) == left
    assert freshness.decide(entry, policy, after(age), changed=after(changed)) is decision


def test_what_is_not_stored_is_absent() -> None:
    assert freshness.decide(None, OURS, T) is ABSENT
    assert freshness.decide(None, OURS, T, changed=T, no_cache=True) is ABSENT


@pytest.mark.parametrize(("age", "policy", "decision"), FORCED)
def test_a_clients_no_cache_is_honoured_within_bounds(age: float, policy: Policy, decision: Decision) -> None:
    assert freshness.decide(ENTRY, policy, after(age), no_cache=True) is decision


@pytest.mark.parametrize(("ago", "expected"), FORCED_ALTHOUGH_RENEWED)
def test_what_the_index_vouched_for_is_not_what_an_insisting_client_wants(ago: float, expected: Decision) -> None:
    now = after(7200.0)
    renewed = replace(ENTRY, responded_at=now - 1.0, witness=Witness("le/af/leaf", "v", now - ago))
    assert freshness.decide(renewed, OURS, now, no_cache=True) is expected
    assert freshness.decide(renewed, OURS, now) is FRESH


@pytest.mark.parametrize(("entry", "policy", "age", "changed", "expected"), ON_ERROR)
def test_a_failing_upstream_is_covered_for_by_what_is_stored(
    entry: Entry, policy: Policy, age: float, changed: float, expected: bool
) -> None:
    assert freshness.may_serve_on_error(entry, policy, after(age), after(changed)) is expected


@pytest.mark.parametrize(("status", "fields", "expected"), STORABLE)
def test_only_what_everybody_may_see_is_stored(status: int, fields: Headers, expected: bool) -> None:
    head = Head(status, fields)
    assert freshness.storable(head, OURS) is expected
    assert not freshness.storable(replace(head, framed=False), OURS)


def test_an_absence_is_stored_only_where_the_row_has_a_time_for_it() -> None:
    assert freshness.storable(Head(404, ()), Policy(ttl=60.0, negative_ttl=1.0))
    assert not freshness.storable(Head(404, ()), Policy(ttl=60.0))


def test_an_answer_becomes_an_entry() -> None:
    fields = (
        (b"content-type", b"text/plain"),
        (b"etag", b'W/"x"'),
        (b"cache-control", b"max-age=600"),
        (b"age", b"7"),
        (b"x-request-id", b"1"),
    )
    entry = freshness.stored("key", Head(200, fields), b"body", requested_at=T, responded_at=T + 1)
    assert entry == Entry(
        "key", 200, ((b"content-type", b"text/plain"),), b"body", 'W/"x"', T, T + 1, 7.0, 600.0, validated=True
    )


def test_an_answer_without_a_tag_gets_one_from_its_bytes() -> None:
    entry = freshness.stored("key", Head(200, ()), b"body", requested_at=T, responded_at=T)
    assert entry.etag == directives.entity_tag(b"body")
    assert not entry.validated


MODIFIED = (b"last-modified", b"Sun, 06 Nov 1994 08:00:00 GMT")
SINCE = (b"if-modified-since", MODIFIED[1])
# Fields of the stored answer -> the conditions of the next request for it.
VALIDATORS: list[tuple[Headers, Headers]] = [
    ((), ()),
    (((b"etag", b'"x"'),), ((b"if-none-match", b'"x"'),)),
    (((b"etag", b'W/"x"'),), ((b"if-none-match", b'W/"x"'),)),
    (((b"etag", b'"x"'), MODIFIED), ((b"if-none-match", b'"x"'), SINCE)),
    ((MODIFIED,), (SINCE,)),
]


@pytest.mark.parametrize(("fields", "expected"), VALIDATORS)
def test_upstream_is_asked_by_its_own_validators_only(fields: Headers, expected: Headers) -> None:
    entry = freshness.stored("key", Head(200, fields), b"body", requested_at=T, responded_at=T)
    assert freshness.validators(entry) == expected
    assert freshness.validators(replace(entry, status=404)) == ()


def test_a_304_renews_what_is_stored_and_keeps_its_content() -> None:
    old = replace(
        ENTRY,
        headers=((b"content-type", b"text/plain"), (b"date", b"then"), (b"vary", b"accept"), (b"link", b"<a>")),
        lifetime=60.0,
        validated=True,
    )
    head = Head(
        304,
        (
            (b"etag", b'"a"'),
            (b"content-type", b"text/html"),
            (b"date", b"now"),
            (b"vary", b"accept-encoding"),
            (b"vary", b"origin"),
            (b"age", b"7"),
            (b"set-cookie", b"a=b"),
        ),
    )
    assert freshness.refreshed(old, head, requested_at=T + 100, responded_at=T + 101) == replace(
        old,
        headers=(
            (b"content-type", b"text/plain"),
            (b"link", b"<a>"),
            (b"date", b"now"),
            (b"vary", b"accept-encoding"),
            (b"vary", b"origin"),
        ),
        requested_at=T + 100,
        responded_at=T + 101,
        initial_age=7.0,
    )


@pytest.mark.parametrize(
    ("stored", "told", "same"),
    [
        ('"a"', b"", True),
        ('"a"', b'"a"', True),
        ('"a"', b'W/"a"', True),
        ('W/"a"', b'"a"', True),
        ('"a"', b'"b"', False),
        ('"a"', b'"A"', False),
    ],
)
def test_a_304_for_another_representation_renews_nothing(stored: str, told: bytes, same: bool) -> None:
    head = Head(304, ((b"etag", told),) if told else ())
    renewed = freshness.refreshed(replace(ENTRY, etag=stored), head, requested_at=T, responded_at=T)
    assert (renewed is not None) is same


@pytest.mark.parametrize(("field", "expected"), [((CACHED,), 60.0), ((), 99.0)])
def test_a_304_may_give_a_new_lifetime(field: Headers, expected: float) -> None:
    renewed = freshness.refreshed(replace(ENTRY, lifetime=99.0), Head(304, field), requested_at=T, responded_at=T)
    assert renewed is not None
    assert renewed.lifetime == expected


@given(ENTRIES, NOW)
def test_an_age_is_never_negative(entry: Entry, now: float) -> None:
    assert freshness.age(entry, now) >= 0.0


@given(ENTRIES, POLICIES, NOW, CHANGED)
def test_nothing_is_fresh_beyond_its_lifetime(entry: Entry, policy: Policy, now: float, changed: float) -> None:
    assert policy.ttl is not None
    lifetime = policy.ttl if entry.status == 200 else policy.negative_ttl
    left = freshness.fresh_for(entry, policy, now, changed)
    assert left <= lifetime
    if freshness.age(entry, now) >= lifetime:
        assert left <= 0.0
    if entry.requested_at <= changed:
        assert left <= 0.0


@given(ENTRIES, POLICIES, NOW, CHANGED, st.booleans())
def test_a_decision_agrees_with_the_freshness_told(
    entry: Entry, policy: Policy, now: float, changed: float, no_cache: bool
) -> None:
    decision = freshness.decide(entry, policy, now, changed=changed, no_cache=no_cache)
    left = freshness.fresh_for(entry, policy, now, changed)
    if decision is FRESH:
        assert left > 0.0
    if decision is STALE_WHILE_REVALIDATE:
        assert left <= 0.0
        assert -left < policy.stale_while_revalidate
        assert entry.status == 200
        assert entry.requested_at > changed
    if left > 0.0 and not no_cache:
        assert decision is FRESH
    assert decision is not ABSENT


@given(ENTRIES, POLICIES, NOW, st.floats(0, 100))
def test_nothing_becomes_fresher_with_time(entry: Entry, policy: Policy, now: float, later: float) -> None:
    now = max(now, entry.requested_at, entry.responded_at)
    left = freshness.fresh_for(entry, policy, now)
    assert freshness.fresh_for(entry, policy, now + later) <= left


@given(STATUSES, FIELDS)
def test_what_is_storable_is_public(status: int, fields: Headers) -> None:
    head = Head(status, fields)
    if freshness.storable(head, OURS):
        said = b",".join(value for name, value in fields if name == b"cache-control").lower()
        assert b"no-store" not in said
        assert b"private" not in said
        assert not any(name == b"set-cookie" or (name == b"vary" and b"*" in value) for name, value in fields)
        assert status in (200, 404)
        entry = freshness.stored("key", head, b"", requested_at=T, responded_at=T)
        assert not any(name in (b"set-cookie", b"etag") for name, _ in entry.headers)


@given(STATUSES, FIELDS.flatmap(lambda fields: st.tuples(st.just(fields), st.permutations(fields))))
def test_the_order_of_the_fields_decides_nothing(
    status: int, fields: tuple[Headers, list[tuple[bytes, bytes]]]
) -> None:
    heads = [Head(status, tuple(order)) for order in fields]
    assert len({freshness.storable(head, OURS) for head in heads}) == 1
    entries = [freshness.stored("key", head, b"", requested_at=T, responded_at=T) for head in heads]
    for age in (0.0, 50.0, 70.0, 100.0):
        assert len({freshness.decide(entry, OURS, after(age)) for entry in entries}) == 1
        assert len({freshness.fresh_for(entry, OURS, after(age)) for entry in entries}) == 1
