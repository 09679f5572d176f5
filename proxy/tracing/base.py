"""The seam to traces: what is around a request, and around what it causes upstream."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any, Protocol

from proxy.model import Host, Verdict
from proxy.upstream.base import Upstream


class Seen(Protocol):
    """What became of a request, as the edge notes it; complete when the request has ended. `endpoint`: its row, ""
    where it has none. `status`: 0 where its client left before an answer."""

    endpoint: str
    path: str
    verdict: Verdict
    collapsed: bool
    status: int
    size: int


class Tracing(Protocol):
    @property
    def on(self) -> bool:
        """Whether each request is wanted, so that none may be answered without coming by here."""
        ...

    def answering(self, scope: Mapping[str, Any], seen: Seen) -> contextlib.AbstractContextManager[None]:
        """What is around the answer to a request; whatever is begun inside is caused by it."""
        ...

    def around(self, upstream: Upstream, origins: Mapping[Host, str]) -> Upstream:
        """`upstream`, of which each request is told, with the request that caused it."""
        ...

    async def aclose(self) -> None:
        """Send what is not sent yet, within a few seconds."""
        ...


class Untraced:
    """Nobody wants traces."""

    on = False
    _nothing = contextlib.nullcontext()

    def answering(self, scope: Mapping[str, Any], seen: Seen) -> contextlib.AbstractContextManager[None]:
        return self._nothing

    def around(self, upstream: Upstream, origins: Mapping[Host, str]) -> Upstream:
        return upstream

    async def aclose(self) -> None:
        return None
