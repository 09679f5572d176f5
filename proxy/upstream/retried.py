"""Asks a second time where a server failed and somebody waits: once, a moment later, and out of the same budget.

Only reads that nobody else's rules govern. A host that said when to come again is not asked before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from proxy.errors import Error
from proxy.rules.bucket import Urgency
from proxy.upstream.base import Answer, Ask, Upstream
from proxy.upstream.peeked import put_away

PASSING = frozenset((500, 502, 503, 504))
"""What the next attempt, or another of upstream's machines, may answer differently."""
PAUSE = 0.1, 0.5
"""Seconds, at random between the two: those who failed together should not come again together."""


class RetriedUpstream:
    """`chance`: a number from 0 to 1, each time another one."""

    def __init__(self, inner: Upstream, chance: Callable[[], float]) -> None:
        self._inner = inner
        self._chance = chance

    async def send(self, ask: Ask) -> Answer:
        answer = await self._inner.send(ask)
        head = answer.head
        waited_for = ask.need.urgency is Urgency.CLIENT and ask.method == "GET" and not ask.straight
        if head.status not in PASSING or not waited_for or head.get(b"retry-after"):
            return answer
        # Its connection is given back first: who waits for a second one while he holds the first may wait for others
        # that do the same.
        failed = await put_away(answer)
        await asyncio.sleep(PAUSE[0] + (PAUSE[1] - PAUSE[0]) * self._chance())
        try:
            return await self._inner.send(ask)
        except Error:
            return failed

    async def aclose(self) -> None:
        await self._inner.aclose()
