from __future__ import annotations

import pytest

from proxy.model import Head, Headers
from proxy.rules import invalidation

ORIGIN = "https://crates.io"
OWN = "other /api/v1/a/b"

# Fields of the answer to a change of /api/v1/a/b -> the keys beside its own.
NAMED: list[tuple[Headers, set[str]]] = [
    ((), set()),
    (((b"location", b"/api/v1/x"),), {"other /api/v1/x"}),
    (((b"location", b"c"), (b"content-location", b"d?z=1&a=2")), {"other /api/v1/a/c", "other /api/v1/a/d?a=2&z=1"}),
    (((b"location", b"https://crates.io/api/v1/x#part"),), {"other /api/v1/x"}),
    (((b"location", b"https://crates.io.example/api/v1/x"),), set()),
    (((b"location", b"https://other.example/api/v1/x"),), set()),
    (((b"location", b"/api/v1/crates/leaf"),), set()),
    (((b"location", b"/elsewhere"),), set()),
    (((b"location", b"/api/v1//x"),), set()),
    (((b"location", b"http://[x"),), set()),
    (((b"location", b"/api/v1/\xff"),), set()),
]


@pytest.mark.parametrize(("fields", "expected"), NAMED)
def test_a_change_outdates_what_it_names(fields: Headers, expected: set[str]) -> None:
    assert invalidation.outdated("/api/v1/a/b", Head(201, fields), ORIGIN) == {OWN} | expected


@pytest.mark.parametrize(("status", "expected"), [(199, False), (200, True), (399, True), (400, False), (500, False)])
def test_only_a_success_outdates(status: int, expected: bool) -> None:
    assert bool(invalidation.outdated("/api/v1/a/b", Head(status, ()), ORIGIN)) is expected


def test_what_rows_with_a_ttl_hold_is_told_by_the_crate() -> None:
    assert not invalidation.outdated("/api/v1/crates/leaf", Head(200, ()), ORIGIN)
