from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.rules import ranges
from proxy.rules.ranges import Span, Unsatisfiable

FAR = b"9" * 5000
DATE = b"Sun, 06 Nov 1994 08:49:37 GMT"

OF_TEN: dict[bytes, tuple[int, int] | str] = {
    b"bytes=0-0": (0, 0),
    b"bytes=0-9": (0, 9),
    b"bytes=2-5": (2, 5),
    b"bytes=002-0005": (2, 5),
    b"bytes=5-": (5, 9),
    b"bytes=0-": (0, 9),
    b"bytes=9-": (9, 9),
    b"bytes=5-99": (5, 9),
    b"bytes=5-" + FAR: (5, 9),
    b"bytes=-3": (7, 9),
    b"bytes=-10": (0, 9),
    b"bytes=-11": (0, 9),
    b"bytes=-" + FAR: (0, 9),
    b"BYTES=1-1": (1, 1),
    b"bytes= 1-1 ": (1, 1),
    b"bytes=,\t1-1, ,": (1, 1),
    b"bytes=10-": "unsatisfiable",
    b"bytes=10-20": "unsatisfiable",
    b"bytes=" + FAR + b"-": "unsatisfiable",
    b"bytes=-0": "unsatisfiable",
    b"bytes=-00": "unsatisfiable",
    b"bytes=5-4": "whole",
    b"bytes=20-10": "whole",
    b"bytes=" + FAR + b"-1": "whole",
    b"bytes=0-1,3-4": "whole",
    b"bytes=0-1,x": "whole",
    b"bytes=-": "whole",
    b"bytes=": "whole",
    b"bytes=,": "whole",
    b"bytes": "whole",
    b"bytes 0-1": "whole",
    b"bytes =0-1": "whole",
    b"bytes=0 - 1": "whole",
    b"bytes=+0-1": "whole",
    b"bytes=--1": "whole",
    b"bytes=1": "whole",
    b"bytes=a-b": "whole",
    b"bytes=0x0-1": "whole",
    b"bytes=0-1\n": "whole",
    b"bytes=0-1=": "whole",
    b"items=0-1": "whole",
    b"": "whole",
    b"\xff": "whole",
}


@pytest.mark.parametrize(("field", "expected"), OF_TEN.items())
def test_a_range_of_ten_bytes(field: bytes, expected: tuple[int, int] | str) -> None:
    found = ranges.single(field, 10)
    if isinstance(expected, tuple):
        assert found == Span(*expected, 10)
    else:
        assert found == (Unsatisfiable(10) if expected == "unsatisfiable" else None)


@pytest.mark.parametrize(("field", "expected"), OF_TEN.items())
def test_whether_a_part_is_asked_for_is_known_before_the_size_is(field: bytes, expected: object) -> None:
    assert ranges.asks(field) is (expected != "whole")


@pytest.mark.parametrize(
    ("field", "expected"),
    [(b"bytes=0-", Unsatisfiable(0)), (b"bytes=-0", Unsatisfiable(0)), (b"bytes=-5", None)],
)
def test_an_empty_file_has_no_first_byte(field: bytes, expected: Unsatisfiable | None) -> None:
    assert ranges.single(field, 0) == expected


def test_the_texts_of_content_range() -> None:
    assert Span(2, 5, 10).content_range == b"bytes 2-5/10"
    assert Span(2, 5, 10).length == 4
    assert Unsatisfiable(10).content_range == b"bytes */10"


@given(st.integers(0), st.integers(0), st.integers(0, 10**12))
def test_a_span_is_the_part_that_slicing_gives(first: int, last: int, size: int) -> None:
    found = ranges.single(b"bytes=%d-%d" % (first, last), size)
    expected = range(size)[first : last + 1]
    if isinstance(found, Span):
        assert range(found.first, found.last + 1) == expected
        assert found.length == len(expected)
    else:
        assert not expected


@given(st.binary(), st.integers(0, 100))
def test_no_field_asks_for_more_than_there_is(field: bytes, size: int) -> None:
    found = ranges.single(b"bytes=" + field, size)
    assert not isinstance(found, Span) or 0 <= found.first <= found.last < size


@pytest.mark.parametrize(
    ("value", "etag", "modified", "expected"),
    [
        (b'"a"', '"a"', None, True),
        (b'"a"', '"b"', None, False),
        (b'W/"a"', '"a"', None, False),
        (b'"a"', 'W/"a"', None, False),
        (b'W/"a"', 'W/"a"', None, False),
        (b'"a", "b"', '"a"', None, False),
        (b"*", '"a"', None, False),
        (DATE, '"a"', DATE, True),
        (b"Sunday, 06-Nov-94 08:49:37 GMT", '"a"', DATE, True),
        (DATE, '"a"', b"Sun, 06 Nov 1994 08:49:36 GMT", False),
        (DATE, '"a"', None, False),
        (DATE, '"a"', b"yesterday", False),
        (b"yesterday", '"a"', b"yesterday", False),
        (b"", '"a"', None, False),
    ],
)
def test_if_range_compares_strongly(value: bytes, etag: str, modified: bytes | None, expected: bool) -> None:
    assert ranges.if_range_matches(value, etag, modified) is expected
