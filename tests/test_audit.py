"""The audit of dependencies: what it takes for a failure, and what it only tells."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
REASONS = {"CVE-1": {"package": "a", "reason": "it is not used"}}
FOUND = {"name": "a", "version": "1", "vulns": [{"id": "GHSA-x", "aliases": ["CVE-1"]}]}


@pytest.fixture(scope="module")
def audit() -> ModuleType:
    loader = importlib.machinery.SourceFileLoader("audit", str(ROOT / ".ci/audit"))
    spec = importlib.util.spec_from_loader("audit", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("dependencies", "told", "unexplained"),
    [
        ([], 0, 0),
        ([{"name": "a", "version": "1", "vulns": []}], 0, 0),
        ([{"name": "a", "skip_reason": "not known"}], 1, 0),
        ([FOUND], 1, 0),
        ([{**FOUND, "name": "b"}], 0, 1),
        ([{**FOUND, "vulns": [{"id": "CVE-2"}]}], 0, 1),
        ([FOUND, {**FOUND, "vulns": [*FOUND["vulns"], {"id": "CVE-2", "aliases": []}]}], 2, 1),
    ],
)
def test_what_has_no_reason_is_a_failure(
    dependencies: list[dict[str, Any]], told: int, unexplained: int, audit: ModuleType
) -> None:
    found = audit.judged({"dependencies": dependencies}, REASONS)
    assert [len(each) for each in found] == [told, unexplained]


@pytest.mark.parametrize(
    ("report", "status", "says"),
    [
        ((None, "Traceback\n  here\nno line"), 0, "NOT AUDITED, since the service cannot be asked: no line"),
        (({"dependencies": []}, ""), 0, "nothing is known"),
        (({"dependencies": [FOUND]}, ""), 1, "UNEXPLAINED a 1: CVE-1 GHSA-x"),
    ],
)
def test_a_service_that_cannot_be_asked_is_told_and_no_failure(
    report: object, status: int, says: str, audit: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(audit, "report", lambda lock, scratch: report)
    assert audit.main() == status
    assert capsys.readouterr().out.strip() == says


def test_each_advisory_is_of_something_that_is_pinned_and_has_a_reason_that_the_readme_tells() -> None:
    reasons = tomllib.loads((ROOT / ".ci/advisories.toml").read_text())
    pinned = set(re.findall(r"^([\w.-]+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    readme = (ROOT / "README.md").read_text()
    for name, advisory in reasons.items():
        assert advisory["package"] in pinned and advisory["reason"]
        assert name in readme
