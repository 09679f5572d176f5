"""Version numbers: valid or not, and which is higher (semver 2.0.0, sections 9 to 11)."""

from __future__ import annotations

import functools
import re

_NUMBER = r"(0|[1-9]\d*)"
_PRE = r"(?:0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*)"
_VERSION = re.compile(
    rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}(?:-({_PRE}(?:\.{_PRE})*))?(?:\+([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?"
)

Rank = tuple[int, int, int, bool, tuple[tuple[bool, int, str], ...], str]


def valid(text: str) -> bool:
    return _VERSION.fullmatch(text) is not None


@functools.cache
def rank(text: str) -> Rank:
    """Sorts versions; build metadata decides last, so that the order is total."""
    found = _VERSION.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no version")
    major, minor, patch, pre, build = found.groups()
    parts = [(not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in (pre or "").split(".")]
    return int(major), int(minor), int(patch), pre is None, tuple(parts), build or ""


def stable(text: str) -> bool:
    return "-" not in text.partition("+")[0]
