from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.rules import directives

CACHE_CONTROL: dict[bytes, dict[str, str]] = {
    b"": {},
    b"no-store": {"no-store": ""},
    b"No-Store": {"no-store": ""},
    b"public, max-age=60": {"public": "", "max-age": "60"},
    b"public,max-age=60,immutable": {"public": "", "max-age": "60", "immutable": ""},
    b" , ,max-age=60,, ": {"max-age": "60"},
    b"max-age=60, max-age=90": {"max-age": "60"},
    b"max-age=60, MAX-AGE=90": {"max-age": "60"},
    b'max-age="60"': {"max-age": "60"},
    b'x="a, no-store"': {"x": "a, no-store"},
    b'x="a\\"b, no-store"': {"x": 'a"b, no-store'},
    b'private="set-cookie, x", no-cache': {"private": "set-cookie, x", "no-cache": ""},
    b'x=""': {"x": ""},
    b"x=": {"x": ""},
    b"max-age=": {"max-age": ""},
    # What breaks the grammar is read so that a restriction in it is still seen.
    b'x="a, no-store': {"x": "", "a": "", "no-store": ""},
    b"max-age=60 no-store": {"max-age": "60", "no-store": ""},
    b"max-age = 60, no-store": {"max-age": "", "60": "", "no-store": ""},
    b"max-age=60; private": {"max-age": "60", "private": ""},
    b"\xff\xfe": {},
}

SECONDS: dict[str, float | None] = {
    "0": 0.0,
    "60": 60.0,
    "0060": 60.0,
    "000": 0.0,
    "2147483647": 2147483647.0,
    "2147483648": 2147483648.0,
    "2147483649": 2147483648.0,
    "9999999999": 2147483648.0,
    "99999999999": 2147483648.0,
    "9" * 5000: 2147483648.0,
    "0" * 5000 + "7": 7.0,
    "": None,
    "-1": None,
    "+1": None,
    "1.5": None,
    "1e3": None,
    " 1": None,
    "1 ": None,
    "a": None,
    "١": None,
    "²": None,
}

AGES: dict[bytes, float] = {
    b"": 0.0,
    b"0": 0.0,
    b"100": 100.0,
    b" 100 ": 100.0,
    b"100, 200": 100.0,
    b"100,": 100.0,
    b",100": 0.0,
    b"-100": 0.0,
    b"7.5": 0.0,
    b"a": 0.0,
    b"a, 100": 0.0,
    b"\xff": 0.0,
    b"9" * 5000: 2147483648.0,
}

NOW = 784111777.0  # Sun, 06 Nov 1994 08:49:37 GMT
RETRY_AFTER: dict[bytes, int | None] = {
    b"120": 120,
    b" 120 ": 120,
    b"0": 0,
    b"9" * 5000: 2147483648,
    b"Sun, 06 Nov 1994 08:49:47 GMT": 10,
    b"Sun, 06 Nov 1994 08:49:37 GMT": 0,
    b"Sun, 06 Nov 1994 08:49:36 GMT": 0,
    b"Sunday, 06-Nov-94 08:50:37 GMT": 60,
    b"": None,
    b"-1": None,
    b"1.5": None,
    b"soon": None,
    b"120, 60": None,
    b"\xff": None,
}


@pytest.mark.parametrize("field", CACHE_CONTROL)
def test_cache_control_is_read_as_directives(field: bytes) -> None:
    assert directives.cache_control(field) == CACHE_CONTROL[field]


def test_a_long_cache_control_is_read_and_not_remembered() -> None:
    field = b", ".join(b"x%d=1" % number for number in range(1000)) + b", no-store"
    found = directives.cache_control(field)
    assert len(found) == 1001
    assert found["no-store"] == ""
    assert directives.cache_control(field) is not found


def test_a_short_cache_control_is_read_once() -> None:
    assert directives.cache_control(b"public, max-age=77") is directives.cache_control(b"public, max-age=77")


@pytest.mark.parametrize("text", SECONDS)
def test_seconds_are_digits_and_bounded(text: str) -> None:
    assert directives.seconds(text) == SECONDS[text]


@pytest.mark.parametrize("field", AGES)
def test_an_age_that_makes_no_sense_is_none(field: bytes) -> None:
    assert directives.age(field) == AGES[field]


@pytest.mark.parametrize("field", RETRY_AFTER)
def test_retry_after_is_seconds_or_a_date(field: bytes) -> None:
    assert directives.retry_after(field, NOW) == RETRY_AFTER[field]


def test_a_part_of_a_second_is_waited_for_whole() -> None:
    assert directives.retry_after(b"Sun, 06 Nov 1994 08:49:38 GMT", NOW + 0.5) == 1


def test_a_date_is_printed_as_the_standard_wants_it() -> None:
    assert directives.date(784111777) == b"Sun, 06 Nov 1994 08:49:37 GMT"


def test_an_entity_tag_follows_from_the_bytes_alone() -> None:
    assert directives.entity_tag(b"") == '"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"'
    assert directives.entity_tag(b"a") == directives.entity_tag(b"a") != directives.entity_tag(b"b")


@given(st.binary(max_size=300))
def test_no_field_whatever_makes_the_reading_fail(field: bytes) -> None:
    assert all(name == name.lower() for name in directives.cache_control(field))
    assert directives.age(field) >= 0.0
    assert (directives.retry_after(field, NOW) or 0) >= 0


@given(
    st.lists(st.sampled_from(["no-store", "private", "max-age=60", "s-maxage=0", 'x="a, b"', "public"]), unique=True)
)
def test_the_order_of_directives_makes_no_difference(members: list[str]) -> None:
    forwards, backwards = ", ".join(members).encode(), ", ".join(reversed(members)).encode()
    assert directives.cache_control(forwards) == directives.cache_control(backwards)
