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
from proxy.metrics.incidents import Incidents
from proxy.metrics.lately import Lately
from proxy.metrics.table import StoreName
from proxy.metrics.telling import Medium, Shield, Telling, Tiers, Unshielded, watch
from proxy.stores.base import Observer
from proxy.stores.memory import Memory
from proxy.stores.recent import NAME, RecentBook
from proxy.stores.savings import SavingsBook


@dataclass(frozen=True, slots=True)
class Metering:
    """`media`: of each kind of store all that hold it, the one that is measured first. `fleet`: the processes of
    this machine. `incidents`: where troubles are noted. `shield`: what limits requests upstream."""

    counters: Counters
    media: Mapping[StoreName, Sequence[Medium]]
    memory: Sequence[Memory[Any]]
    fleet: Fleet
    incidents: Incidents
    shield: Shield = Unshielded()

    async def opened(
        self, directory: Path, clock: Callable[[], float], observe: Observer, stack: AsyncExitStack
    ) -> tuple[Telling, Lately]:
        """Begin to hand on what is counted, with the books in `directory` (`cache.dir`), until `stack` ends."""
        tiers = Tiers(self.memory)
        watch(self.counters, self.media, tiers)
        try:
            book = await asyncio.to_thread(SavingsBook.opened, directory / "savings", observe, clock())
            stack.push_async_callback(book.aclose)
            recent = await asyncio.to_thread(RecentBook.opened, directory / NAME, observe)
            stack.push_async_callback(recent.aclose)
        except OSError as error:
            reason = f"cannot be used ({error.strerror or error}); name a directory that is yours to write"
            raise SettingsError([f"cache.dir = {str(directory)!r}: {reason}"]) from error
        lately = Lately(recent, self.incidents, clock)
        booking = Booking(self.counters, self.fleet, book, clock, tiers.levels, lately)
        stack.push_async_callback(booking.aclose)
        media = {store: several[0] for store, several in self.media.items()}
        return Telling(booking, media, self.shield), lately
