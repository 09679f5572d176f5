"""What `doctor` does: has everything looked at, and says each finding as it comes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from proxy import doctor
from proxy.doctor import Surroundings
from proxy.rules.findings import Finding, Grade
from proxy.settings import Loaded

Say = Callable[[Finding], None]


async def whole(loaded: Loaded, directory: Path, around: Surroundings, say: Say | None) -> list[Finding]:
    """`say`: hears of each finding at once."""
    found = []
    async for finding in doctor.findings(loaded, directory, around):
        found.append(finding)
        if say is not None:
            say(finding)
    return found


async def of_cargo(around: Surroundings, say: Say | None) -> list[Finding]:
    """Only what is about cargo and the server that it is to use."""
    found = [*await doctor.server.findings(around.base, ""), *await doctor.of_cargo(around)]
    for finding in found if say is not None else ():
        assert say is not None
        say(finding)
    return found


def well(found: Sequence[Finding]) -> bool:
    return not any(each.grade is Grade.FAIL for each in found)


def as_json(found: Sequence[Finding]) -> dict[str, Any]:
    """The same for scripts."""
    told = [{"grade": each.grade.value, "what": each.what, "detail": each.detail, "todo": each.todo} for each in found]
    return {"ok": well(found), "findings": told}
