"""The profiles for the three uses: each can be started with, changes something, and says why."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from proxy import settings
from proxy.rules.endpoints import TIMED
from tests.deploy import files

NAMES = ("ci", "office", "shield")
DEFAULT = settings.load({}, None, {}, endpoints=TIMED)


def path(name: str) -> Path:
    return files.PROFILES / f"{name}.toml"


@pytest.mark.parametrize("name", NAMES)
def test_a_profile_can_be_used_and_sets_nothing_to_its_default(name: str) -> None:
    loaded = settings.load({}, path(name), {}, endpoints=TIMED)
    assert loaded.notes == ()
    set_here = [key for key, origin in loaded.origins.items() if origin.startswith(str(path(name)))]
    assert set_here
    printed = dict(line.partition("#")[0].split(" = ", 1) for line in settings.render(loaded).splitlines())
    default = dict(line.partition("#")[0].split(" = ", 1) for line in settings.render(DEFAULT).splitlines())
    values = {key.strip(): value.strip() for key, value in printed.items()}
    before = {key.strip(): value.strip() for key, value in default.items()}
    assert [key for key in set_here if values[key] == before.get(key)] == []


@pytest.mark.parametrize("name", NAMES)
def test_each_line_says_why(name: str) -> None:
    lines = path(name).read_text().splitlines()
    for number, line in enumerate(lines):
        if re.match(r"(# )?[a-z_]+ = ", line) and not lines[number - 1].startswith("["):
            assert lines[number - 1].startswith("# "), line


@pytest.mark.parametrize("name", NAMES)
def test_what_it_suggests_can_be_set_too(name: str, tmp_path: Path) -> None:
    suggested = re.sub(r"(?m)^# ([a-z_]+ = )", r"\1", path(name).read_text())
    assert suggested != path(name).read_text()
    (tmp_path / "suggested.toml").write_text(suggested)
    assert settings.load({}, tmp_path / "suggested.toml", {}, endpoints=TIMED).settings.upstream.contact


@pytest.mark.parametrize("name", NAMES)
def test_the_times_are_of_endpoints_that_there_are(name: str) -> None:
    assert set(tomllib.loads(path(name).read_text()).get("endpoints", {})) <= set(TIMED)
