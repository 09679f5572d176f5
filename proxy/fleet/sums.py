"""Counters added up over the members of a local fleet: the hub's part. It knows no counter's meaning.

Every member has a replica of the sum, kept by what the hub passes on, so that whoever is asked can tell it and no
death takes it along: what a member has counted stays in the sum, and a new hub begins with the highest of what its
members remember (a sum only rises). Levels (how much is in memory) are summed over the members that are there.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Generic, TypeVar

from proxy.fleet.messages import Message, line

M = TypeVar("M")

PAUSE = 0.25
"""Seconds in which the hub gathers what its members counted, before it tells them all."""
CHUNK = 400
"""Counters in one message: about 30 KB of the 64 KiB that a line may have."""
SOURCES = 4096
"""Members, dead ones too, of whom it is remembered which counts were added already."""

Numbers = dict[str, float]


def numbers(value: object) -> Numbers:
    """The counters of a message; what is none is left out."""
    if not isinstance(value, dict):
        return {}
    return {
        key: number
        for key, number in value.items()
        if isinstance(key, str) and isinstance(number, int | float) and not isinstance(number, bool)
    }


def raised(sum_: Numbers, other: Mapping[str, float]) -> bool:
    """Raise each counter to the other's where that is higher; was any?"""
    higher = {key: value for key, value in other.items() if value > sum_.get(key, 0)}
    sum_ |= higher
    return bool(higher)


def added(sum_: Numbers, more: Mapping[str, float]) -> None:
    for key, value in more.items():
        sum_[key] = sum_.get(key, 0) + value


def chunks(counters: Mapping[str, float]) -> Iterator[Numbers]:
    """The same in parts that fit into a message; one empty part where there is nothing."""
    items = list(counters.items())
    for start in range(0, max(1, len(items)), CHUNK):
        yield dict(items[start : start + CHUNK])


class Sums(Generic[M]):
    def __init__(self, send: Callable[[M, bytes], None]) -> None:
        self._send = send
        self._members: dict[M, None] = {}  # whose replica is the sum
        self._higher = False  # whether a member remembers more than the others know
        self._sum: Numbers = {}
        self._applied: Numbers = {}  # source -> number of the last of its messages that is in the sum
        self._levels: dict[M, Numbers] = {}
        self._more: Numbers = {}  # added, and not told yet
        self._heard: Numbers = {}  # applied, and not told yet
        self._timer: asyncio.TimerHandle | None = None

    def recalled(self, member: M, message: Message) -> None:
        """A member that has just come tells what it remembers; with the last part of that it is told the sum."""
        self._tell()  # what the members before it are told, and it is not: for it that is in the sum
        self._higher |= raised(self._sum, numbers(message.get("sum")))
        self._note(numbers(message.get("applied")))
        if message.get("last"):
            self._members[member] = None
            self._tell_all(self._members if self._higher else [member])
            self._higher = False

    def counted(self, member: M, message: Message) -> None:
        """A member has counted something."""
        source, number = message.get("source"), message.get("n")
        if not isinstance(source, str) or not isinstance(number, int):
            return
        if "levels" in message:
            self._levels[member] = numbers(message["levels"])
        if number > self._applied.get(source, 0):  # else a hub before this one has passed it on
            more = numbers(message.get("add"))
            added(self._sum, more)
            added(self._more, more)
        self._note({source: number})
        self._heard[source] = self._applied[source]
        if message.get("now"):
            self._tell()
        else:
            self._tell_soon()

    def gone(self, member: M) -> None:
        self._members.pop(member, None)
        if self._levels.pop(member, None):
            self._tell_soon()

    def aclose(self) -> None:
        """Tell nothing more."""
        if self._timer is not None:
            self._timer.cancel()

    def _note(self, applied: Mapping[str, float]) -> None:
        for source, number in applied.items():
            self._applied[source] = max(number, self._applied.pop(source, 0))
        while len(self._applied) > SOURCES:
            del self._applied[next(iter(self._applied))]

    def _tell_soon(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(PAUSE, self._tell)

    def _tell(self) -> None:
        self.aclose()
        self._timer = None
        more, self._more = self._more, {}
        heard, self._heard = self._heard, {}
        *most, last = chunks(more)
        lines = [line("counted", add=part) for part in most]
        lines.append(line("counted", add=last, applied=heard, levels=self._level()))
        for member in self._members:
            self._send(member, b"".join(lines))

    def _tell_all(self, members: Iterable[M]) -> None:
        parts = [line("sum", sum=part) for part in chunks(self._sum)]
        parts += [line("sum", applied=part) for part in chunks(self._applied)]
        data = b"".join([*parts, line("sum", levels=self._level(), last=True)])
        for member in members:
            self._send(member, data)

    def _level(self) -> Numbers:
        total: defaultdict[str, float] = defaultdict(int)
        for levels in self._levels.values():
            added(total, levels)
        return total
