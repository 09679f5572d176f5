"""What a store on the disk does, tried in its threads: a fault is told once, and what fails is absent.

It knows which exceptions are faults of the medium, and nothing of the medium.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from proxy.model import Health, State
from proxy.stores.base import Observer
from proxy.stores.database import FAULTS
from proxy.stores.faults import Faults
from proxy.stores.threads import Threads

T = TypeVar("T")

_HEALTH_SECONDS = 0.5


class Attempts:
    def __init__(self, name: str, observer: Observer) -> None:
        self.threads = Threads(name)
        self.errors = 0  # attempts that the medium failed
        self._name = name
        self._faults = Faults(name, observer)

    async def run(self, doing: str, do: Callable[[], T], failed: T) -> T:
        """`do()` in a thread; `failed` where the medium fails."""
        try:
            result = await self.threads.run(do)
        except FAULTS as error:
            self.errors += 1
            number = error.errno if isinstance(error, OSError) else getattr(error, "sqlite_errorcode", None)
            detail = str(error) or "the database is locked"  # what diskcache's Timeout means, which says nothing
            self._faults.failed(doing, f"{type(error).__name__} {number}", f"{type(error).__name__}: {detail}")
            return failed
        self._faults.worked(doing)
        return result

    async def health(self, probe: Callable[[], object]) -> Health:
        """Degraded while a fault stands, `probe` fails or takes too long: what fails is fetched anew."""
        try:
            async with asyncio.timeout(_HEALTH_SECONDS):
                await self.run("probe", probe, None)
        except TimeoutError:
            return Health(self._name, State.DEGRADED, f"no answer within {_HEALTH_SECONDS} s")
        detail = self._faults.detail
        return Health(self._name, State.DEGRADED if detail else State.OK, detail)

    def told(self, what: str) -> None:
        self._faults.told(what)
