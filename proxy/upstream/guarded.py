"""Leaves a host alone that has failed several times in a row, so that nobody waits for a timeout again and again.

It has the shape of what it wraps, and a breaker for each host. Each worker learns for itself. Requests in their
caller's name are sent all the same, and show whether it works again.
"""

from __future__ import annotations

import asyncio
import math

from proxy.errors import Busy, Down, UpstreamError
from proxy.model import Host
from proxy.rules.breaker import Breaker
from proxy.rules.bucket import Urgency
from proxy.upstream.base import FAILING, Answer, Ask, Upstream


class GuardedUpstream:
    def __init__(self, inner: Upstream) -> None:
        self._inner = inner
        self._breakers = {host: Breaker() for host in Host}
        self._failed: dict[Host, str] = {}  # what was answered with a failure at last

    async def send(self, ask: Ask) -> Answer:
        breaker = self._breakers[ask.host]
        own = ask.need.urgency is not Urgency.CALLER
        if own:
            if not breaker.admits(_now()):
                raise _down(ask.host, breaker.rest(_now()))
            if breaker.is_open():  # this one is the probe: who has a copy need not wait for what comes of it
                ask.need.doubt(FAILING)
        try:
            answer = await self._inner.send(ask)
        except Busy:
            raise  # that is our doing
        except UpstreamError:
            breaker.failed(_now())
            raise
        if answer.head.status < 500:
            breaker.succeeded()
            self._failed.pop(ask.host, None)
        elif own and self._failed.get(ask.host) != ask.target:
            # The same one again says nothing new about its host; and a change may fail by itself, as where
            # crates.io is read-only.
            self._failed[ask.host] = ask.target
            breaker.failed(_now())
        return answer

    async def aclose(self) -> None:
        await self._inner.aclose()

    def resting(self) -> dict[Host, float]:
        """The hosts that are left alone, and for how many seconds yet; 0 where the next request is a probe."""
        return {host: breaker.rest(_now()) for host, breaker in self._breakers.items() if breaker.is_open()}


def _down(host: Host, seconds: float) -> Down:
    after = max(1, math.ceil(seconds))
    return Down(
        f"the {host.value} host of crates.io fails at the moment and is not asked; try again in {after} s",
        retry_after=after,
    )


def _now() -> float:
    return asyncio.get_running_loop().time()
