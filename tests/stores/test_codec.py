from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.model import Coded, Entry, Terms, Witness
from proxy.stores import codec

NAMES = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=12).map(str.encode)
VALUES = st.text("\t !a~\x80\xff", max_size=40).map(lambda text: text.encode("latin-1"))
TIMES = st.floats(0, 4e9)

ENTRIES = st.builds(
    Entry,
    key=st.text(max_size=50),
    status=st.sampled_from([200, 404]),
    headers=st.lists(st.tuples(NAMES, VALUES)).map(tuple),
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


# Facts of an entry that others wrote, with a right envelope: each of them would break an answer, or a decision.
UNSOUND = {
    "a status that HTTP does not have": {"status": 999},
    "a part": {"status": 206},
    "content where there is none": {"status": 204},
    "an upper-case name": {"headers": ((b"Content-Type", b"a"),)},
    "a line break in a name": {"headers": ((b"a\r\nset-cookie", b"a"),)},
    "a line break in a value": {"headers": ((b"a", b"b\r\nset-cookie: a"),)},
    "a control character in a value": {"headers": ((b"a", b"\x7f"),)},
    "a line break in a tag": {"etag": '"a"\r\nset-cookie: a'},
    "a line break in the tag of its gzip": {"gzip": Coded(b"", '"a"\r\n')},
    "a tag beyond Latin-1": {"etag": "\u20ac"},
    "a time that is none": {"requested_at": "yesterday"},
    "a flag for a time": {"responded_at": True},
    "a lifetime that is none": {"lifetime": [1]},
    "a number for a flag": {"validated": 1},
    "no key": {"key": None},
    "variants that are none": {"terms": Terms(vary=(1,))},  # type: ignore[arg-type]
    "a witness that is none": {"witness": Witness("a", "b", "c")},  # type: ignore[arg-type]
}


@pytest.mark.parametrize("facts", UNSOUND.values(), ids=UNSOUND)
def test_facts_that_cannot_be_are_no_entry(facts: dict[str, Any]) -> None:
    entry = Entry("crate /api/v1/crates/leaf", 200, ((b"a", b"b"),), b"{}", '"a"', 1.0, 2.0)
    assert codec.decoded(codec.encoded(entry)) == entry
    assert codec.decoded(codec.encoded(replace(entry, **facts))) is None


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
