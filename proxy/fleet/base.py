"""The seams for what several workers or replicas must agree on: the fleet itself, and the budget that it shares.

Two forms of each: local (the processes that share one `cache.dir`, be it one or many, over a Unix socket) and Redis
(replicas). Whoever loses the fleet is told by `lost`, empties its memory tier and goes on alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from proxy.model import Health, Host, Invalidation
from proxy.rules.bucket import Refused, Urgency
from proxy.rules.holds import Why

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

    @property
    def alone(self) -> bool:
        """Whether this member had nobody to wait for, and there is no other: nobody else is likely to have done the
        work since this member last looked."""
        ...

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


@dataclass(frozen=True, slots=True)
class Turn:
    """A booked request: it may go in `wait` seconds. `give_back` where it will not go after all."""

    wait: float
    give_back: Callable[[], None] = lambda: None


@dataclass(frozen=True, slots=True)
class Hold:
    """A host is not asked: for how many seconds yet, and why; in whose words, where there are some."""

    seconds: float
    why: Why
    words: str = ""


@dataclass(frozen=True, slots=True)
class Standing:
    """What may be asked now. free: API requests that could go at once; recent: those of the last ten minutes, and
    those that are booked. alone: why this member cannot see what the others spend, "" where it can."""

    free: int
    recent: int
    holds: Mapping[Host, Hold]
    alone: str = ""


class Budget(Protocol):
    """What the whole fleet may ask of upstream. Who cannot reach the fleet goes on with a part that is safe."""

    async def book(self, urgency: Urgency) -> Turn | Refused:
        """Book a request to the API, in the order of asking over the whole fleet; refused, too, while it is held.

        Takes no longer than a second more than the medium does. `Urgency.CALLER` is for `spend`."""
        ...

    def spend(self) -> None:
        """A request to the API goes now, in its caller's name: it is counted, and waits for nothing."""
        ...

    def hold(self, host: Host, hold: Hold) -> None:
        """Ask a host nothing for so many seconds. This member knows at once, every other within a second, and
        whoever starts later. A hold that lasts longer already stays."""
        ...

    def held(self, host: Host) -> Hold | None:
        """The hold on a host that this member knows of."""
        ...

    async def standing(self) -> Standing: ...
