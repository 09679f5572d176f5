"""The seam for what several workers or replicas must agree on.

Two forms: local (the processes that share one `cache.dir`, be it one or many, over a Unix socket) and Redis
(replicas). Whoever loses the fleet is told by `lost`, empties its memory tier and goes on alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from proxy.model import Health, Invalidation

Listener = Callable[[Invalidation], None]
Lost = Callable[[], None]
Told = Callable[[str], Awaitable[None]]
"""What somebody who waits for a lease is told by who holds it."""


async def deaf(word: str) -> None:
    """The ear of those who need no word."""


class Lease(Protocol):
    """A turn at something that one member at a time should do. It is an economy and no lock: who waited in vain,
    cannot reach the fleet, or was held for dead and has lost its lease to another, does the work all the same.
    Hence the work must do no harm when it is done twice, as storing what upstream gave does none."""

    def done(self) -> None:
        """What the others wait for is stored: at the end of this lease all are woken at once, none holds it."""
        ...

    def tell(self, word: str) -> None:
        """Tell all who wait, and those who will, where the medium carries it. Of several words the last counts."""
        ...


class Fleet(Protocol):
    async def announce(self, invalidation: Invalidation) -> None:
        """Tell every member. The listener of this member has been called when this returns, and those of the
        other members that could be reached have been called or will be within a second. Never raises for a
        member or a medium that cannot be reached."""
        ...

    def lease(self, key: str, patience: float, told: Told = deaf) -> AbstractAsyncContextManager[Lease]:
        """Wait for a turn at `key`, then look whether the work is done already.

        The first has it at once; the others are woken when it is over, the one who waited longest first or, after
        `done`, all. The lease of a member that dies is over: at once in a local fleet, within seconds over Redis.
        Nobody waits longer than `patience` seconds without a word from who holds it, nor longer than a second for
        a fleet that cannot be reached. `told` may raise; then the wait is over.
        """
        ...

    async def health(self) -> Health: ...

    async def aclose(self) -> None: ...
