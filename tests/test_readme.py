"""What the README says is what the code does."""

from __future__ import annotations

import re
from collections.abc import Iterator

from proxy.cli import main
from tests import readme

TEXT = (readme.ROOT / "README.md").read_text()


def test_the_tables_are_those_of_the_code() -> None:
    assert readme.written(TEXT) == TEXT


def test_the_gate_runs_the_commands_of_the_readme() -> None:
    gate = (readme.ROOT / ".ci" / "run").read_text()
    assert "README.md" in gate
    assert len(re.findall(r"^python3 -m venv \.venv && .*serve$", TEXT, re.MULTILINE)) == 1
    assert len(re.findall(r"^python3 -m venv \.venv && .*pytest -q$", TEXT, re.MULTILINE)) == 1


def test_every_file_that_the_readme_points_to_exists() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", TEXT):
        assert (readme.ROOT / target).exists(), target


def _typed() -> Iterator[tuple[str, str]]:
    """Each command of ours that the README, deploy/ or config/ have somebody type: where, and what."""
    for path in (readme.ROOT / "README.md", *(readme.ROOT / "deploy").rglob("*"), *(readme.ROOT / "config").glob("*")):
        if path.is_file():
            for typed in re.findall(r"\bcrates-proxy ([a-z]+\b(?: [^`\n|&;)]*)?)", path.read_text("utf-8")):
                yield f"{path.relative_to(readme.ROOT)}: {typed}", typed


def test_every_command_that_a_guide_names_is_one() -> None:
    found = 0
    for where, typed in _typed():
        name, *words = typed.split(" #")[0].replace(",", " ").split()
        if name not in main.commands:
            assert not any(word.startswith("-") for word in words), where
            continue
        found += 1
        known = {option for each in main.commands[name].params for option in each.opts}
        assert {word for word in words if word.startswith("--")} <= known, where
    assert found > 40
