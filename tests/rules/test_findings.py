from __future__ import annotations

import pytest

from proxy.rules import findings
from proxy.rules.findings import Finding


@pytest.mark.parametrize(
    ("finding", "line"),
    [
        (findings.ok("disk", "1 GB are free"), "ok   disk: 1 GB are free"),
        (findings.warn("clock", "off"), "warn clock: off"),
        (findings.fail("redis", "away", "start it"), "fail redis: away; start it"),
    ],
)
def test_a_finding_is_one_line_that_ends_with_what_to_do(finding: Finding, line: str) -> None:
    assert str(finding) == line
