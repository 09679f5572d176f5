"""Remembers how each upstream host last answered, for `/readyz`. A wrapper with the shape of what it wraps."""

from __future__ import annotations

from proxy.errors import Busy, UpstreamError
from proxy.model import Host
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

    def fault(self, host: Host) -> str | None:
        """What is wrong with a host: from the first failure until the next success."""
        return self._faults.get(host)
