"""Where settings come from: TOML, the environment, the command line. Each source becomes a layer of raw values.

Knows which keys there are only from its arguments, and nothing about what values mean. The environment is an
argument too; the only I/O is reading the files that it or the operator names.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

PREFIX = "CRATES_PROXY_"
_FILE = "_FILE"
_BARE = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Given:
    """A raw value. `text`: it was written where everything is text, so a number comes as one."""

    value: object
    origin: str
    text: bool = False

    def where(self, key: str) -> str:
        """The origin for those who know the key already."""
        return self.origin.removesuffix(f":{key}")


@dataclass(frozen=True, slots=True)
class Layer:
    """What one source gives, what is wrong with it, and what is worth a line in the log."""

    given: dict[str, Given] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Known:
    """`keys`: all that mean something, with `offered` those that can be used. `endpoints`: name -> whether it has
    a ttl, and so times that can be set."""

    keys: Collection[str]
    offered: Collection[str]
    endpoints: Mapping[str, bool]

    def sections(self) -> set[str]:
        parents = (key.split(".")[:-1] for key in self.keys)
        return {".".join(parent[:depth]) for parent in parents for depth in range(1, len(parent) + 1)}

    def objection(self, key: str, spelt: Mapping[str, str]) -> str:
        """Why a key is none; `spelt` is how keys are written where it was found."""
        section, _, rest = key.partition(".")
        name = rest.partition(".")[0]
        if key in self.sections():
            return "a section, not a setting"
        if section == "endpoints" and name in self.endpoints and not self.endpoints[name]:
            return f"the endpoint {name} has no ttl and takes no times"
        if section == "endpoints" and name and name not in self.endpoints:
            near = get_close_matches(name, self.endpoints) or sorted(self.endpoints)
            return f"no such endpoint; {_either('did you mean', near)}"
        last = key.rpartition(".")[2]
        # Keys of one section are alike already, hence the high bar.
        matches = get_close_matches(key, self.offered, cutoff=0.75)
        matches = matches or [each for each in self.offered if each.endswith(f".{last}")][:3]
        near = [spelt.get(match, match) for match in matches]
        return f"no such setting; {_either('did you mean', near)}" if near else "no such setting"


def _either(question: str, words: Sequence[str]) -> str:
    return f"{question} {' or '.join([', '.join(words[:-1]), words[-1]] if words[1:] else words)}?"


def from_toml(content: bytes, name: str, known: Known, *, origin: str | None = None) -> Layer:
    """`name` is that of the file; `origin` is told instead of `name:key` where it is given."""
    layer = Layer()
    try:
        document = tomllib.loads(content.decode())
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        layer.problems.append(f"{name}: not UTF-8 (at line {line})")
        return layer
    except (ValueError, RecursionError) as error:
        layer.problems.append(f"{name}: not TOML: {error}")
        return layer
    for key, value in _leaves(document, known):
        if key in known.keys:
            layer.given[key] = Given(value, origin or f"{name}:{key}")
        else:
            # The value stays untold: it might be a secret under a misspelt key.
            layer.problems.append(f"{key} ({name}): {known.objection(key, {})}")
    return layer


def _leaves(table: Mapping[str, object], known: Known, prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in table.items():
        key = prefix + (name if _BARE.fullmatch(name) else json.dumps(name))
        if isinstance(value, dict) and key not in known.keys and (value or key in known.sections()):
            yield from _leaves(value, known, f"{key}.")
        else:
            yield key, value


def from_file(path: Path, known: Known) -> Layer:
    try:
        content = path.read_bytes()
    except OSError as error:
        return Layer(problems=[f"{path}: cannot be read: {error.strerror}"])
    return from_toml(content, str(path), known)


def variable(key: str) -> str:
    """The environment's name of a setting."""
    return PREFIX + key.replace(".", "__").upper()


def from_environment(environ: Mapping[str, str], known: Known) -> Layer:
    layer = Layer()
    spelt = {key: variable(key) for key in known.keys}
    direct = {name: key for key, name in spelt.items()}
    by_file = {name + _FILE: key for name, key in direct.items()}
    ignored = []
    for name in sorted(name for name in environ if name.startswith(PREFIX)):
        if name in direct:
            layer.given[direct[name]] = Given(environ[name], name, text=True)
        elif "__" not in name.removeprefix(PREFIX):
            ignored.append(name)
        elif name not in by_file:
            key = name.removeprefix(PREFIX).lower().replace("__", ".")
            layer.problems.append(f"{name} (environment): {known.objection(key, spelt)}")
        elif by_file[name] in layer.given:  # sorted: the plain name has come before
            layer.problems.append(f"{by_file[name]}: set by both {spelt[by_file[name]]} and {name}; keep one")
        else:
            _read_file(layer, by_file[name], name, environ[name])
    if ignored:
        layer.notes.append(f"ignored {', '.join(ignored)}: settings are spelt {PREFIX}SECTION__NAME")
    return layer


def _read_file(layer: Layer, key: str, name: str, path: str) -> None:
    try:
        text = Path(path).read_bytes().decode()
    except OSError as error:
        layer.problems.append(f"{key} ({name}): {path!r} cannot be read: {error.strerror}")
    except ValueError:  # not UTF-8, or a NUL in the path
        layer.problems.append(f"{key} ({name}): {path!r} is not UTF-8 text")
    else:
        layer.given[key] = Given(re.sub(r"\r?\n\Z", "", text), name, text=True)


def from_command_line(argv: Mapping[str, object], known: Known) -> Layer:
    """Options that were not given may be there as None."""
    layer = Layer()
    for key, value in argv.items():
        if key not in known.keys:
            layer.problems.append(f"{key} (command line): {known.objection(key, {})}")
        elif value is not None:
            layer.given[key] = Given(value, "command line", text=isinstance(value, str))
    return layer
