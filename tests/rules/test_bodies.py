from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.rules import bodies
from proxy.rules.endpoints import Kind

JSON = b"application/json"
LINE = json.dumps({"name": "foo", "vers": "1.0.0", "deps": [], "cksum": "a" * 64}).encode()
PORTAL = b"<html>Please log in</html>"
DEEP = b"[" * 100_000

# What is wrong with a 200 of that kind, type and body; None for nothing.
FAULTS: list[tuple[Kind, bytes, bytes, str | None]] = [
    (Kind.JSON, JSON, b'{"crate": {}}', None),
    (Kind.JSON, b"Application/JSON; charset=utf-8", b"{}", None),
    (Kind.JSON, JSON, b'{"crate": {"errors": []}}', None),
    (Kind.JSON, JSON, b"[]", None),
    (Kind.JSON, JSON, b'["errors"]', None),
    (Kind.JSON, b"text/html", b"{}", "it is text/html, not JSON"),
    (Kind.JSON, b"", b"{}", "it is of no type, not JSON"),
    (Kind.JSON, b"text/html; x=\xff", b"{}", "it is text/html; x=ÿ, not JSON"),
    (Kind.JSON, JSON, PORTAL, "it is not JSON"),
    (Kind.JSON, JSON, b"", "it is not JSON"),
    (Kind.JSON, JSON, b'{"crate"', "it is not JSON"),
    (Kind.JSON, JSON, b'{"crate": "\xff"}', "it is not JSON"),
    (Kind.JSON, JSON, DEEP, "it is not JSON"),
    (Kind.JSON, JSON, b"9" * 5000, "it is not JSON"),
    (Kind.JSON, JSON, b'{"errors": [{"detail": "no"}]}', "no"),
    (Kind.JSON, JSON, b'{"errors": []}', "it lists errors"),
    (Kind.JSON, JSON, b'{"errors": null}', "it lists errors"),
    (Kind.INDEX, b"text/plain", LINE, None),
    (Kind.INDEX, b"", b"not understood\n" + LINE + b"\n", None),
    (Kind.INDEX, b"text/html", PORTAL, "it holds no line of an index file"),
    (Kind.INDEX, b"text/plain", b"", "it holds no line of an index file"),
    (Kind.INDEX, b"text/plain", DEEP, "it holds no line of an index file"),
    (Kind.HTML, b"text/html", PORTAL, None),
    (Kind.HTML, b"", b"", None),
]

REASONS: dict[bytes, str | None] = {
    b'{"errors": [{"detail": "crate `x` does not exist"}]}': "crate `x` does not exist",
    b'{"errors": [{"detail": "first"}, {"detail": "second"}]}': "first",
    b'{"errors": [{"detail": 1}]}': "1",
    b'{"errors": [{}]}': None,
    b'{"errors": []}': None,
    b'{"errors": {}}': None,
    b'{"errors": "no"}': None,
    b'{"errors": null}': None,
    b"{}": None,
    b"[]": None,
    b'"errors"': None,
    b"1": None,
    b"": None,
    PORTAL: None,
    b'{"errors": [{"detail": "\xff"}]}': None,
    DEEP: None,
}


@pytest.mark.parametrize(("kind", "content_type", "body", "expected"), FAULTS)
def test_a_body_is_believed_only_where_it_is_what_the_row_answers_with(
    kind: Kind, content_type: bytes, body: bytes, expected: str | None
) -> None:
    assert bodies.fault(kind, content_type, body) == expected


# What was asked for is about the crate foo-bar.
ABOUT: list[tuple[Kind, bytes, str | None]] = [
    (Kind.JSON, b'{"crate": {"id": "Foo_bar"}, "versions": []}', None),
    (Kind.JSON, b'{"crate": {"id": "foo"}, "versions": []}', "it tells of another crate, `foo`"),
    (Kind.JSON, b'{"version": {"crate": "foo_bar", "num": "1.0.0"}}', None),
    (Kind.JSON, b'{"version": {"crate": "foo", "num": "1.0.0"}}', "it tells of another crate, `foo`"),
    (Kind.JSON, b'{"version": {}, "crate": {"id": 1}}', None),
    (Kind.JSON, b'{"crate": "foo"}', None),
    (Kind.INDEX, LINE.replace(b"foo", b"Foo_Bar"), None),
    (Kind.INDEX, LINE, "it tells of another crate, `foo`"),
    (Kind.INDEX, b"\n" + LINE + b"\n" + LINE.replace(b"foo", b"foo-bar"), "it tells of another crate, `foo`"),
]


@pytest.mark.parametrize(("kind", "body", "expected"), ABOUT)
def test_a_body_that_says_which_crate_it_is_about_is_about_the_one_that_was_asked_for(
    kind: Kind, body: bytes, expected: str | None
) -> None:
    assert bodies.fault(kind, JSON, body, "foo-bar") == expected
    assert bodies.fault(kind, JSON, body) is None, "nothing is known of what was asked for"


@pytest.mark.parametrize("body", REASONS)
def test_the_reason_is_the_first_detail_of_the_error_form(body: bytes) -> None:
    assert bodies.reason(body) == REASONS[body]


@given(st.sampled_from(Kind), st.binary(max_size=20), st.binary(max_size=60))
def test_no_body_whatever_makes_the_judgement_fail(kind: Kind, content_type: bytes, body: bytes) -> None:
    bodies.fault(kind, content_type, body)
    bodies.fault(kind, JSON, body)
    bodies.reason(body)
