"""Remembers how each upstream host last answered, for `/readyz`. A wrapper with the shape of what it wraps."""

from __future__ import annotations

from collections.abc import Awaitable

from proxy.errors import Busy, UpstreamError
from proxy.model import Health, Host, State
from proxy.upstream.base import Answer, Ask, Upstream


class WatchedUpstream:
    def __init__(self, inner: Upstream) -> None:
        self._inner = inner
        self._faults: dict[Host, str] = {}

    async def send(self, ask: Ask) -> Answer:
        try:
            answer = await self._inner.send(ask)
        except Busy:
            raise  # that is our doing
        except UpstreamError as error:
            self._faults[ask.host] = error.detail
            raise
        if answer.head.status >= 500:
            self._faults[ask.host] = f"it answered with status {answer.head.status}"
        else:
            self._faults.pop(ask.host, None)
        return answer

    async def aclose(self) -> None:
        await self._inner.aclose()

    def checks(self) -> list[Awaitable[Health]]:
        """One line a host; degraded from the first failure until the next success."""
        return [self._health(host) for host in Host]

    async def _health(self, host: Host) -> Health:
        fault = self._faults.get(host)
        name = f"upstream {host.value}"
        return Health(name, State.OK) if fault is None else Health(name, State.DEGRADED, fault)
