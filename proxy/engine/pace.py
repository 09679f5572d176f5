"""The order of what would otherwise be done by turns: first come, first served; and together what is cheaper so.

An event loop gives each of many tasks its turn after each of its steps. Where many answers come at the same time each
would wait for the work of all, their clients would ask again at the same time, and so on for ever. It knows no work.
"""

from __future__ import annotations

import asyncio
from collections import deque

LONG = 0.01
"""Seconds in which a few at a time are through where it is worth it."""
_STEPS = 2
"""Turns of the loop in which what was let through comes to its client."""


class Pace:
    """Lets `few` through at a time; the next when those have had their turns, whatever became of them. Who has waited
    for `LONG` waits no longer: where there is more to do than time, to do it together is cheaper."""

    def __init__(self, few: int) -> None:
        self._left = few
        self._waiting: deque[tuple[asyncio.Future[None], float]] = deque()

    async def turn(self) -> None:
        """Wait for those who came before."""
        if self._left == 0:
            loop = asyncio.get_running_loop()
            turn = loop.create_future()
            self._waiting.append((turn, loop.time() + LONG))
            await turn
        else:
            self._left -= 1
            self._pass(_STEPS)

    def _pass(self, steps: int) -> None:
        loop = asyncio.get_running_loop()
        if steps:
            loop.call_soon(self._pass, steps - 1)
            return
        now = loop.time()
        while self._waiting:
            turn, until = self._waiting.popleft()
            if turn.done():
                continue
            turn.set_result(None)
            if now < until:
                loop.call_soon(self._pass, _STEPS)  # it runs in the next one
                return
        self._left += 1


class Beat:
    """Whoever waits for it goes on with all others who do, `seconds` after the first of them at most."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._waiting: set[asyncio.Future[None]] = set()

    async def wait(self) -> None:
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_later(self._seconds, self._strike)
        beat = loop.create_future()
        self._waiting.add(beat)
        try:
            await beat
        finally:
            self._waiting.discard(beat)

    def _strike(self) -> None:
        waiting, self._waiting = self._waiting, set()
        for beat in waiting:
            if not beat.done():
                beat.set_result(None)
