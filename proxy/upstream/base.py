"""The seam to crates.io: one method. What limits, guards or forbids wraps it and has the same shape."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Protocol

from proxy.model import Head, Headers, Host
from proxy.rules.bucket import Urgency

THROTTLED, FAILING = "throttled", "stale-if-error"
"""Why an answer will not be there soon: `detail` of Cache-Status for the copy that is served instead."""


_RANK = tuple(Urgency)


class Need:
    """For whom a request is made. It may become more urgent while the request is under way, when somebody joins.

    `doubted` becomes true when the answer will not be there soon, so that whoever has something else to serve need
    not wait for it; its result says why, as the `detail` of Cache-Status.

    outdated: what else there is to serve is known to lack something, so that the answer is worth its turn. due: when
    its turn comes, in the loop's time. refused: seconds after which it is worth another attempt, where it could not
    be sent; 0 else.
    """

    __slots__ = ("_doubted", "due", "outdated", "refused", "urgency")

    def __init__(self, urgency: Urgency = Urgency.CLIENT) -> None:
        self.urgency = urgency
        self.outdated = False
        self.due = -math.inf
        self.refused = 0.0
        self._doubted: asyncio.Future[str] | None = None

    def by_the_way(self) -> Need:
        """The same answer for the same people, but only where it costs nobody anything, whoever else joins."""
        other = Need(Urgency.REFRESH)
        other._doubted = self.doubted
        return other

    def raise_to(self, urgency: Urgency) -> None:
        """Somebody has joined it. It becomes no less urgent, and nobody else's than it was."""
        if self.urgency is not Urgency.CALLER and _RANK.index(urgency) > _RANK.index(self.urgency):
            self.urgency = urgency

    @property
    def doubted(self) -> asyncio.Future[str]:
        if self._doubted is None:
            self._doubted = asyncio.get_running_loop().create_future()
        return self._doubted

    def doubt(self, why: str) -> None:
        if not self.doubted.done():
            self.doubted.set_result(why)


Interim = Callable[[int, Headers], None]
"""Is told of each interim answer (1xx) but 100 and 101, before the final one."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A request to one of the configured hosts. `target` is path and query, already in canonical form.

    `headers` go out as they are (plus Host); `body` is streamed, None for none. `patience` is how many seconds
    may pass without a byte, None for the setting `upstream.read_timeout`. `straight`: its client is at the other
    end of the exchange and may dawdle, so it takes no connection from those that everybody shares. `need`: for whom
    it is made; what goes in its caller's name waits for nothing and speaks for nobody else. `interim`: the client's
    ear for interim answers, where it is straight. `endpoint`: the row on whose behalf it is sent, for the books.
    """

    host: Host
    method: str
    target: str = field(repr=False)  # what may hold a token is in no traceback
    headers: Headers = field(default=(), repr=False)
    body: AsyncIterator[bytes] | None = field(default=None, repr=False)
    patience: float | None = None
    straight: bool = False
    need: Need = field(default_factory=Need, compare=False)
    interim: Interim | None = None
    endpoint: str = ""


class Answer(Protocol):
    """An upstream answer whose body is still to be read. Whoever got it closes it."""

    @property
    def head(self) -> Head: ...

    def body(self) -> AsyncGenerator[bytes]:
        """The bytes as they come, in pieces of at most 256 KiB, never decoded; to be iterated once.

        Raises `Faulty` where the body is truncated or the connection breaks, `Late` where it stalls.
        """
        ...

    def distrust(self) -> None:
        """It is not believed, however well it was framed: whatever else comes over its connection, which may be out of
        step with what is asked there, is nobody's answer. To be said before it is closed."""
        ...

    async def aclose(self) -> None: ...


class Wrapper:
    """An `Answer` as the one that it wraps; what it does besides, its subclass says."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    @property
    def head(self) -> Head:
        return self._answer.head

    def body(self) -> AsyncGenerator[bytes]:
        return self._answer.body()

    def distrust(self) -> None:
        self._answer.distrust()

    async def aclose(self) -> None:
        await self._answer.aclose()


class Upstream(Protocol):
    async def send(self, ask: Ask) -> Answer:
        """Send one request; return when the head of the answer is there. Redirects are not followed.

        Raises `Faulty` (refused, reset, garbage), `Late` (no connection, no byte), `Down` (it fails again and again),
        `Throttled` (not now) or `Offline` (never).
        """
        ...

    async def aclose(self) -> None: ...
