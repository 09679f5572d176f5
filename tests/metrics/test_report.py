"""What `stats` prints for people."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from proxy import report

EMPTY: dict[str, Any] = {
    "since": "2026-01-01T00:00:00Z",
    "requests": {"hit": 0},
    "hit_ratio": 0.0,
    "upstream": {"requests": 20, "avoided": -20},
    "endpoints": {},
    "days": {},
    "clients": {},
    "stores": [],
}


@pytest.mark.parametrize(
    ("served", "avoided", "said"),
    [
        (5 * 1024, 1024, "5.0 KiB served, of which 1.0 KiB were not fetched from crates.io"),
        (0, 0, "0 B served, of which 0 B were not fetched from crates.io"),
        (0, -7680, "0 B served, and 7.5 KiB more were fetched from crates.io"),
    ],
)
def test_what_was_fetched_ahead_is_told_as_that(served: int, avoided: int, said: str) -> None:
    console = Console(file=io.StringIO(), width=200)
    report.printed({**EMPTY, "bytes": {"served": served, "fetched": served - avoided, "avoided": avoided}}, console)
    assert isinstance(console.file, io.StringIO) and said in console.file.getvalue()


@pytest.mark.parametrize(
    ("count", "said"), [(None, "-"), (0, "0 B"), (1023, "1,023 B"), (50 * 2**30, "50.0 GiB"), (2**60, "1,024.0 PiB")]
)
def test_sizes_are_in_the_units_of_the_settings(count: int | None, said: str) -> None:
    assert report.size(count) == said
