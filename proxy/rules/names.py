"""What crates.io takes for a crate's name and a version, and how both compare. Knows no path, file or URL."""

from __future__ import annotations

import re

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_PART = re.compile(r"[A-Za-z0-9_-]{1,64}")

_NUMBER = r"0|[1-9][0-9]*"
_PRE = rf"(?:{_NUMBER}|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
_BUILD = r"[0-9A-Za-z-]+"
_VERSION = re.compile(
    rf"({_NUMBER})\.({_NUMBER})\.({_NUMBER})"
    rf"(?:-({_PRE}(?:\.{_PRE})*))?"
    rf"(?:\+{_BUILD}(?:\.{_BUILD})*)?"
)
# Cargo and crates.io keep the three numbers in 64 bits; identifiers after the hyphen may be of any length.
_U64 = 2**64 - 1
_U64_DIGITS = 20

Precedence = tuple[tuple[int, ...], bool, tuple[tuple[bool, int, str], ...]]


def is_name(text: str) -> bool:
    """Could crates.io know a crate of this name? (Words that it reserves count as names here.)"""
    return _NAME.fullmatch(text) is not None


def folded(name: str) -> str:
    """The spelling under which names compare: crates.io takes `Foo_Bar` and `foo-bar` for one crate."""
    return name.lower().replace("_", "-")


def is_part(text: str) -> bool:
    """Could this be part of a crate's name?"""
    return _PART.fullmatch(text) is not None


def is_version(text: str) -> bool:
    """Strict Semantic Versioning 2.0, build metadata included."""
    match = _VERSION.fullmatch(text)
    return match is not None and all(_fits(number) for number in match.group(1, 2, 3))


def _fits(number: str) -> bool:
    return len(number) <= _U64_DIGITS and int(number) <= _U64


def precedence(version: str) -> Precedence:
    """A sort key in the order of Semantic Versioning (its section 11) for what `is_version` accepts.

    Build metadata does not count. Numeric identifiers compare by length, then text: without leading zeros
    that is their order as numbers, whatever their size.
    """
    core, _, pre = version.partition("+")[0].partition("-")
    numbers = tuple(int(number) for number in core.split("."))
    identifiers = tuple(
        (False, len(text), text) if text.isdigit() else (True, 0, text) for text in pre.split(".") if pre
    )
    return numbers, not pre, identifiers
