"""When a dead server is left alone. It knows no server and no clock; `now` is an argument."""

from __future__ import annotations

FAILURES = 3
"""In a row: one or two may be chance."""
PAUSE = 5.0
"""Seconds: what comes back is used again soon, and what does not is waited for once in so many."""


class Breaker:
    """After so many failures in a row nothing is admitted for `PAUSE` seconds, then one probe at a time. `first`: the
    seconds after just so many, where more of them would be surer."""

    def __init__(self, failures: int = FAILURES, first: float = PAUSE) -> None:
        self._most = failures
        self._first = first
        self._failures = 0
        self._until = 0.0

    def is_open(self) -> bool:
        """Did it fail until it was left alone, and has not been seen to work since?"""
        return self._failures >= self._most

    def rest(self, now: float) -> float:
        """Seconds for which it is still being left alone; 0 where it may be asked. Asking this changes nothing."""
        return max(0.0, self._until - now) if self.is_open() else 0.0

    def admits(self, now: float) -> bool:
        """May it be asked now? Who is told so after a pause is the probe, and others wait for its result.

        A probe that never reports costs one more pause, not the server.
        """
        if self.rest(now) > 0:
            return False
        self._until = now + PAUSE
        return True

    def succeeded(self) -> None:
        self._failures = 0

    def failed(self, now: float) -> None:
        self._failures += 1
        self._until = now + (self._first if self._failures == self._most else PAUSE)
