"""The report of a run, without running it: the suite is no part of this project."""

from __future__ import annotations

from tests.conformance.__main__ import told
from tests.conformance.running import Result


def test_the_figures_are_told_by_kind_with_a_reason_for_each_failure() -> None:
    lines = told(
        [
            Result("a", "area", "required", "pass", ""),
            Result("headers-store-Set-Cookie", "headers", "required", "setup_fail", "not cached"),
            Result("b", "area", "required", "retry", "retry"),
            Result("c", "area", "optimal", "optional_fail", "not cached"),
            Result("d", "area", "check", "yes", ""),
            Result("e", "area", "check", "no", ""),
        ],
        "abc",
    )
    assert lines[:4] == [
        "http-tests/cache-tests at abc",
        "required: 1 of 3 pass",
        "optimal: 0 of 1 pass",
        "check: 1 of 2 yes",
    ]
    assert (
        "  headers-store-Set-Cookie (setup_fail): an answer that sets a cookie is somebody's own: never stored" in lines
    )
    assert "  c (optional_fail): NO REASON OF OURS: not cached" in lines
    assert any(line.startswith("  b (retry): bytes that") for line in lines)
