"""When a dead server is left alone. Pure but for the clock that it is given; it knows no server."""

from __future__ import annotations

from collections.abc import Callable

FAILURES = 3
PAUSE = 5.0


class Breaker:
    """After `FAILURES` in a row nothing is admitted for `PAUSE` seconds, then one probe at a time."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures = 0
        self._until = 0.0

    def rests(self) -> bool:
        """Is it being left alone at this moment? Asking this changes nothing."""
        return self._failures >= FAILURES and self._clock() < self._until

    def admits(self) -> bool:
        """May it be asked now? Who is told so after a pause is the probe, and others wait for its result.

        A probe that never reports costs one more pause, not the server.
        """
        if self.rests():
            return False
        self._until = self._clock() + PAUSE
        return True

    def succeeded(self) -> None:
        self._failures = 0

    def failed(self) -> None:
        self._failures += 1
        self._until = self._clock() + PAUSE
