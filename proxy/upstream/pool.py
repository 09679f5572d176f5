"""The connections to one host. To take one and to give it back costs the same however many there are.

It bounds nothing and nobody waits here: whoever uses it says how many requests may be under way.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque

import httpcore

from proxy.upstream.connecting import Way
from proxy.upstream.exchange import Connection, Heard, Sending
from proxy.upstream.line import Line
from proxy.upstream.multiplex import Multiplex


class Pool:
    """`way` makes the connections. `kept`: so many idle ones stay open, for so many seconds (`idle`)."""

    def __init__(self, way: Way, *, kept: int, idle: float) -> None:
        self.way = way
        self._kept = kept
        self._idle_for = idle
        self._open: set[Connection] = set()
        self._idle: deque[Line] = deque()  # on the right the one that was used last
        self._shared: Multiplex | None = None
        self._one_each = not way.offering  # the host was last seen to speak HTTP/1.1
        self._finding_out = asyncio.Lock()

    async def send(self, sending: Sending) -> Reply:
        """The answer, when its head is there. Raises what `Connection.ask` raises."""
        while True:
            held = await self._taken() or await self._connected(sending)
            sending.reused = held.served
            try:
                return Reply(self, held, await held.ask(sending))
            except httpcore.ConnectionNotAvailable:
                if self._shared is held:  # it was thought to take one more
                    self._shared = None
                await self.given_back(held)
            except (httpcore.NetworkError, httpcore.RemoteProtocolError):
                await self.given_back(held)
                # Where upstream has closed one that was idle it closes others: who asks again gets a new one.
                while held.served and self._idle:
                    await self._closed(self._idle.popleft())
                raise
            except BaseException:
                await self.given_back(held)
                raise

    async def aclose(self) -> None:
        closing, self._open, self._shared = self._open, set(), None
        self._idle.clear()
        for held in closing:
            await held.aclose()

    async def given_back(self, held: Connection, *, distrusted: bool = False) -> None:
        """A request is through with its connection, however that went. What was `distrusted` is closed, but where each
        answer says to which request it is one (HTTP/2)."""
        if not held.rest() or held not in self._open or (distrusted and not held.many):
            await self._closed(held)
        elif isinstance(held, Line):
            self._idle.append(held)
            # The one that has been idle for longest is looked at, so that none stays for nothing.
            if len(self._idle) > self._kept or self._idle[0].rested < held.rested - self._idle_for:
                await self._closed(self._idle.popleft())

    async def _taken(self) -> Connection | None:
        shared = self._shared
        if shared is not None:
            if shared.usable():
                return shared
            self._shared = None
            if not shared.rest():
                await self._closed(shared)
        oldest = asyncio.get_running_loop().time() - self._idle_for
        while self._idle:
            line = self._idle.pop()
            if line.rested >= oldest and line.usable():
                return line
            await self._closed(line)
        return None

    async def _connected(self, sending: Sending) -> Connection:
        async with asyncio.timeout_at(None if sending.until == math.inf else sending.until):
            if not self._one_each:
                async with self._finding_out:  # while the first one connects nobody knows what it will speak
                    if self._shared is not None and self._shared.usable():
                        return self._shared
                    if not self._one_each:
                        return await self._made(sending.patience)
            return await self._made(sending.patience)

    async def _made(self, patience: float) -> Connection:
        wire, multiplexed = await self.way.connected(patience)
        self._one_each = not multiplexed
        made: Connection
        if multiplexed:
            made = self._shared = Multiplex(wire, self.way.origin, self._idle_for)
        else:
            made = Line(wire)
        self._open.add(made)
        return made

    async def _closed(self, held: Connection) -> None:
        self._open.discard(held)
        if self._shared is held:
            self._shared = None
        await held.aclose()


class Reply:
    """A `Heard`, with which its connection is given back."""

    def __init__(self, pool: Pool, held: Connection, heard: Heard) -> None:
        self.status, self.fields, self.framed, self.piece = heard.status, heard.fields, heard.framed, heard.piece
        self._pool = pool
        self._held: Connection | None = held
        self._heard = heard
        self._distrusted = False

    def distrust(self) -> None:
        """The connection serves nobody after this."""
        self._distrusted = True

    async def aclose(self) -> None:
        held, self._held = self._held, None
        if held is None:
            return
        try:
            await self._heard.aclose()
        finally:
            await self._pool.given_back(held, distrusted=self._distrusted)
