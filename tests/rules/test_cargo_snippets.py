"""What the snippets say is what their readers make of it: TOML, a shell, YAML. cargo itself reads them in tests/e2e."""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from proxy.rules.cargo_snippets import snippets

BASE = "https://crates.example.org:8443"
INDEX = f"sparse+{BASE}/index/"
BY_NAME = {each.name: each for each in snippets(BASE)}
REPLACED = {"source": {"crates-io": {"replace-with": "mirror"}, "mirror": {"registry": INDEX}}}


def written(script: str, directory: Path) -> dict[str, Any]:
    """What a script leaves in cargo's configuration, where something stood before."""
    home = directory / "cargo home"
    home.mkdir()
    (home / "config.toml").write_text("[net]\nretry = 5\n")
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(directory), "CARGO_HOME": str(home)}
    subprocess.run(["sh", "-euc", script], env=environment, check=True, timeout=30)
    found = tomllib.loads((home / "config.toml").read_text())
    assert found.pop("net") == {"retry": 5}
    return found


def test_the_lines_for_cargo_are_its_configuration() -> None:
    found = tomllib.loads(BY_NAME["cargo"].text)
    assert found == {**REPLACED, "registries": {"mirror": {"index": INDEX}}}


def test_the_dockerfile_writes_it(tmp_path: Path) -> None:
    text = BY_NAME["docker"].text
    assert text.startswith("RUN ")
    assert written(text.removeprefix("RUN "), tmp_path) == REPLACED


@pytest.mark.parametrize("name", ["github", "gitlab"])
def test_the_jobs_write_it(name: str, tmp_path: Path) -> None:
    found = YAML(typ="safe").load(BY_NAME[name].text)
    script = found[0]["run"] if name == "github" else found["default"]["before_script"][0]
    assert written(script, tmp_path) == REPLACED


def test_the_environment_gives_the_registry_its_name() -> None:
    assert f'CARGO_REGISTRIES_MIRROR_INDEX="{INDEX}"' in BY_NAME["environment"].text
    assert "no source replacement" in BY_NAME["environment"].note
