from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.model import Headers
from proxy.rules import vary

# Vary fields -> the names in them.
NAMES: list[tuple[tuple[bytes, ...], tuple[str, ...] | None]] = [
    ((), ()),
    ((b"",), ()),
    ((b"Foo",), ("foo",)),
    ((b"foo, Bar",), ("bar", "foo")),
    ((b" foo ,", b"bar, FOO"), ("bar", "foo")),
    ((b"*",), None),
    ((b", *",), None),
    ((b"", b"*"), None),
    ((b"foo, *",), None),
    ((b"*", b"foo"), None),
]

# Name, two values -> are they one variant?
SAME: list[tuple[str, Headers, Headers, bool]] = [
    ("foo", ((b"foo", b"1"),), ((b"foo", b"1"), (b"other", b"2")), True),
    ("foo", ((b"foo", b"1"),), ((b"foo", b"2"),), False),
    ("foo", ((b"foo", b"1"),), (), False),
    ("foo", ((b"foo", b""),), (), False),
    ("foo", ((b"foo", b"1, 2"),), ((b"foo", b"1"), (b"foo", b"2")), True),
    ("foo", ((b"foo", b" 1 ,2"),), ((b"foo", b"1, 2"),), True),
    ("foo", ((b"foo", b"1, 2"),), ((b"foo", b"2, 1"),), False),
    ("foo", ((b"foo", b"a"),), ((b"foo", b"A"),), False),
    ("foo", ((b"foo", b'"a, b"'),), ((b"foo", b'"a,b"'),), False),
    ("accept-language", ((b"accept-language", b"en, De"),), ((b"accept-language", b"de,EN"),), True),
    ("accept-language", ((b"accept-language", b"en;q=0.5"),), ((b"accept-language", b"en"),), False),
    ("accept-encoding", ((b"accept-encoding", b"gzip, br"),), ((b"accept-encoding", b"BR,gzip"),), True),
]


@pytest.mark.parametrize(("fields", "expected"), NAMES)
def test_vary_names_fields_or_anything(fields: tuple[bytes, ...], expected: tuple[str, ...] | None) -> None:
    assert vary.names(tuple((b"vary", value) for value in fields)) == expected


@pytest.mark.parametrize(("name", "one", "other", "same"), SAME)
def test_a_variant_is_what_the_named_fields_mean(name: str, one: Headers, other: Headers, same: bool) -> None:
    assert (vary.variant((name,), one) == vary.variant((name,), other)) is same


def test_without_names_there_is_one_variant() -> None:
    assert vary.variant((), ((b"foo", b"1"),)) == ""


def test_a_variant_tells_nothing_of_the_values() -> None:
    assert "secret" not in vary.variant(("cookie",), ((b"cookie", b"secret"),))


def test_the_variants_of_a_key_are_bounded_in_number() -> None:
    places = {vary.slot("other /x", vary.variant(("foo",), ((b"foo", b"%d" % n),))) for n in range(1000)}
    assert places | {"other /x"} == set(vary.family("other /x"))
    assert len(places) == vary.SLOTS


@given(st.binary(), st.binary(), st.binary(), st.binary())
def test_values_never_run_into_each_other(a: bytes, b: bytes, c: bytes, d: bytes) -> None:
    one = vary.variant(("x", "y"), ((b"x", a), (b"y", b)))
    other = vary.variant(("x", "y"), ((b"x", c), (b"y", d)))
    normal = [tuple(vary.normalised("x", value) for value in pair) for pair in ((a, b), (c, d))]
    assert (one == other) is (normal[0] == normal[1])
