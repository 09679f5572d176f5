"""The seam to crates.io: one method. What limits, guards or forbids wraps it and has the same shape."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass
from typing import Protocol

from proxy.model import Head, Headers, Host

Interim = Callable[[int, Headers], None]
"""Is told of each interim answer (1xx) but 100 and 101, before the final one."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A request to one of the configured hosts. `target` is path and query, already in canonical form.

    `headers` go out as they are (plus Host); `body` is streamed, None for none. `patience` is how many seconds
    may pass without a byte, None for the setting `upstream.read_timeout`. `straight`: its client is at the other
    end of the exchange and may dawdle, so it takes no connection from those that everybody shares. `interim`: that
    client's ear for interim answers; other exchanges have none.
    """

    host: Host
    method: str
    target: str
    headers: Headers = ()
    body: AsyncIterator[bytes] | None = None
    patience: float | None = None
    straight: bool = False
    interim: Interim | None = None


class Answer(Protocol):
    """An upstream answer whose body is still to be read. Whoever got it closes it."""

    @property
    def head(self) -> Head: ...

    def body(self) -> AsyncGenerator[bytes]:
        """The bytes as they come, in pieces of at most 256 KiB, never decoded; to be iterated once.

        Raises `Faulty` where the body is truncated or the connection breaks, `Late` where it stalls.
        """
        ...

    async def aclose(self) -> None: ...


class Upstream(Protocol):
    async def send(self, ask: Ask) -> Answer:
        """Send one request; return when the head of the answer is there. Redirects are not followed.

        Raises `Faulty` (refused, reset, garbage), `Late` (no connection, no byte), `Offline` (may not ask).
        """
        ...

    async def aclose(self) -> None: ...
