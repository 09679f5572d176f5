"""The budget as a member of a local fleet has it: the hub decides, and where there is none, a part of it is its own.

It knows what to say to a hub, not where one is. The part is one of as many as there are workers, and has no burst:
whoever cannot see what the others spend must not spend it with them.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
from functools import partial
from typing import Any

from proxy.fleet.base import Hold, Standing, Turn
from proxy.fleet.claims import Say
from proxy.fleet.journal import Nowhere
from proxy.fleet.messages import Message, line
from proxy.fleet.purse import Names, Purse, Spent
from proxy.fleet.treasurer import hold_of, of_hold
from proxy.model import Host
from proxy.rules.bucket import Booked, Limits, Refused, Urgency

SILENCE = 1.0
"""Seconds for which a hub may say nothing at all, and a member may be without one."""
GRACE = 0.05
"""Seconds to read what has come already."""
ANSWERS = ("booked", "refused", "standing", "bookings")
ALONE = "the other workers cannot be reached: each takes its own part of the budget"


class Bookings:
    """A `Budget`. `workers`: how many processes there are to divide it among, where there is no hub."""

    def __init__(self, limits: Limits, workers: int = 1) -> None:
        self._own = Purse(limits, Nowhere(), _now())  # what this member knows of, whoever granted it
        self._workers = workers
        self._names = Names()
        self._numbers = itertools.count()
        self._asked: dict[str, asyncio.Future[Message | None]] = {}
        self._send: Say | None = None
        self._joined = asyncio.Event()
        self._parted_at = -math.inf
        self._heard_at = -math.inf
        self._mute = False  # the hub did not answer in time, and has not said anything since

    def joined(self, send: Say) -> None:
        self._send = send
        self._mute = False
        self._joined.set()
        for host, hold in self._own.holds(_now()).items():
            send(of_hold("hold", host, hold))
        self._tell_all()

    def parted(self) -> None:
        self._send = None
        self._parted_at = _now()
        self._joined.clear()
        for answer in self._asked.values():
            if not answer.done():
                answer.set_result(None)

    def heard(self, message: Message) -> None:
        self._heard_at = _now()
        if self._mute:
            self._mute = False
            self._tell_all()
        if message.get("kind") == "held":
            found = hold_of(message)
            if found is not None:
                self._own.hold(_now(), *found)
            return
        answer = self._asked.get(str(message.get("id")))
        if answer is not None and not answer.done() and message.get("kind") in ANSWERS:
            answer.set_result(message)

    async def book(self, urgency: Urgency, parts: int = 0) -> Turn | Refused:
        """As in `Budget`. `parts`: the machine may take only one of so many."""
        message = await self._answer("book", urgency=urgency, parts=parts)
        match message:
            case {
                "kind": "booked",
                "wait": float() | int() as wait,
                "at": float() | int() as at,
                "name": str() as name,
            }:
                self._own.note(_now(), name, float(at))
                return Turn(max(0.0, float(wait)), partial(self.give_back, name))
            case {"kind": "refused", "retry_after": float() | int() as seconds}:
                return Refused(float(seconds))
        now, name = _now(), self._names.new()
        answer = self._own.book(now, urgency, self._workers * max(1, parts), name)
        if isinstance(answer, Booked):
            self._tell(name, answer.at)
            return Turn(answer.at - now, partial(self.give_back, name))
        return answer

    def spend(self) -> None:
        self.note(self._names.new(), _now())

    def note(self, name: str, at: float) -> None:
        """One was booked elsewhere under that name, for that time of the loop: it counts here, too."""
        self._own.note(_now(), name, at)
        self._tell(name, at)

    async def known(self) -> list[Spent]:
        """What this machine knows to count yet, as far as it can be asked."""
        found = dict(self._own.known(_now()))
        after: tuple[str, float | None] = ("", None)
        while True:
            match await self._answer("bookings", after=after):
                case {"kind": "bookings", "spent": [*spent], "more": bool() as more}:
                    found |= {str(name): float(at) for name, at in spent}
                    if not more:
                        return list(found.items())
                    after = (str(spent[-1][0]), float(spent[-1][1]))
                case _:
                    return list(found.items())

    def give_back(self, name: str) -> None:
        self._own.give_back(name)
        if self._send is not None:
            self._send(line("give back", name=name))

    def hold(self, host: Host, hold: Hold) -> None:
        if self._own.hold(_now(), host, hold) and self._send is not None:
            self._send(of_hold("hold", host, hold))

    def held(self, host: Host) -> Hold | None:
        return self._own.held(_now(), host)

    async def standing(self) -> Standing:
        own = self._own.standing(_now(), ALONE, self._workers)
        match await self._answer("standing"):
            case {"kind": "standing", "free": int() as free, "recent": int() as recent}:
                return Standing(0 if Host.API in own.holds else free, recent, own.holds)
        return own

    def _tell(self, name: str, at: float) -> None:
        if self._send is not None and not self._mute:
            self._send(line("spent", name=name, at=at))

    def _tell_all(self) -> None:
        """The hub may be another, or have been killed with words of ours unread: it takes each of them once."""
        for each in self._own.known(_now()):
            self._tell(*each)

    async def _answer(self, kind: str, **fields: Any) -> Message | None:
        """What the hub says, or the next one where it dies; None where there is none or it is silent."""
        while await self._met():
            assert self._send is not None
            number = str(next(self._numbers))
            answer: asyncio.Future[Message | None] = asyncio.get_running_loop().create_future()
            self._asked[number] = answer
            try:
                self._send(line(kind, id=number, **fields))
                if not await self._in_time(answer):
                    self._mute = True
                    return None
            finally:
                del self._asked[number]
            if (message := answer.result()) is not None:
                return message
        return None

    async def _met(self) -> bool:
        """Whether there is a hub that speaks; the next one is waited for, since it takes over in a moment."""
        if self._mute:
            return False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(self._parted_at + SILENCE if self._send is None else None):
                await self._joined.wait()
        return self._send is not None

    async def _in_time(self, answer: asyncio.Future[Message | None]) -> bool:
        """Whether the hub answers. As long as it says anything, it has only much to do."""
        asked = _now()
        while (left := max(asked, self._heard_at) + SILENCE - _now()) > 0:
            await asyncio.wait({answer}, timeout=left)
            if answer.done():
                return True
        # It may be this process that had much to do, and has not read yet what came.
        await asyncio.wait({answer}, timeout=GRACE)
        return answer.done()


def _now() -> float:
    return asyncio.get_running_loop().time()
