"""The hub's part in the budget: it hears what members want, answers out of its purse, and tells all of a hold."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from proxy.fleet.base import Hold
from proxy.fleet.messages import Message, line
from proxy.fleet.purse import Names, Purse
from proxy.model import Host
from proxy.rules.bucket import Booked, Urgency
from proxy.rules.holds import Why

M = TypeVar("M")
PAGE = 400
"""Bookings told in one line, which has an end."""


class Treasurer(Generic[M]):
    """`send` tells one member, `tell` all of them."""

    def __init__(self, purse: Purse, send: Callable[[M, bytes], None], tell: Callable[[bytes], None]) -> None:
        self._purse = purse
        self._names = Names()
        self._send = send
        self._tell = tell

    def joined(self, member: M) -> None:
        """A new member: it is told what is held."""
        for host, hold in self._purse.holds(_now()).items():
            self._send(member, of_hold("held", host, hold))

    def booked(self, member: M, message: Message) -> None:
        match message:
            case {"id": str() as number, "urgency": str() as urgency, "parts": int() as parts} if _known(urgency):
                now, name = _now(), self._names.new()
                answer = self._purse.book(now, Urgency(urgency), parts, name)
                if isinstance(answer, Booked):
                    self._send(member, line("booked", id=number, wait=answer.at - now, at=answer.at, name=name))
                else:
                    self._send(member, line("refused", id=number, retry_after=answer.retry_after))

    def given_back(self, member: M, message: Message) -> None:
        match message:
            case {"name": str() as name}:
                self._purse.give_back(name)

    def told(self, member: M, message: Message) -> None:
        """A member has booked elsewhere, or alone."""
        match message:
            case {"name": str() as name, "at": float() | int() as at}:
                self._purse.note(_now(), name, float(at))

    def recalled(self, member: M, message: Message) -> None:
        """What counts yet? A page of it, behind what the member knows."""
        match message:
            case {"id": str() as number, "after": [str() as name, float() | int() | None as at]}:
                after = (name, -math.inf if at is None else float(at))
                known = self._purse.known(_now(), after, PAGE)
                self._send(member, line("bookings", id=number, spent=known, more=len(known) == PAGE))

    def held(self, member: M, message: Message) -> None:
        found = hold_of(message)
        if found is not None and self._purse.hold(_now(), *found):
            self._tell(of_hold("held", *found))

    def asked(self, member: M, message: Message) -> None:
        standing = self._purse.standing(_now())
        self._send(member, line("standing", id=message.get("id"), free=standing.free, recent=standing.recent))


def of_hold(kind: str, host: Host, hold: Hold) -> bytes:
    return line(kind, host=host, seconds=hold.seconds, why=hold.why, words=hold.words)


def hold_of(message: Message) -> tuple[Host, Hold] | None:
    """What such a message says; None for what nobody of this release would say."""
    match message:
        case {
            "host": str() as host,
            "seconds": float() | int() as seconds,
            "why": str() as why,
            "words": str() as words,
        }:
            try:
                return Host(host), Hold(float(seconds), Why(why), words)
            except ValueError:
                return None
    return None


def _known(urgency: Any) -> bool:
    return urgency in Urgency.__members__.values()


def _now() -> float:
    return asyncio.get_running_loop().time()
