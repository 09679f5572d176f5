"""An exchange with a host over whatever version of HTTP: what is sent, and the shape of what comes and of what it goes
over.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from proxy.model import Headers
from proxy.upstream.base import Interim


@dataclass(eq=False, repr=False, slots=True)  # what may hold a token is in no traceback
class Sending:
    """A request as it goes out. `fields` begin with Host and frame the body, where there is one.

    patience: seconds without a byte. until: when the head of the answer has to be there, in the loop's time. reused:
    is said by whoever sends it: it went over a connection that had served before.
    """

    method: bytes
    target: bytes
    fields: Sequence[tuple[bytes, bytes]]
    patience: float
    body: AsyncIterator[bytes] | None = None
    interim: Interim | None = None
    until: float = math.inf
    reused: bool = False


class Heard(Protocol):
    """An answer whose head is there. `fields` have their names in lower case; `framed`: where its body ends is said."""

    @property
    def status(self) -> int: ...

    @property
    def fields(self) -> Headers: ...

    @property
    def framed(self) -> bool: ...

    async def piece(self) -> bytes:
        """The next of the body; none at its end."""
        ...

    async def aclose(self) -> None:
        """What is left of it is not wanted."""
        ...


class Connection(Protocol):
    """many: it takes many requests at a time. served: it has answered one."""

    many: bool
    served: bool

    async def ask(self, sending: Sending) -> Heard:
        """Returns when the head is there. Raises httpcore's errors (`ConnectionNotAvailable`: it takes no more),
        `TimeoutError`, and what h2, ssl and the request's body raise."""
        ...

    def usable(self) -> bool:
        """Whether it may be asked, as far as this end can know."""
        ...

    def rest(self) -> bool:
        """An answer is through. False where nobody is on it any more and nobody can be."""
        ...

    async def aclose(self) -> None: ...
