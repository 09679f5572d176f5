"""One load for each key at a time; whoever comes meanwhile gets its result.

A load runs in a task of its own: a client that leaves takes nobody along, and what was begun is finished, since
the next client wants it too. An error is shared with those who wait and not remembered.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from proxy.errors import Error

T = TypeVar("T")

log = logging.getLogger("proxy")

FIRST_BYTE = 24.0
"""Seconds until a client has the first byte of an answer or of our error: cargo gives up after 30 without any."""
MOMENT = 0.001
"""Seconds that are not worth a timer."""
ENDING = 5.0
"""Seconds that what was answered has, when this proxy stops, to be stored."""
TURN = 20.0
"""Seconds to wait for another member of the fleet that loads the same; less than FIRST_BYTE, to go on alone then."""


@dataclass(frozen=True, slots=True)
class Meanwhile(Generic[T]):
    """What to be content with when a load takes longer than `after` seconds, whoever began it, or once `doubted` is
    done; None where there is no such thing. `longer`: asked after that time, for how many seconds more the load is
    worth waiting for."""

    after: float
    instead: Callable[[], Awaitable[T | None]]
    doubted: asyncio.Future[str] | None = None
    longer: Callable[[], float] = lambda: 0.0


@dataclass(eq=False, slots=True)
class _Flight(Generic[T]):
    """`waiting`: those who want to know what it comes to."""

    task: asyncio.Task[T]
    begun: float
    waiting: set[asyncio.Future[T]] = field(default_factory=set)


class Flights(Generic[T]):
    def __init__(self) -> None:
        self._under_way: dict[str, _Flight[T]] = {}
        self._landing: dict[str, asyncio.Task[T]] = {}  # those that have told what they come to

    def __len__(self) -> int:
        return len(self._under_way) + len(self._landing)

    def under_way(self, key: str) -> asyncio.Task[T] | None:
        flight = self._under_way.get(key)
        return None if flight is None else flight.task

    @property
    def landings(self) -> int:
        """How many loads have told what they come to, and are not at their end."""
        return len(self._landing)

    def landing(self, key: str) -> bool:
        """Whether a load of this key has told what it comes to, and goes on with what nobody need wait for. It is not
        under way any more; the next one begins at its end."""
        return key in self._landing

    def start(self, key: str, load: Callable[[], Coroutine[Any, Any, T]]) -> asyncio.Task[T]:
        """The load of this key that is under way, else a new one. Nobody need wait for it."""
        return self._started(key, load).task

    def tell(self, key: str, result: T) -> None:
        """What the load of this key comes to, by that load itself, which goes on with what nobody need wait for. It is
        news to those who have come till then: later it may not be so any more."""
        flight = self._under_way.pop(key)
        self._landing[key] = flight.task
        for waiting in flight.waiting:
            if not waiting.done():
                waiting.set_result(result)

    async def join(
        self,
        key: str,
        load: Callable[[], Coroutine[Any, Any, T]],
        *,
        patience: float | None = None,
        meanwhile: Meanwhile[T] | None = None,
    ) -> tuple[T, bool]:
        """The result for this key, and whether the load was another's (collapsed).

        Raises what the load raises, and TimeoutError after `patience` seconds. The end of this wait, cancelled or
        not, is not the end of the load.
        """
        collapsed = key in self._under_way
        flight = self._started(key, load)
        loop = asyncio.get_running_loop()
        result: asyncio.Future[T] = loop.create_future()
        flight.waiting.add(result)
        end = math.inf if patience is None else loop.time() + patience
        try:
            other = None if meanwhile is None else await self._instead(flight, result, meanwhile, end)
            if other is not None:
                return other, False
            async with asyncio.timeout_at(None if patience is None else end):
                return await result, collapsed
        finally:
            flight.waiting.discard(result)
            del flight  # an error holds this frame, and its task would hold all frames that it came through
            if result.done() and not result.cancelled():
                result.exception()  # seen, also where nobody waits for it any more

    async def settled(self) -> None:
        """Wait for what has told what it comes to."""
        while self._landing:
            await asyncio.wait(self._landing.values())

    async def aclose(self, patience: float = 0.0) -> None:
        """Wait `patience` seconds for what is under way, `ENDING` for what is told already, then cancel the rest."""
        if self._landing:
            _, late = await asyncio.wait(self._landing.values(), timeout=ENDING)
            if late:
                log.warning("%d answers are not stored: that took more than %g s", len(late), ENDING)
        tasks = [*self._landing.values(), *(flight.task for flight in self._under_way.values())]
        if tasks:
            await asyncio.wait(tasks, timeout=patience)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _started(self, key: str, load: Callable[[], Coroutine[Any, Any, T]]) -> _Flight[T]:
        flight = self._under_way.get(key)
        if flight is None:
            before = self._landing.get(key)
            task = asyncio.create_task(load() if before is None else self._next(before, load))
            flight = made = self._under_way[key] = _Flight(task, asyncio.get_running_loop().time())
            task.add_done_callback(lambda done: self._landed(key, made))
        return flight

    async def _next(self, before: asyncio.Task[T], load: Callable[[], Coroutine[Any, Any, T]]) -> T:
        await asyncio.wait({before})
        return await load()

    async def _instead(
        self, flight: _Flight[T], result: asyncio.Future[T], meanwhile: Meanwhile[T], end: float
    ) -> T | None:
        """What there is to be content with, once it is time; None where the load is to be waited for."""
        now = asyncio.get_running_loop().time
        watched: set[asyncio.Future[Any]] = {result} if meanwhile.doubted is None else {result, meanwhile.doubted}
        after = min(max(0.0, meanwhile.after - (now() - flight.begun)), end - now())
        while not (await asyncio.wait(watched, timeout=after, return_when=asyncio.FIRST_COMPLETED))[0]:
            after = min(meanwhile.longer(), end - now())
            if after < MOMENT:
                break
        return None if result.done() or flight.task.done() else await meanwhile.instead()

    def _landed(self, key: str, flight: _Flight[T]) -> None:
        task = flight.task
        error = None if task.cancelled() else task.exception()  # seen: if nobody waited for it, it is no news
        if self._landing.get(key) is task:
            del self._landing[key]
            if error is not None:
                log.error("what was answered could not be brought to its end", exc_info=error)
            return
        del self._under_way[key]
        if isinstance(error, Error):  # it says all in words, and its frames hold what upstream has sent up to then
            error.__traceback__ = None
        for waiting in flight.waiting:
            if waiting.done():
                continue
            if task.cancelled():
                waiting.cancel()
            elif error is not None:
                waiting.set_exception(error)
            else:
                waiting.set_result(task.result())
