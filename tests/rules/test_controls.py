from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.model import Head, Headers
from proxy.rules import controls

T = 784111777.0  # Sun, 06 Nov 1994 08:49:37 GMT
DATE = (b"date", b"Sun, 06 Nov 1994 08:49:37 GMT")
A_MINUTE_BEFORE = (b"date", b"Sun, 06 Nov 1994 08:48:37 GMT")
A_MINUTE_AFTER = (b"expires", b"Sun, 06 Nov 1994 08:50:37 GMT")


def cc(value: bytes) -> tuple[bytes, bytes]:
    return b"cache-control", value


def cdn(value: bytes) -> tuple[bytes, bytes]:
    return b"cdn-cache-control", value


# Fields -> the lifetime that upstream gives to an answer that arrived at T.
LIFETIMES: list[tuple[Headers, float | None]] = [
    ((), None),
    ((DATE,), None),
    ((cc(b"public"),), None),
    ((cc(b"max-age=60"),), 60.0),
    ((cc(b"max-age=60, s-maxage=10"),), 10.0),
    ((cc(b"max-age=60"), cc(b"s-maxage=10")), 10.0),
    ((cc(b"max-age=60, max-age=90"),), 60.0),
    ((cc(b'x="max-age=60", max-age=1'),), 1.0),
    ((cc(b"max-age='60'"),), 0.0),
    ((cc(b"max-age=-1"),), 0.0),
    ((cc(b"max-age"),), 0.0),
    ((cc(b"max-age=" + b"9" * 5000),), 2147483648.0),
    ((cc(b"max-age=10"), DATE, A_MINUTE_AFTER), 10.0),
    ((DATE, A_MINUTE_AFTER), 60.0),
    ((A_MINUTE_BEFORE, A_MINUTE_AFTER), 120.0),
    ((A_MINUTE_AFTER,), 60.0),
    (((b"date", b"nonsense"), A_MINUTE_AFTER), 60.0),
    ((DATE, (b"expires", A_MINUTE_BEFORE[1])), 0.0),
    ((DATE, (b"expires", b"0")), 0.0),
    ((DATE, (b"expires", b"")), 0.0),
    ((DATE, A_MINUTE_AFTER, A_MINUTE_AFTER), 0.0),
    # A targeted field silences Cache-Control and Expires; one that cannot be read is no field.
    ((cdn(b"max-age=60"), cc(b"max-age=1")), 60.0),
    ((cdn(b"max-age=0"), DATE, A_MINUTE_AFTER), 0.0),
    ((cdn(b"public"), DATE, A_MINUTE_AFTER), None),
    ((cdn(b"x, max-age=60"),), 60.0),
    ((cdn(b"max-age=99999999999"),), 2147483648.0),
    ((cdn(b""), cc(b"max-age=1")), 1.0),
    ((cdn(b"max-age=60, &&&"), cc(b"max-age=1")), 1.0),
    ((cdn(b'max-age="60"'), cc(b"max-age=1")), 1.0),
    ((cdn(b"max-age=-60"), cc(b"max-age=1")), 1.0),
    ((cdn(b"max-age=6.5"), cc(b"max-age=1")), 1.0),
    ((cdn(b"max-age"), cc(b"max-age=1")), 1.0),
    ((cdn(b"max-age=(1 2)"), cc(b"max-age=1")), 1.0),
    ((cdn(b"MaX-aGe=60"), cc(b"max-age=1")), 1.0),
    ((cdn(b"max-age =60"), cc(b"max-age=1")), 1.0),
    ((cdn(b"max-age=60;x=1"), cc(b"max-age=1")), 60.0),
]

# Date, Last-Modified -> the lifetime that is guessed.
GUESSES: list[tuple[Headers, float]] = [
    ((), 0.0),
    ((DATE,), 0.0),
    ((DATE, (b"last-modified", b"nonsense")), 0.0),
    ((DATE, (b"last-modified", A_MINUTE_BEFORE[1])), 6.0),
    (((b"last-modified", A_MINUTE_BEFORE[1]),), 6.0),
    ((DATE, (b"last-modified", A_MINUTE_AFTER[1])), 0.0),
    ((DATE, (b"last-modified", b"Sun, 06 Nov 1904 08:49:37 GMT")), 86400.0),
]

# Cache-Control -> is no-cache there, is it for the whole answer, which fields is it for?
QUALIFIED: dict[bytes, tuple[bool, bool, set[bytes]]] = {
    b"": (False, False, set()),
    b"no-cache": (True, True, set()),
    b'no-cache=""': (True, True, set()),
    b'no-cache="Foo, bar"': (True, False, {b"foo", b"bar"}),
    b"no-cache=foo": (True, False, {b"foo"}),
}


@pytest.mark.parametrize(("fields", "expected"), LIFETIMES)
def test_upstream_gives_a_lifetime_or_none(fields: Headers, expected: float | None) -> None:
    head = Head(200, fields)
    assert controls.explicit_lifetime(head, controls.controls(head), T) == expected


@pytest.mark.parametrize(("fields", "expected"), GUESSES)
def test_a_lifetime_is_guessed_from_the_last_change(fields: Headers, expected: float) -> None:
    assert controls.heuristic_lifetime(Head(200, fields), T) == expected


@pytest.mark.parametrize("field", QUALIFIED)
def test_a_directive_is_for_the_whole_answer_or_for_fields(field: bytes) -> None:
    there, whole, fields = QUALIFIED[field]
    governing = controls.controls(Head(200, (cc(field),)))
    assert ("no-cache" in governing) is there
    assert governing.unqualified("no-cache") is whole
    assert governing.fields("no-cache") == fields


def test_a_targeted_field_without_arguments_is_read_like_the_other() -> None:
    governing = controls.controls(Head(200, (cdn(b"no-store, private, x=?0"),)))
    assert governing.targeted
    assert governing.unqualified("private")
    assert "no-store" in governing
    assert governing.duration("max-age") is None


@given(st.binary(max_size=100), st.binary(max_size=100))
def test_no_field_whatever_makes_the_reading_fail(one: bytes, other: bytes) -> None:
    head = Head(200, (cc(one), cdn(other), (b"expires", one), (b"last-modified", other)))
    lifetime = controls.explicit_lifetime(head, controls.controls(head), T)
    assert lifetime is None or lifetime >= 0.0
    assert controls.heuristic_lifetime(head, T) >= 0.0
