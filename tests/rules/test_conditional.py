from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.rules import conditional

EARLIER, DATE, LATER = (
    b"Sun, 06 Nov 1994 08:49:36 GMT",
    b"Sun, 06 Nov 1994 08:49:37 GMT",
    b"Sun, 06 Nov 1994 08:49:38 GMT",
)
INSTANT = 784111777

TAGS = {
    b'"a"': True,
    b'W/"a"': True,
    b'"b"': False,
    b'"A"': False,
    b'"b", "a"': True,
    b'"b","a"': True,
    b'W/"b" ,\tW/"a" ': True,
    b', ,"a",,': True,
    b'"b", "c"': False,
    b"*": True,
    b" * ": True,
    b'*, "a"': False,
    b'"a", *': False,
    b"a": False,
    b'"a': False,
    b'w/"a"': False,
    b'W/ "a"': False,
    b'"b" "a"': False,
    b'"a"x': False,
    b'"a", b': False,
    b"": False,
    b",": False,
    b'"b, \\", "a"': False,
}

DATES = {
    DATE: INSTANT,
    b"Sunday, 06-Nov-94 08:49:37 GMT": INSTANT,
    b"Sun Nov  6 08:49:37 1994": INSTANT,
    b"Sun Nov 06 08:49:37 1994": INSTANT,
    b"Thu, 01 Jan 1970 00:00:00 GMT": 0,
    b"Sat, 31 Dec 2016 23:59:60 GMT": 1483228800,
    b"Thu, 29 Feb 2024 00:00:00 GMT": 1709164800,
    b"Wednesday, 01-Jan-69 00:00:00 GMT": -31536000,
    b"Sunday, 01-Jan-68 00:00:00 GMT": 3092601600,
    b"Mon, 06 Nov 1994 08:49:37 GMT": INSTANT,
    b"Sun, 6 Nov 1994 08:49:37 GMT": None,
    b"sun, 06 nov 1994 08:49:37 gmt": INSTANT,
    b"Son, 06 Nov 1994 08:49:37 GMT": None,
    b"Sun, 06 Nov 1994 08:49:37 UTC": None,
    b"Sun, 06 Nov 1994 08:49:37 +0000": None,
    b"Sun, 06 Nov 1994 08:49:37": None,
    b"Sun, 06 Nov 94 08:49:37 GMT": None,
    b"Sun, 06-Nov-94 08:49:37 GMT": None,
    b"Sunday, 06 Nov 1994 08:49:37 GMT": None,
    b"Sun, 06 Nov 1994 24:00:00 GMT": None,
    b"Sun, 06 Nov 1994 08:60:00 GMT": None,
    b"Sun, 06 Nov 1994 08:49:61 GMT": None,
    b"Thu, 30 Feb 2024 00:00:00 GMT": None,
    b"Sun, 00 Nov 1994 08:49:37 GMT": None,
    b"Sun, 06 Nov 0000 08:49:37 GMT": None,
    DATE + b" ": None,
    DATE + b"\n": None,
    b" " + DATE: None,
    DATE + b", " + DATE: None,
    b"784111777": None,
    b"0": None,
    b"": None,
    b"\xff": None,
}


@pytest.mark.parametrize(("field", "expected"), TAGS.items())
def test_if_none_match_compares_weakly(field: bytes, expected: bool) -> None:
    assert conditional.not_modified(field, None, '"a"', None) is expected
    assert conditional.not_modified(field, None, 'W/"a"', None) is expected


def test_tags_of_any_bytes_match_themselves() -> None:
    assert conditional.not_modified(b'"\xe9,!"', None, '"\xe9,!"', None)


@pytest.mark.parametrize(
    ("since", "modified", "expected"),
    [
        (DATE, DATE, True),
        (LATER, DATE, True),
        (EARLIER, DATE, False),
        (b"Sunday, 06-Nov-94 08:49:37 GMT", DATE, True),
        (b"yesterday", DATE, False),
        (DATE, b"yesterday", False),
        (DATE, None, False),
        (None, DATE, False),
        (None, None, False),
    ],
)
def test_if_modified_since_compares_dates(since: bytes | None, modified: bytes | None, expected: bool) -> None:
    assert conditional.not_modified(None, since, '"a"', modified) is expected


@pytest.mark.parametrize("tag", [b'"b"', b"", b"nonsense"])
def test_if_none_match_silences_if_modified_since(tag: bytes) -> None:
    assert not conditional.not_modified(tag, DATE, '"a"', DATE)


@pytest.mark.parametrize(("text", "expected"), DATES.items())
def test_a_date_is_one_of_three_forms_or_none(text: bytes, expected: int | None) -> None:
    assert conditional.http_date(text) == expected


@given(st.datetimes(datetime(1, 1, 1), timezones=st.just(UTC)))
def test_every_date_is_read_as_it_was_written(moment: datetime) -> None:
    moment = moment.replace(microsecond=0)
    assert conditional.http_date(format_datetime(moment, usegmt=True).encode()) == moment.timestamp()


@given(st.lists(st.from_regex(r'(W/)?"[!#-~\x80-\xff]*"', fullmatch=True), min_size=1), st.data())
def test_a_tag_matches_in_any_list_that_has_it(tags: list[str], data: st.DataObject) -> None:
    field = ", ".join(tags).encode("latin-1")
    assert conditional.not_modified(field, None, data.draw(st.sampled_from(tags)), None)
    assert not conditional.not_modified(field, None, "no tag", None)
