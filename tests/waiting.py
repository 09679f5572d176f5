"""Waiting for what a thread, a process or a task brings about: until it is there, and never for a time.

`WITHIN` ends a test that would hang. What comes on any machine comes on a busy one as well, later: no test is about
how long that is, hence one bound serves all, and it is wide.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

WITHIN = 45.0
"""Seconds."""


def came(condition: Callable[[], object], within: float = WITHIN) -> bool:
    """Whether `condition` held at some time within so many seconds."""
    end = time.monotonic() + within
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def until(condition: Callable[[], object], within: float = WITHIN) -> None:
    """Returns when `condition` holds."""
    assert came(condition, within), f"it did not come within {within:g} s"


async def happened(condition: Callable[[], object], within: float = WITHIN) -> None:
    """`until`, for what is brought about in this loop."""
    end = time.monotonic() + within
    while not condition():
        assert time.monotonic() < end, f"it did not happen within {within:g} s"
        await asyncio.sleep(0.002)


async def became(ask: Callable[[], Awaitable[T]], wanted: Callable[[T], object], within: float = WITHIN) -> T:
    """Asks until the answer is one that is `wanted`, which it returns."""
    end = time.monotonic() + within
    while not wanted(answer := await ask()):
        assert time.monotonic() < end, f"after {within:g} s it is {answer!r}"
        await asyncio.sleep(0.002)
    return answer
