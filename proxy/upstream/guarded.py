"""Leaves a host alone that has failed several times in a row, so that nobody waits for a timeout again and again.

It has the shape of what it wraps, and two breakers for each host: a host may begin every answer and end none, so that
the beginning of one says nothing about ends. Each worker learns for itself. Requests in their caller's name are sent
all the same, and show whether it works again.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncGenerator

from proxy.errors import Busy, Down, UpstreamError
from proxy.model import Host
from proxy.rules.breaker import Breaker
from proxy.rules.bucket import Urgency
from proxy.upstream.base import FAILING, Answer, Ask, Upstream, Wrapper


class GuardedUpstream:
    def __init__(self, inner: Upstream) -> None:
        self._inner = inner
        self._lines = {host: _Line() for host in Host}
        self._failed: dict[Host, str] = {}  # what was answered with a failure at last

    async def send(self, ask: Ask) -> Answer:
        line = self._lines[ask.host]
        own = ask.need.urgency is not Urgency.CALLER
        if own:
            if not line.admits(_now()):
                raise _down(ask.host, line.rest(_now()))
            if line.is_open():  # this one is the probe: who has a copy need not wait for what comes of it
                ask.need.doubt(FAILING)
        try:
            answer = await self._inner.send(ask)
        except Busy:
            raise  # that is our doing
        except UpstreamError:
            line.heads.failed(_now())
            raise
        if answer.head.status < 500:
            line.heads.succeeded()
            self._failed.pop(ask.host, None)
            return _Guarded(answer, line.bodies)
        if own and self._failed.get(ask.host) != ask.target:
            # The same one again says nothing new about its host; and a change may fail by itself, as where
            # crates.io is read-only.
            self._failed[ask.host] = ask.target
            line.heads.failed(_now())
        return answer

    async def aclose(self) -> None:
        await self._inner.aclose()

    def resting(self) -> dict[Host, float]:
        """The hosts that are left alone, and for how many seconds yet; 0 where the next request is a probe."""
        return {host: line.rest(_now()) for host, line in self._lines.items() if line.is_open()}


class _Line:
    """What is known of one host: whether it begins its answers, and whether it ends them."""

    def __init__(self) -> None:
        self.heads = Breaker()
        self.bodies = Breaker()

    def is_open(self) -> bool:
        return self.heads.is_open() or self.bodies.is_open()

    def rest(self, now: float) -> float:
        return max(self.heads.rest(now), self.bodies.rest(now))

    def admits(self, now: float) -> bool:
        if self.rest(now) > 0:
            return False
        return self.heads.admits(now) and self.bodies.admits(now)


class _Guarded(Wrapper):
    """An answer whose end is heard of."""

    def __init__(self, answer: Answer, bodies: Breaker) -> None:
        super().__init__(answer)
        self._bodies = bodies

    async def body(self) -> AsyncGenerator[bytes]:
        try:
            async with contextlib.aclosing(self._answer.body()) as pieces:
                async for piece in pieces:
                    yield piece
        except UpstreamError:
            self._bodies.failed(_now())
            raise
        self._bodies.succeeded()


def _down(host: Host, seconds: float) -> Down:
    after = max(1, math.ceil(seconds))
    return Down(
        f"the {host.value} host of crates.io fails at the moment and is not asked; try again in {after} s",
        retry_after=after,
    )


def _now() -> float:
    return asyncio.get_running_loop().time()
