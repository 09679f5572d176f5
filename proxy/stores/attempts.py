"""What a store on the disk does, tried in its threads: a fault is told once, and what fails is absent.

It knows which exceptions are faults of the medium, and nothing of the medium.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

from proxy.model import Health, State
from proxy.stores.base import Observer
from proxy.stores.database import FAULTS
from proxy.stores.faults import Faults
from proxy.stores.threads import Threads

T = TypeVar("T")

_HEALTH_SECONDS = 0.5
"""For an answer to `health`; what takes longer is degraded, whatever becomes of it."""


class Attempts:
    def __init__(self, name: str, observer: Observer) -> None:
        self.threads = Threads(name)
        self.errors = 0  # attempts that the medium failed
        self._name = name
        self._faults = Faults(name, observer)

    async def run(self, doing: str, do: Callable[[], T], failed: T) -> T:
        """`do()` in a thread; `failed` where the medium fails."""
        return (await self.each(doing, [do], failed))[0]

    async def each(self, doing: str, do: Sequence[Callable[[], T]], failed: T) -> list[T]:
        """All of these in one thread; `failed` in the place of each that the medium fails."""
        return await self.several(doing, lambda: [tried(one) for one in do], len(do), failed)

    async def several(self, doing: str, do: Callable[[], Sequence[T | Exception]], count: int, failed: T) -> list[T]:
        """What `do()` gives, in a thread, for so many; `failed` in the place of each fault."""
        try:
            results = await self.threads.run(do)
        except OSError as error:  # it is closed
            results = [error] * count
        return [failed if self._fails(doing, result) else result for result in results]  # type: ignore[misc]  # mypy does not follow it

    def _fails(self, doing: str, result: object) -> bool:
        if not isinstance(result, FAULTS):
            self._faults.worked(doing)
            return False
        self.errors += 1
        number = result.errno if isinstance(result, OSError) else getattr(result, "sqlite_errorcode", None)
        detail = str(result) or "the database is locked"  # what diskcache's Timeout means, which says nothing
        self._faults.failed(doing, f"{type(result).__name__} {number}", f"{type(result).__name__}: {detail}")
        return True

    async def health(self, probe: Callable[[], object], **again: Callable[[], object]) -> Health:
        """Degraded while a fault stands, `probe` fails or takes too long: what fails is fetched anew. `again`: how to
        try by what was being done, where a fault of that stands: it may be long until somebody else does."""
        try:
            async with asyncio.timeout(_HEALTH_SECONDS):
                await self.run("probe", probe, None)
                for doing, do in again.items():
                    if self._faults.stands(doing):
                        await self.run(doing, do, None)
        except TimeoutError:
            return Health(self._name, State.DEGRADED, f"no answer within {_HEALTH_SECONDS} s")
        detail = self._faults.detail
        return Health(self._name, State.DEGRADED if detail else State.OK, detail)

    def told(self, what: str) -> None:
        self._faults.told(what)


def tried(do: Callable[[], T]) -> T | Exception:
    """What came of it; no attempt gives a fault as its value."""
    try:
        return do()
    except FAULTS as error:
        return error
