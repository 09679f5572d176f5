from __future__ import annotations

import tomllib

import pytest

from proxy.errors import Refused
from proxy.rules import cargo_lines

INDEX = "sparse+http://127.0.0.1:8080/index/"
OTHER = "sparse+https://crates.example.org/index/"
MINE = '# mine\n[source.vendored]\ndirectory = "v"\n[registries.a]\nindex = "b"\n'
OURS = cargo_lines.lines(INDEX)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[build]\njobs = 2\n",
        "[build]\njobs = 2",
        MINE,
    ],
)
def test_the_lines_are_added_behind_what_is_there_and_replaced_when_they_change(text: str) -> None:
    once = cargo_lines.added(text, INDEX)
    assert once.startswith(text)
    before, ours = tomllib.loads(text), tomllib.loads(OURS)
    expected = {**before, **{name: {**before.get(name, {}), **tables} for name, tables in ours.items()}}
    assert tomllib.loads(once) == expected
    assert cargo_lines.added(once, INDEX) == once
    moved = cargo_lines.added(once, OTHER)
    assert moved == once.replace(INDEX, OTHER)
    assert cargo_lines.added(moved, INDEX) == once


def test_what_was_added_behind_our_lines_stays_behind_them() -> None:
    mine = cargo_lines.added("", INDEX) + 'token = "t"\n[build]\njobs = 2\n'
    assert cargo_lines.added(mine, OTHER) == mine.replace(INDEX, OTHER)


def test_a_file_that_says_the_same_in_its_own_words_stays_as_it_is() -> None:
    text = f'source = {{ crates-io.replace-with = "mirror", mirror.registry = "{INDEX}" }}\n'
    text += f'registries.mirror.index = "{INDEX}"\n'
    assert cargo_lines.added(text, INDEX) == text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[source.crates-io]\nreplace-with = "vendored"\n', "[source.crates-io] is there and says something else"),
        (f'[source.mirror]\nregistry = "{OTHER}"\n', "[source.mirror] is there"),
        ('[registries.mirror]\nindex = "x"\n', "[registries.mirror] is there"),
        ("[source", "it is not TOML"),
        ("source = {}\n", "it is not TOML that lines can be added to"),
    ],
)
def test_what_contradicts_is_told_and_nothing_is_added(text: str, says: str) -> None:
    with pytest.raises(Refused, match=".*") as refused:
        cargo_lines.added(text, INDEX)
    assert says in refused.value.detail


def test_half_of_our_block_is_no_block() -> None:
    with pytest.raises(Refused):
        cargo_lines.added(cargo_lines.added("", INDEX).replace(cargo_lines.END, ""), OTHER)
