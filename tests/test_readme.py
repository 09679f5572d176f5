"""What the README says is what the code does."""

from __future__ import annotations

import re

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
