"""When the index decides: tables of what is renewed and what is not, and what holds whatever the times are."""

from __future__ import annotations

import math
from dataclasses import replace
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.model import Entry, Headers, Witness
from proxy.rules import renewal
from proxy.rules.endpoints import Policy
from proxy.rules.renewal import LAG, Sight

HOUR = 3600.0
NOW = 1_700_000_000.0
FIVE_MINUTES = Policy(ttl=300.0)


def dated(at: float) -> bytes:
    return formatdate(int(at), usegmt=True).encode()


def index_file(body: bytes = b"{}\n", *, changed: float | None = NOW - HOUR, date: float | None = None) -> Entry:
    """As it is had at NOW."""
    fields: Headers = ()
    if changed is not None:
        fields += ((b"last-modified", dated(changed)),)
    if date is not None:
        fields += ((b"date", dated(date)),)
    return Entry("index /le/af/leaf", 200, fields, body, '"tag"', NOW, NOW, validated=True)


def answer(fetched: float = NOW - 400, *, status: int = 200, like: Entry | None = None) -> Entry:
    """What the API said then, with the index file as it was."""
    entry = Entry("crate /api/v1/crates/leaf", status, (), b"{}", '"a"', fetched, fetched)
    return replace(entry, witness=Witness("le/af/leaf", renewal.validator(like or index_file()), fetched))


@pytest.mark.parametrize(
    "name, folded, paths",
    [
        ("leaf", "leaf", ("le/af/leaf",)),
        ("Serde_JSON", "serde-json", ("se/rd/serde_json", "se/rd/serde-json")),
        ("serde-json", "serde-json", ("se/rd/serde-json", "se/rd/serde_json")),
        ("a_b-c", "a-b-c", ("a_/b-/a_b-c", "a-/b-/a-b-c", "a_/b_/a_b_c")),
        ("", "leaf", ("le/af/leaf",)),
        ("", "", ()),
    ],
)
def test_the_index_is_looked_into_under_the_likeliest_spelling_first(
    name: str, folded: str, paths: tuple[str, ...]
) -> None:
    assert renewal.paths(name, folded) == paths


def test_the_validator_tells_apart_what_was_changed_and_what_was_changed_back() -> None:
    file = index_file()
    assert renewal.validator(file) == renewal.validator(replace(file, requested_at=1.0, responded_at=2.0, etag='"x"'))
    assert renewal.validator(file) != renewal.validator(replace(file, body=b"{}"))
    assert renewal.validator(file) != renewal.validator(index_file(changed=NOW - 600))
    assert renewal.validator(file) != renewal.validator(index_file(changed=None))


@pytest.mark.parametrize(
    "file, now, seen",
    [
        (index_file(changed=NOW - LAG), NOW, True),
        (index_file(changed=NOW - LAG + 1), NOW, False),
        (index_file(changed=NOW - LAG + 1), NOW + 1, True),  # it was had a second ago
        (index_file(changed=None), NOW, False),
        (index_file(changed=NOW + HOUR), NOW, False),
        (index_file(changed=NOW - LAG, date=NOW), NOW, True),
        # Our clock is an hour fast: by the host's own the change is a second old.
        (index_file(changed=NOW - HOUR, date=NOW - HOUR + 1), NOW, False),
        (index_file(changed=NOW - HOUR, date=NOW - HOUR + 1), NOW + LAG, True),
        # Our clock is an hour slow: later we shall know.
        (index_file(changed=NOW + HOUR, date=NOW + 2 * HOUR), NOW, False),
    ],
)
def test_an_index_file_that_changed_just_now_is_no_witness(file: Entry, now: float, seen: bool) -> None:
    expected = Sight("le/af/leaf", renewal.validator(file)) if seen else None
    assert renewal.sight("le/af/leaf", file, now) == expected


def test_what_the_api_said_is_attested_by_what_was_seen_before() -> None:
    entry = replace(answer(), witness=None)
    seen = Sight("le/af/leaf", "v")
    assert renewal.attested(entry, seen).witness == Witness("le/af/leaf", "v", entry.responded_at)
    assert renewal.attested(answer(), None).witness is None, "an older witness has not seen this answer"
    assert renewal.attested(replace(entry, status=404), seen).witness is None


@pytest.mark.parametrize(
    "entry, changed, no_cache, may",
    [
        (answer(), -math.inf, False, True),
        (replace(answer(), witness=None), -math.inf, False, False),
        (answer(), NOW - 400 - LAG, False, True),
        (answer(), NOW - 400 - LAG + 1, False, False),
        (answer(), NOW - 10, False, False),
        (answer(), -math.inf, True, False),
        (answer(NOW - 9), -math.inf, True, True),  # it was asked for just now
    ],
)
def test_when_the_index_may_vouch_instead(entry: Entry, changed: float, no_cache: bool, may: bool) -> None:
    assert renewal.renewable(entry, NOW, changed=changed, no_cache=no_cache) is may


@pytest.mark.parametrize(
    "entry, ceiling, yes",
    [
        (answer(NOW - 6 * HOUR + 1), 6 * HOUR, False),
        (answer(NOW - 6 * HOUR), 6 * HOUR, True),
        (answer(NOW + 1), 6 * HOUR, True),  # a clock that went backwards
        (replace(answer(NOW - 6 * HOUR), responded_at=NOW), 6 * HOUR, True),  # what the index says does not count
        (replace(answer(NOW - 6 * HOUR), witness=None), 6 * HOUR, False),
        (answer(NOW - 6 * HOUR), 0.0, False),
    ],
)
def test_when_the_api_itself_should_be_asked_again(entry: Entry, ceiling: float, yes: bool) -> None:
    assert renewal.overdue(entry, NOW, ceiling) is yes


@pytest.mark.parametrize(
    "entry, file, yes",
    [
        (answer(), index_file(), False),
        (answer(), index_file(b"{}\n{}\n"), True),
        (answer(), index_file(changed=NOW - 600), True),
        (answer(NOW), index_file(b"{}\n{}\n"), False),  # the copy of the file may be of before
        (replace(answer(), witness=None), index_file(b"{}\n{}\n"), False),
    ],
)
def test_what_the_index_shows_that_an_entry_does_not_tell(entry: Entry, file: Entry, yes: bool) -> None:
    assert renewal.outdated(entry, file) is yes


def test_an_insisting_client_is_not_content_with_the_index_again_and_again() -> None:
    renewed = replace(answer(), responded_at=NOW - 1)
    assert not renewal.renewable(renewed, NOW, changed=-math.inf, no_cache=True)


@pytest.mark.parametrize(
    "entry, file, policy, now, yes",
    [
        (answer(), index_file(), FIVE_MINUTES, NOW, True),
        (answer(), index_file(), FIVE_MINUTES, NOW + 299, True),
        (answer(), index_file(), FIVE_MINUTES, NOW + 300, False),  # so old a copy says nothing about now
        (answer(), index_file(), Policy(ttl=0.0), NOW, False),
        (answer(), index_file(), Policy(), NOW, False),
        (answer(), index_file(b"{}\n{}\n"), FIVE_MINUTES, NOW, False),
        (answer(), index_file(changed=NOW - 600), FIVE_MINUTES, NOW, False),
        (answer(NOW), index_file(), FIVE_MINUTES, NOW, False),  # the copy is no younger
        (replace(answer(), witness=None), index_file(), FIVE_MINUTES, NOW, False),
    ],
)
def test_an_entry_is_renewed_by_the_same_file_seen_later(
    entry: Entry, file: Entry, policy: Policy, now: float, yes: bool
) -> None:
    expected = replace(entry, responded_at=file.responded_at) if yes else None
    assert renewal.renewed(entry, file, policy, now) == expected


TIMES = st.floats(0, 2 * NOW)


@given(TIMES, TIMES, TIMES, st.booleans())
def test_no_answer_of_the_time_around_a_change_is_ever_renewed(
    fetched: float, now: float, changed: float, no_cache: bool
) -> None:
    may = renewal.renewable(answer(fetched), now, changed=changed, no_cache=no_cache)
    assert not may or fetched >= changed + LAG


@given(TIMES, TIMES, st.floats(1, 1e6))
def test_what_is_not_overdue_was_asked_of_the_api_within_the_ceiling(
    fetched: float, now: float, ceiling: float
) -> None:
    assert renewal.overdue(answer(fetched), now, ceiling) or 0 <= now - fetched < ceiling


@given(TIMES, TIMES, st.floats(0, 1e6))
def test_nothing_is_vouched_for_later_than_the_index_was_asked(fetched: float, now: float, ttl: float) -> None:
    renewed = renewal.renewed(answer(fetched), index_file(), Policy(ttl=ttl), now)
    assert renewed is None or (fetched < renewed.responded_at == NOW and renewed.requested_at == fetched)


@given(st.integers(0, int(2 * NOW)), st.integers(0, int(2 * NOW)), TIMES)
def test_a_witness_has_not_changed_by_any_clock(changed: int, date: int, now: float) -> None:
    if renewal.sight("p", index_file(changed=float(changed), date=float(date)), now) is not None:
        assert now - changed >= LAG and date - changed + now - NOW >= LAG
