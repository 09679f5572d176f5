"""Counters added up over the members of a local fleet: a member's part. It knows no counter's meaning.

What is handed over is kept until the hub has it in the sum. A member that is alone tells what it remembers of the sum
and its own on top, and hands that over when it has joined again.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Callable, Mapping

from proxy.fleet.messages import Message, line
from proxy.fleet.sums import Numbers, added, chunks, numbers, raised

Write = Callable[[bytes], None]

UNHEARD = 60
"""Messages that a hub may leave unanswered; what is counted then waits here, in one."""


class Tally:
    def __init__(self) -> None:
        self._source = secrets.token_hex(6)
        self._numbers = itertools.count(1)
        self._sum: Numbers = {}
        self._applied: Numbers = {}
        self._levels: Numbers = {}  # of all members
        self._own_levels: Numbers = {}
        self._waiting: Numbers = {}  # counted, and not sent yet
        self._unheard: dict[int, Numbers] = {}  # sent, and not known to be in the sum
        self._write: Write | None = None
        self._told = False  # whether the hub has told its sum
        self._news = asyncio.Event()

    def add(self, counts: Mapping[str, float], levels: Mapping[str, float]) -> None:
        """Hand over what was counted since the last time, and how high this member's levels are now."""
        added(self._waiting, counts)
        news = dict(levels) != self._own_levels
        self._own_levels = dict(levels)
        if self._waiting or news:
            self._hand_over(now=False)

    async def settled(self, patience: float) -> bool:
        """Wait until what was handed over is in the sum, and the sum is that of all members; was it in time?"""
        self._hand_over(now=True)
        try:
            async with asyncio.timeout(patience):
                while not self._told or self._waiting or self._unheard:
                    await self._news.wait()
        except TimeoutError:
            return False
        return True

    def sum(self) -> Numbers:
        """Over all members, dead ones too, and what of this one is not in there yet."""
        total = dict(self._sum)
        for more in (*self._unheard.values(), self._waiting):
            added(total, more)
        return total

    def levels(self) -> Numbers:
        """Over all members that are there; this one's own where it is alone."""
        return dict(self._levels if self._told else self._own_levels)

    def joined(self, write: Write) -> None:
        """There is a hub: it hears what this member remembers, and what it may have missed."""
        *most, last = chunks(self._sum)
        for part in most:
            write(line("recall", sum=part))
        *many, few = chunks(self._applied)
        for part in many:
            write(line("recall", applied=part))
        write(line("recall", sum=last, applied=few, last=True))
        self._write = write
        for number, counts in self._unheard.items():
            self._say(number, counts, now=False)
        if self._waiting or self._own_levels:
            self._hand_over(now=True)

    def parted(self) -> None:
        self._write = None
        self._told = False
        self._step()

    def heard(self, message: Message) -> bool:
        """Take a message of the hub; is it one for this part?"""
        match message.get("kind"):
            case "counted":
                added(self._sum, numbers(message.get("add")))
            case "sum":
                raised(self._sum, numbers(message.get("sum")))
                self._told = self._told or bool(message.get("last"))
            case _:
                return False
        raised(self._applied, numbers(message.get("applied")))
        if "levels" in message:
            self._levels = numbers(message["levels"])
        for number in [each for each in self._unheard if each <= self._applied.get(self._source, 0)]:
            del self._unheard[number]
        self._step()
        return True

    def _hand_over(self, *, now: bool) -> None:
        if self._write is None or len(self._unheard) >= UNHEARD:
            return
        waiting, self._waiting = self._waiting, {}
        for part in chunks(waiting):
            number = next(self._numbers)
            self._unheard[number] = part
            self._say(number, part, now=now)

    def _say(self, number: int, counts: Numbers, *, now: bool) -> None:
        assert self._write is not None
        self._write(line("count", source=self._source, n=number, add=counts, levels=self._own_levels, now=now))

    def _step(self) -> None:
        waiting, self._news = self._news, asyncio.Event()
        waiting.set()
