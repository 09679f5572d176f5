"""What `doctor` finds: closed grades, one line each. It knows nothing of what was looked at."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Grade(StrEnum):
    """The values are those that `doctor` prints."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """`what` was looked at; `detail`: how it is; `todo`: what to do about it, "" where nothing."""

    grade: Grade
    what: str
    detail: str
    todo: str = ""

    def __str__(self) -> str:
        return f"{self.grade:<4} {self.what}: {self.detail}{f'; {self.todo}' if self.todo else ''}"


def ok(what: str, detail: str) -> Finding:
    return Finding(Grade.OK, what, detail)


def warn(what: str, detail: str, todo: str = "") -> Finding:
    return Finding(Grade.WARN, what, detail, todo)


def fail(what: str, detail: str, todo: str = "") -> Finding:
    return Finding(Grade.FAIL, what, detail, todo)
