from __future__ import annotations

import gzip
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.rules import codings


@pytest.mark.parametrize(
    ("field", "takes"),
    [
        (None, False),
        (b"", False),
        (b"identity", False),
        (b"gzip", True),
        (b"GZIP", True),
        (b"x-gzip", True),
        (b"deflate, gzip", True),
        (b"br;q=1.0, gzip;q=0.8, *;q=0.1", True),
        (b"gzip;q=0", False),
        (b"gzip; q=0.000", False),
        (b"gzip;q=0, *", False),
        (b"*", True),
        (b"*;q=0", False),
        (b"gzip;q=2", False),
        (b"gzip;;", False),
        (b"\xff,gzip", True),
    ],
)
def test_a_client_takes_gzip_where_it_says_so(field: bytes | None, takes: bool) -> None:
    assert codings.takes_gzip(field) is takes


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        (None, b"identity"),
        (b"", b"identity"),
        (b"deflate, compress", b"identity"),
        (b"gzip, deflate", b"gzip"),
        (b"zstd;q=0.1 , BR,x-gzip", b"br, gzip, zstd"),
        (b"br;q=0, gzip;q=0, *", b"zstd"),
        (b"*", b"br, gzip, zstd"),
        (b"*;q=0", b"identity"),
    ],
)
def test_who_takes_the_same_asks_for_it_in_the_same_words(field: bytes | None, expected: bytes) -> None:
    assert codings.accepted(field) == expected
    assert codings.accepted(expected) == expected


@given(st.binary(max_size=200))
def test_any_field_is_understood_or_ignored(field: bytes) -> None:
    assert codings.takes_gzip(field) is (b"gzip" in codings.accepted(field))


@given(st.binary(min_size=1, max_size=100), st.integers(11, 50))
def test_what_was_coded_decodes_to_itself_and_is_always_the_same(piece: bytes, times: int) -> None:
    body = piece * times * 100
    made = codings.coded(b"application/json", body)
    assert made == codings.coded(b"application/json", body)
    if made is not None:
        assert len(made) < len(body) >= codings.WORTH
        assert codings.decoded(made, len(body)) == gzip.decompress(made) == body


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (b"application/json", b"x" * (codings.WORTH - 1)),
        (b"application/gzip", b"x" * 10_000),
        (b"", b"x" * 10_000),
        (b"text/plain", b"".join(hashlib.sha512(bytes([n])).digest() for n in range(40))),
    ],
)
def test_what_is_not_worth_it_is_left_alone(content_type: bytes, body: bytes) -> None:
    assert codings.coded(content_type, body) is None


def test_a_bomb_a_stump_and_what_is_no_gzip_are_not_decoded() -> None:
    bomb = gzip.compress(bytes(1_000_000))
    assert codings.decoded(bomb, 1_000_000) == bytes(1_000_000)
    assert codings.decoded(bomb, 999_999) is None
    assert codings.decoded(bomb[:-1], 1_000_000) is None
    assert codings.decoded(bomb + b"x", 1_000_000) is None
    assert codings.decoded(b"plain", 1_000_000) is None
    assert codings.decoded(b"", 1) is None
