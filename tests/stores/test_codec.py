from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from proxy.model import Coded, Entry, Terms, Witness
from proxy.stores import codec

NAMES = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=12).map(str.encode)
TIMES = st.floats(0, 4e9)

ENTRIES = st.builds(
    Entry,
    key=st.text(max_size=50),
    status=st.sampled_from([200, 404]),
    headers=st.lists(st.tuples(NAMES, st.binary(max_size=40))).map(tuple),
    body=st.binary(max_size=200),
    etag=st.text('abc"W/\xff', max_size=10),
    requested_at=TIMES,
    responded_at=TIMES,
    initial_age=TIMES,
    lifetime=st.none() | TIMES,
    validated=st.booleans(),
    terms=st.builds(Terms, TIMES, st.none() | TIMES, st.booleans(), st.booleans(), st.just(("accept",)), st.text()),
    gzip=st.none() | st.builds(Coded, st.binary(max_size=100), st.text("abc", max_size=5)),
    witness=st.none() | st.builds(Witness, st.text("abc/", max_size=9), st.text(max_size=20), TIMES),
)

OF_THE_FIRST_RELEASE = (
    b"\x88\x00\x00\x00"
    b'["crate /api/v1/crates/leaf",200,[["content-type","application/json"]],"\\"a\\"",1.0,2.0,0.0,null,false,null,'
    b'[0.0,null,false,false,[],""]]{}'
)


@given(ENTRIES)
def test_an_entry_comes_back_as_it_was(entry: Entry) -> None:
    assert codec.decoded(codec.encoded(entry)) == entry
    assert codec.responded_at(codec.encoded(entry)) == entry.responded_at


def test_an_entry_of_the_first_release_comes_back_without_a_witness() -> None:
    fields = ((b"content-type", b"application/json"),)
    entry = Entry("crate /api/v1/crates/leaf", 200, fields, b"{}", '"a"', 1.0, 2.0)
    assert codec.decoded(OF_THE_FIRST_RELEASE) == entry
    assert codec.encoded(entry) == OF_THE_FIRST_RELEASE, "so that the first release reads it too"


@given(st.binary(max_size=300))
def test_other_bytes_are_no_entry_and_no_time(value: bytes) -> None:
    assert codec.decoded(value) is None
    if len(value) != 8:
        assert codec.decoded_time(value) == -math.inf


@given(ENTRIES, st.integers(0, 60))
def test_a_stump_is_no_entry(entry: Entry, size: int) -> None:
    facts_end = len(codec.encoded(entry)) - len(entry.body) - (len(entry.gzip.body) if entry.gzip else 0)
    assert codec.decoded(codec.encoded(entry)[: min(size, facts_end - 1)]) is None


@given(TIMES)
def test_a_time_comes_back_as_it_was(at: float) -> None:
    assert codec.decoded_time(codec.encoded_time(at)) == at


def test_what_is_no_entry_was_written_before_all_others() -> None:
    assert codec.responded_at(b"no entry") == -math.inf
