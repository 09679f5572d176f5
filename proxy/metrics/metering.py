"""Puts together what counts, what adds up and what tells. It knows the order in which they end, and no setting."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxy.errors import SettingsError
from proxy.metrics.booking import Booking, Fleet
from proxy.metrics.counting import Counters
from proxy.metrics.table import StoreName
from proxy.metrics.telling import Medium, Shield, Telling, Tiers, Unshielded, watch
from proxy.stores.base import Observer
from proxy.stores.memory import Memory
from proxy.stores.savings import SavingsBook


@dataclass(frozen=True, slots=True)
class Metering:
    """`media`: of each kind of store all that hold it, the one that is measured first. `fleet`: the processes of
    this machine. `shield`: what limits requests upstream."""

    counters: Counters
    media: Mapping[StoreName, Sequence[Medium]]
    memory: Sequence[Memory[Any]]
    fleet: Fleet
    shield: Shield = Unshielded()

    async def opened(
        self, directory: Path, clock: Callable[[], float], observe: Observer, stack: AsyncExitStack
    ) -> Telling:
        """Begin to hand on what is counted, with the book of savings in `directory`, until `stack` ends."""
        tiers = Tiers(self.memory)
        watch(self.counters, self.media, tiers)
        try:
            book = await asyncio.to_thread(SavingsBook.opened, directory, observe, clock())
        except OSError as error:
            reason = f"cannot be used ({error.strerror or error}); name a directory that is yours to write"
            raise SettingsError([f"cache.dir = {str(directory.parent)!r}: {reason}"]) from error
        stack.push_async_callback(book.aclose)
        booking = Booking(self.counters, self.fleet, book, clock, tiers.levels)
        stack.push_async_callback(booking.aclose)
        return Telling(booking, {store: several[0] for store, several in self.media.items()}, self.shield)
