"""Hands on what this process counts: once a second to the fleet, every few seconds to the book of savings.

It knows when, not what. What it had not handed on when its process is killed is lost: a second of the metrics, a few
of the savings.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from proxy.lasting import lasting
from proxy.metrics import savings
from proxy.metrics.counting import Counters
from proxy.metrics.lately import Lately, Record
from proxy.metrics.savings import Field, Item, Subject
from proxy.metrics.table import Series
from proxy.stores.savings import SavingsBook, Sum

EVERY = 1.0
"""Seconds between two handings over to the fleet."""
WRITTEN_EVERY = 5
"""Of which each so manyeth also writes to the book: what a kill may cost, against the writes to the disk."""
PATIENCE = 0.5
"""Seconds that a reader waits for the fleet to have heard it."""

_KNOWN = frozenset(subject.value for subject in Subject), frozenset(field.value for field in Field)


class Fleet(Protocol):
    """What adds counters up over the processes of this machine."""

    def add(self, counts: Mapping[str, float], levels: Mapping[str, float]) -> None: ...

    async def settled(self, patience: float) -> bool: ...

    def sum(self) -> dict[str, float]: ...

    def levels(self) -> dict[str, float]: ...


class Booking:
    def __init__(
        self,
        counters: Counters,
        fleet: Fleet,
        book: SavingsBook,
        clock: Callable[[], float],
        levels: Callable[[], Mapping[Series, float]],
        lately: Lately,
    ) -> None:
        """`levels`: what is summed over the processes that are there, such as how full their memory is."""
        self._counters = counters
        self._fleet = fleet
        self._book = book
        self._clock = clock
        self._levels = levels
        self._lately = lately
        self._unwritten: defaultdict[Sum, int] = defaultdict(int)
        self._writing = asyncio.Lock()
        self._task = asyncio.create_task(lasting("the book of what was counted", self._stay))

    async def totals(self) -> tuple[dict[Series, float], dict[Series, float]]:
        """The counts of all processes, dead ones too, and the levels of those that are there."""
        self._hand_over()
        await self._fleet.settled(PATIENCE)
        return _series(self._fleet.sum()), _series(self._fleet.levels())

    async def report(self) -> dict[str, Any]:
        """What was saved since the book was begun, as `savings.report` tells it."""
        self._hand_over()
        await self._write()
        since, sums = await self._book.read()
        # After a year these are tens of thousands: in a thread, requests have their turns meanwhile.
        return await asyncio.to_thread(_report, since, sums)

    async def lately(self) -> Record:
        """What was done and what went wrong in the last days."""
        self._hand_over()
        return await self._lately.read()

    async def aclose(self) -> None:
        """Hand everything over: what a process counted that ends in order is not lost."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._hand_over()
        await self._write()
        await self._lately.write()
        await self._fleet.settled(PATIENCE)

    async def _stay(self) -> None:
        while True:
            for _ in range(WRITTEN_EVERY):
                await asyncio.sleep(EVERY)
                self._hand_over()
            await self._write()
            await self._lately.write()

    def _hand_over(self) -> None:
        taken = self._counters.take()
        self._lately.note(taken.savings)
        self._fleet.add(_keys(taken.counts), _keys({**self._levels(), **self._counters.levels()}))
        day = savings.day(self._clock())
        for item, value in taken.savings.items():
            self._unwritten[Sum(day, *item)] += value

    async def _write(self) -> None:
        async with self._writing:
            written = {sum_: value for sum_, value in self._unwritten.items() if value}
            self._unwritten.clear()
            if written and not await self._book.add(written):
                for sum_, value in written.items():
                    self._unwritten[sum_] += value


def _report(since: float, sums: Mapping[Sum, int]) -> dict[str, Any]:
    subjects, fields = _KNOWN
    found = {
        (sum_.day, Item(Subject(sum_.subject), sum_.name, Field(sum_.field))): value
        for sum_, value in sums.items()
        if sum_.subject in subjects and sum_.field in fields
    }
    return savings.report(since, found)


def _keys(counts: Mapping[Series, float]) -> dict[str, float]:
    return {"\t".join(series): value for series, value in counts.items()}


def _series(counts: Mapping[str, float]) -> dict[Series, float]:
    return {tuple(key.split("\t")): value for key, value in counts.items()}
