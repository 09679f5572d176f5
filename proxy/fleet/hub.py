"""The member to which all members of a local fleet are connected: passes on what one of them says.

It remembers nothing of what it passes on, except who has yet to hear it, who holds which lease (`leases`), and what
of the budget is spent (`purse`), and what was counted (`sums`).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from proxy.fleet import place
from proxy.fleet.leases import Leases
from proxy.fleet.link import FarMember, Member, Near
from proxy.fleet.messages import LONGEST, Message, invalidation, line, of_invalidation, understood
from proxy.fleet.purse import Purse
from proxy.fleet.sums import Sums
from proxy.fleet.treasurer import Treasurer

FORGET = 2.0
"""Seconds until nobody asks any more whether an announcement was heard: announcers wait for one."""
SETTLES = 0.3
"""Seconds until the members of a hub that died have come to the one that takes over; most are there in 0.02."""


@dataclass(eq=False)
class Announcement:
    announcer: Member
    number: object  # the announcer's own, given back as it is
    deaf: set[Member]  # members that have not said yet that they heard it


class Hub:
    def __init__(self, claim: place.Claim, purse: Purse, *, successor: bool) -> None:
        self._claim = claim
        self._purse = purse
        self._server: asyncio.Server | None = None
        self._closed = False
        self._serving: set[asyncio.Task[None]] = set()
        self._members: set[Member] = set()
        self._numbers = itertools.count()
        self._announcements: dict[object, Announcement] = {}
        self._leases: Leases[Member] = Leases(self._send, settling=successor)
        self._sums: Sums[Member] = Sums(self._send)
        if successor:
            asyncio.get_running_loop().call_later(SETTLES, self._leases.settled)
        self._treasurer: Treasurer[Member] = Treasurer(purse, self._send, self._tell)
        self._kinds: dict[str, Callable[[Member, Message], None]] = {
            "invalidation": self._announced,
            "heard": self._heard,
            "lease": self._leases.asked,
            "word": self._leases.told,
            "release": self._leases.released,
            "book": self._treasurer.booked,
            "give back": self._treasurer.given_back,
            "spent": self._treasurer.told,
            "bookings": self._treasurer.recalled,
            "hold": self._treasurer.held,
            "standing": self._treasurer.asked,
            "recall": self._sums.recalled,
            "count": self._sums.counted,
        }

    @classmethod
    async def opened(cls, path: Path, purse: Callable[[], Purse], *, successor: bool = False) -> Hub | None:
        """None where another process is the hub. Raises OSError where there can be none. `purse` opens what the hub
        before this one left. `successor`: others may hold leases that it granted."""
        claim = place.claimed(path)
        if claim is None:
            return None
        hub = cls(claim, purse(), successor=successor)
        try:
            hub._server = await asyncio.start_unix_server(hub._accepted, sock=claim.sock, limit=LONGEST)
        except BaseException:
            hub._purse.close()
            claim.give_up()
            raise
        return hub

    async def aclose(self) -> None:
        self._closed = True
        self._sums.aclose()
        if self._server is not None:
            await asyncio.sleep(0)  # in which asyncio takes in who was just accepted
            self._server.close()
        self._purse.close()
        self._claim.give_up()
        for member in list(self._members):
            member.abort()
        await asyncio.gather(*self._serving, return_exceptions=True)

    @property
    def alone(self) -> bool:
        """Whether it has one member."""
        return len(self._members) == 1

    def near(self) -> Near:
        """A member in this process."""
        member = Near(self._said, self._left)
        self._joined(member)
        return member

    def _accepted(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Not a coroutine, which asyncio would make a task of: of one that is cancelled its streams complain."""
        task = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        if self._closed:  # it was accepted just before that
            writer.transport.abort()
            return
        member = FarMember(writer)
        # Only now does an announcement reach it: connected it was before the hub knew of it.
        member.send(line("welcome"))
        self._joined(member)
        try:
            while data := await reader.readline():
                self._said(member, data)
        except (OSError, ValueError):
            pass  # It is gone, or what it says has no end.
        finally:
            self._left(member)
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def _joined(self, member: Member) -> None:
        self._members.add(member)
        self._treasurer.joined(member)

    def _said(self, member: Member, data: bytes) -> None:
        message = understood(data)
        if handler := self._kinds.get(message.get("kind", "")):
            handler(member, message)

    def _left(self, member: Member) -> None:
        self._members.discard(member)
        self._leases.gone(member)
        self._sums.gone(member)
        for number, announcement in list(self._announcements.items()):
            self._told(number, announcement, member)

    def _announced(self, announcer: Member, message: Message) -> None:
        announced = invalidation(message)
        if announced is None:
            return
        number = next(self._numbers)
        announcement = Announcement(announcer, message.get("id"), set(self._members) - {announcer})
        self._announcements[number] = announcement
        data = line("invalidation", id=number, **of_invalidation(announced))
        for member in announcement.deaf:
            self._send(member, data)
        self._told(number, announcement, announcer)
        asyncio.get_running_loop().call_later(FORGET, self._announcements.pop, number, None)

    def _heard(self, member: Member, message: Message) -> None:
        number = message.get("id")
        if isinstance(number, int) and number in self._announcements:
            self._told(number, self._announcements[number], member)

    def _told(self, number: object, announcement: Announcement, member: Member) -> None:
        """This member has heard it, or never will."""
        announcement.deaf.discard(member)
        if not announcement.deaf:
            self._announcements.pop(number, None)
            self._send(announcement.announcer, line("heard", id=announcement.number))

    def _tell(self, data: bytes) -> None:
        for member in self._members:
            self._send(member, data)

    def _send(self, member: Member, data: bytes) -> None:
        member.send(data)
