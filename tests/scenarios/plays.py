"""What the plays have in common, whose steps are data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import httpx

from tests.waiting import came


@dataclass(frozen=True)
class Wait:
    seconds: float


def answered(ask: Callable[[], httpx.Response], verdict: str, *, soon: bool) -> httpx.Response:
    """What `ask` gets; `soon`: once that has this X-Cache, which a fetch in the background brings about."""
    answers = [ask()]

    def there() -> bool:
        if answers[-1].headers["x-cache"] == verdict:
            return True
        answers.append(ask())
        return False

    assert not soon or came(there), f"it is still {answers[-1].headers['x-cache']}"
    return answers[-1]
