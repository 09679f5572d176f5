"""The leases that a member of a local fleet holds or waits for. It knows what to say to a hub, not where one is.

They outlive a hub: the next one is told of them again. Until there is one, those who wait are patient for a
moment, because that is how long the others take to choose it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import math
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from proxy.fleet.base import Lease, Told
from proxy.fleet.leases import Turn
from proxy.fleet.messages import Message, line

BOUND = 1.0
"""Seconds that a hub may take to say anything at all, and that a fleet may be without one."""

Say = Callable[[bytes], None]


@dataclass(eq=False)
class _Claim:
    number: str
    key: str
    say: Say
    turn: Turn | None = None  # None: nothing has been heard about it
    word: str | None = None
    alone: bool = False
    stored: bool = False
    woken: asyncio.Event = field(default_factory=asyncio.Event)

    def line(self) -> bytes:
        return line("lease", id=self.number, key=self.key, held=self.turn is Turn.HELD)

    def done(self) -> None:
        self.stored = True

    def tell(self, word: str) -> None:
        self.say(line("word", id=self.number, word=word))


class Claims:
    def __init__(self, alone: Callable[[], bool] = lambda: False) -> None:
        """`alone`: whether this member is the hub's only one."""
        self._alone = alone
        self._claims: dict[str, _Claim] = {}
        self._numbers = itertools.count()
        self._send: Say | None = None
        self._parted_at = -math.inf
        self._mute = False  # the hub did not answer in time, and has not said anything since

    def __len__(self) -> int:
        return len(self._claims)

    def joined(self, send: Say) -> None:
        """There is a hub, and it knows nothing yet."""
        self._send = send
        self._mute = False
        for claim in self._claims.values():
            self._say(claim.line())

    def parted(self) -> None:
        self._send = None
        self._parted_at = asyncio.get_running_loop().time()
        for claim in self._claims.values():
            if claim.turn is Turn.WAIT:
                claim.turn = None
                claim.woken.set()

    def heard(self, message: Message) -> None:
        self._mute = False
        claim = self._claims.get(str(message.get("id")))
        match message:
            case {"kind": "turn", "turn": Turn.WAIT | Turn.HELD | Turn.DONE as turn} if claim is not None:
                if claim.turn is not Turn.HELD:  # a hub that takes over may see it otherwise; it was held all the same
                    claim.alone = turn == Turn.HELD and claim.turn is None and self._alone()
                    claim.turn = Turn(turn)
            case {"kind": "word", "word": str() as word} if claim is not None:
                claim.word = word
            case _:
                return
        claim.woken.set()

    @contextlib.asynccontextmanager
    async def lease(self, key: str, patience: float, told: Told) -> AsyncIterator[Lease]:
        """As in `Fleet`. A key has any length, a message has not."""
        claim = _Claim(str(next(self._numbers)), hashlib.sha256(key.encode()).hexdigest(), self._say)
        self._claims[claim.number] = claim
        try:
            await self._wait(claim, patience, told)
            yield claim
        finally:
            del self._claims[claim.number]
            self._say(line("release", id=claim.number, done=claim.stored))

    async def _wait(self, claim: _Claim, patience: float, told: Told) -> None:
        loop = asyncio.get_running_loop()
        asked = loop.time()
        heard = asked  # when there was the last word of who holds it
        self._say(claim.line())
        while claim.turn not in (Turn.HELD, Turn.DONE):
            until = heard + patience if claim.turn is Turn.WAIT else min(heard + patience, self._hub_by(asked))
            try:
                async with asyncio.timeout_at(until):
                    await claim.woken.wait()
            except TimeoutError:
                if claim.turn is None and self._send is not None and loop.time() >= asked + BOUND:
                    self._mute = True
                return  # alone, then
            claim.woken.clear()
            if claim.word is not None:
                heard = loop.time()
                word, claim.word = claim.word, None
                await told(word)

    def _hub_by(self, asked: float) -> float:
        """Until when the hub must have said something to who asked then."""
        if self._mute:
            return -math.inf
        return BOUND + (max(asked, self._parted_at) if self._send is not None else self._parted_at)

    def _say(self, data: bytes) -> None:
        if self._send is not None:
            self._send(data)
