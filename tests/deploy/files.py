"""What the Dockerfile and the compose file say, as far as tests need it; other programs check that they are right."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import cast

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
IGNORED = ROOT / "deploy" / "Dockerfile.dockerignore"
COMPOSE = ROOT / "deploy" / "compose.yaml"
GUIDE = ROOT / "deploy" / "README.md"
CHART = ROOT / "deploy" / "helm" / "crates-proxy"
SYSTEMD = ROOT / "deploy" / "systemd"
PROFILES = ROOT / "config"


def stages() -> list[list[tuple[str, str]]]:
    """The instructions of each stage, as a word and the rest of the line."""
    text = re.sub(r"^\s*#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    found: list[list[tuple[str, str]]] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            found.append([])
        if found:
            found[-1].append((word, rest.strip()))
    return found


def told(word: str) -> str:
    """What the image is told by its only instruction of this kind."""
    (rest,) = [rest for instruction, rest in stages()[-1] if instruction == word]
    return rest


def command(word: str) -> list[str]:
    """The arguments of an ENTRYPOINT, CMD or HEALTHCHECK, which here is always JSON."""
    rest = told(word)
    return cast("list[str]", json.loads(rest[rest.index("[") :]))


def image_environment() -> dict[str, str]:
    """The settings that the image brings."""
    pairs = dict(pair.split("=", 1) for pair in shlex.split(told("ENV")))
    return {name: value for name, value in pairs.items() if name.startswith("CRATES_PROXY_")}


def copied() -> list[str]:
    """What the first stage copies from the repository."""
    return [source for word, rest in stages()[0] if word == "COPY" for source in rest.split()[:-1]]


def compose_environment(**given: str) -> dict[str, str]:
    """The environment of the proxy's container: its image's, and over it what the compose file makes of `given`."""
    written = re.findall(r"^ +(CRATES_PROXY_\w+): (\S.*)$", COMPOSE.read_text(), flags=re.MULTILINE)
    return image_environment() | {name: _interpolated(value, given) for name, value in written}


def _interpolated(value: str, given: dict[str, str]) -> str:
    """With ${NAME:-DEFAULT} and ${NAME:?WHAT IS MISSING} replaced. Raises KeyError as compose refuses to start."""

    def replaced(match: re.Match[str]) -> str:
        name, how, rest = match.groups()
        if given.get(name):
            return given[name]
        if how == ":?":
            raise KeyError(f"{name}: {rest}")
        return rest

    return re.sub(r"\$\{(\w+)(:[-?])([^}]*)\}", replaced, value)
