from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.rules import names

NAMES = {
    "a": True,
    "Z": True,
    "serde": True,
    "serde_json": True,
    "Inflector": True,
    "a-b_c9": True,
    "a--__": True,
    "a" * 64: True,
    "a" * 65: False,
    "": False,
    "9a": False,
    "-a": False,
    "_a": False,
    "a b": False,
    "a.b": False,
    "a/b": False,
    "a+b": False,
    "a\n": False,
    "é": False,
    "aé": False,
    "a\u0660": False,
    "a\0": False,
    "\u212a": False,  # the Kelvin sign, whose lower case is an ASCII k
}

PARTS = {
    "a": True,
    "9": True,
    "-": True,
    "_json": True,
    "a" * 64: True,
    "a" * 65: False,
    "": False,
    "é": False,
    "a%": False,
}

U64 = 2**64 - 1
VERSIONS = {
    "0.0.0": True,
    "1.2.3": True,
    "10.20.30": True,
    f"{U64}.{U64}.{U64}": True,
    f"{U64 + 1}.0.0": False,
    f"0.{U64 + 1}.0": False,
    f"0.0.{U64 + 1}": False,
    f"1{'0' * 5000}.0.0": False,
    "1.0.0-alpha": True,
    "1.0.0-alpha.1": True,
    "1.0.0-0.3.7": True,
    "1.0.0-x-y-z.--": True,
    "1.0.0-0": True,
    "1.0.0-00": False,
    "1.0.0-01": False,
    "1.0.0-0a": True,
    f"1.0.0-{U64 + 1}": True,
    "1.0.0-": False,
    "1.0.0-a..b": False,
    "1.0.0-a_b": False,
    "1.0.0+001": True,
    "1.0.0-beta+exp.sha.5114f85": True,
    "0.9.8+curl-7.1": True,
    "1.0.0+": False,
    "1.0.0+a+b": False,
    "1.0.0+a..b": False,
    "1.0.0+é": False,
    "1": False,
    "1.2": False,
    "1.2.3.4": False,
    "01.2.3": False,
    "1.02.3": False,
    "1.2.03": False,
    "v1.2.3": False,
    " 1.2.3": False,
    "1.2.3\n": False,
    "1.2.٣": False,
    "-1.2.3": False,
    "": False,
    "1.2.*": False,
}

# Semantic Versioning, section 11, and numbers too long for any machine word.
ASCENDING = (
    "0.9.9",
    "1.0.0-0",
    "1.0.0-2",
    "1.0.0-10",
    f"1.0.0-9{'0' * 5000}",
    "1.0.0-alpha",
    "1.0.0-alpha.1",
    "1.0.0-alpha.beta",
    "1.0.0-beta",
    "1.0.0-beta.2",
    "1.0.0-beta.11",
    "1.0.0-rc.1",
    "1.0.0",
    "1.0.1-a",
    "1.0.1",
    "1.2.0",
    "1.10.0",
    "2.0.0",
    "10.0.0",
)


@pytest.mark.parametrize(("text", "expected"), NAMES.items())
def test_a_name_is_what_crates_io_accepts(text: str, expected: bool) -> None:
    assert names.is_name(text) is expected


@pytest.mark.parametrize(("text", "expected"), VERSIONS.items())
def test_a_version_is_strict_semver(text: str, expected: bool) -> None:
    assert names.is_version(text) is expected


@pytest.mark.parametrize(("name", "expected"), [("serde", "serde"), ("Serde_JSON", "serde-json"), ("a-_-", "a---")])
def test_spellings_of_one_crate_fold_to_the_same(name: str, expected: str) -> None:
    assert names.folded(name) == expected


@given(st.from_regex(r"[A-Za-z][A-Za-z0-9_-]{0,63}", fullmatch=True))
def test_folding_is_idempotent_and_gives_a_name(name: str) -> None:
    assert names.is_name(names.folded(name))
    assert names.folded(names.folded(name)) == names.folded(name.swapcase()) == names.folded(name)


def test_versions_sort_by_precedence() -> None:
    for lower, higher in itertools.combinations(ASCENDING, 2):
        assert names.is_version(lower) and names.is_version(higher)
        assert names.precedence(lower) < names.precedence(higher)


def test_build_metadata_has_no_precedence() -> None:
    assert names.precedence("1.0.0+a-b.1") == names.precedence("1.0.0")
    assert names.precedence("1.0.0-a+z") == names.precedence("1.0.0-a")


@pytest.mark.parametrize(("text", "expected"), PARTS.items())
def test_what_may_be_part_of_a_name(text: str, expected: bool) -> None:
    assert names.is_part(text) is expected
