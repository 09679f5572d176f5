"""What cargo's configuration comes to: its files laid over one another, and the environment over them.

It knows TOML and cargo's order, reads no file, and judges nothing.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Key = tuple[str, ...]

_REGISTRY_INDEX = re.compile(r"CARGO_REGISTRIES_(.+)_INDEX")
_FROM_ENVIRONMENT: Mapping[str, Key] = {
    "CARGO_NET_OFFLINE": ("net", "offline"),
    "CARGO_HTTP_PROXY": ("http", "proxy"),
    "CARGO_REGISTRIES_CRATES_IO_PROTOCOL": ("registries", "crates-io", "protocol"),
}


@dataclass(frozen=True, slots=True)
class File:
    """A file of configuration as it lies there. `error`: why it could not be read, "" where it could."""

    path: str
    text: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Said:
    """A value, and which file or variable says it."""

    value: Any
    where: str


@dataclass(frozen=True, slots=True)
class Merged:
    """`said`: what holds, by the path of its key. problems: file -> why cargo cannot use it. included: files that
    include others, which are not looked at."""

    said: Mapping[Key, Said]
    problems: Mapping[str, str] = field(default_factory=dict)
    included: Sequence[str] = ()

    def get(self, *key: str) -> Said | None:
        return self.said.get(key)

    def names(self, section: str) -> list[str]:
        """The names of the tables in a section, such as those of all sources."""
        return _names(self.said, section)

    def table(self, *prefix: str) -> dict[str, Said]:
        """What is in one table."""
        size = len(prefix)
        return {key[size]: said for key, said in self.said.items() if key[:size] == prefix and len(key) == size + 1}


def merged(files: Sequence[File], environ: Mapping[str, str]) -> Merged:
    """`files`: the nearest first, as cargo finds them from the working directory upwards and in its home."""
    said: dict[Key, Said] = {}
    problems: dict[str, str] = {}
    included = []
    for file in reversed(files):
        try:
            tree = tomllib.loads(file.text)
        except tomllib.TOMLDecodeError as error:
            problems[file.path] = f"it is not TOML ({error})"
            continue
        if file.error:
            problems[file.path] = file.error
        if "include" in tree:
            included.append(file.path)
        said |= {key: Said(value, file.path) for key, value in _leaves(tree, ())}
    said |= _from_environment(environ, said)
    return Merged(said, problems, included)


def ignored(environ: Mapping[str, str]) -> list[str]:
    """Variables that look as if they defined a source: cargo reads sources from files only."""
    return sorted(name for name in environ if name.startswith("CARGO_SOURCE_"))


def _names(said: Iterable[Key], section: str) -> list[str]:
    return sorted({key[1] for key in said if key[0] == section and len(key) > 2})


def _leaves(tree: Mapping[str, Any], above: Key) -> Iterator[tuple[Key, Any]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, (*above, name))
        else:
            yield (*above, name), value


def _from_environment(environ: Mapping[str, str], files: Mapping[Key, Said]) -> Iterator[tuple[Key, Said]]:
    names = {name.upper().replace("-", "_"): name for name in _names(files, "registries")}
    for variable, value in environ.items():
        if key := _FROM_ENVIRONMENT.get(variable):
            yield key, Said(value, variable)
        elif found := _REGISTRY_INDEX.fullmatch(variable):
            name = names.get(found[1], found[1].lower().replace("_", "-"))
            yield ("registries", name, "index"), Said(value, variable)
