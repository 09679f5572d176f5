from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.rules import wishes
from proxy.rules.wishes import NONE, Wish

# Cache-Control and Pragma of a request -> what it asks for.
WISHES: dict[tuple[bytes | None, bytes | None], Wish] = {
    (None, None): NONE,
    (b"", None): NONE,
    (None, b""): NONE,
    (b"nothing-to-see-here", b"foo"): NONE,
    (b"no-cache", None): Wish(no_cache=True),
    (b"NO-CACHE", None): Wish(no_cache=True),
    (b"max-age=0", None): Wish(no_cache=True, max_age=0.0),
    (b"max-age=00", None): Wish(no_cache=True, max_age=0.0),
    (b'max-age="0"', None): Wish(no_cache=True, max_age=0.0),
    (b"max-age=1", None): Wish(max_age=1.0),
    (b"max-age", None): NONE,
    (b"max-age=-1", None): NONE,
    (b"max-age=" + b"9" * 5000, None): Wish(max_age=2147483648.0),
    (b"no-store", None): Wish(no_store=True),
    (b"only-if-cached", None): Wish(only_if_cached=True),
    (b"min-fresh=5, max-stale=7", None): Wish(min_fresh=5.0, max_stale=7.0),
    (b"max-stale", None): Wish(max_stale=math.inf),
    (b"max-stale=x", None): NONE,
    (b'x="no-cache"', None): NONE,
    (None, b"no-cache"): Wish(no_cache=True),
    (b"", b"x, no-cache"): Wish(no_cache=True),
    (b"max-age=60", b"no-cache"): Wish(max_age=60.0),
}


@pytest.mark.parametrize("fields", WISHES)
def test_a_request_asks_by_its_directives(fields: tuple[bytes | None, bytes | None]) -> None:
    assert wishes.wish(*fields) == WISHES[fields]


def test_short_fields_are_read_once() -> None:
    assert wishes.wish(b"max-age=7", None) is wishes.wish(b"max-age=7", None)


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_no_field_whatever_makes_the_reading_fail(cache_control: bytes, pragma: bytes) -> None:
    wish = wishes.wish(cache_control, pragma)
    assert wish.max_age >= 0
    assert wish.min_fresh >= 0
    assert wish.max_stale >= 0
