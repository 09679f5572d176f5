"""The seam for what several workers or replicas must agree on.

Three forms: alone (one process), local (the processes that share one `cache.dir`, over a Unix socket), and
Redis (replicas). Whoever loses the fleet is told by `lost`, empties its memory tier and goes on alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from proxy.model import Health, Invalidation

Listener = Callable[[Invalidation], None]
Lost = Callable[[], None]


class Fleet(Protocol):
    async def announce(self, invalidation: Invalidation) -> None:
        """Tell every member. The listener of this member has been called when this returns, and those of the
        other members that could be reached have been called or will be within a second. Never raises for a
        member or a medium that cannot be reached."""
        ...

    async def health(self) -> Health: ...

    async def aclose(self) -> None: ...
