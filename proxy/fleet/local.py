"""The processes of one machine that share one `cache.dir`, over a Unix socket.

Whoever finds nobody listening becomes the hub (`hub`), the others connect to it, and the hub's own process is a member
without a socket (`link`). When it dies the others choose again: whoever gets the lock. Announcements that were made
while a member was not connected did not reach it, therefore it is `lost` when the connection breaks and when there is a
new one.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path

from proxy.fleet import place
from proxy.fleet.base import Lease, Listener, Lost, Told, deaf
from proxy.fleet.bookings import Bookings
from proxy.fleet.claims import Claims
from proxy.fleet.hub import Hub
from proxy.fleet.journal import File, boot
from proxy.fleet.link import Far, Link, Near
from proxy.fleet.messages import LONGEST, invalidation, line, of_invalidation, understood
from proxy.fleet.purse import Purse
from proxy.fleet.tally import Tally
from proxy.model import Health, Invalidation, State
from proxy.rules.bucket import Limits

log = logging.getLogger("proxy")

BOUND = 1.0
"""Seconds that an announcement may take: the contract's, for a purge to be everywhere."""
PAUSE, LONGEST_PAUSE = 0.01, 1.0
"""Seconds between attempts to join. A hub listens a millisecond after it got the lock."""


class LocalFleet:
    def __init__(
        self, directory: Path, hear: Listener, lost: Lost, limits: Limits, workers: int, clock: Callable[[], float]
    ) -> None:
        self.budget = Bookings(limits, workers)
        self._directory = directory
        self._hear = hear
        self._lost = lost
        self._hub: Hub | None = None
        self._link: Link | None = None
        self._joined = asyncio.Event()
        self._numbers = itertools.count()
        self._unheard: dict[str, asyncio.Future[bool]] = {}
        self._claims = Claims(lambda: isinstance(self._link, Near) and self._hub is not None and self._hub.alone)
        self._limits = limits
        self._clock = clock
        self.tally = Tally()
        self._trouble = ""
        self._task = asyncio.create_task(self._stay())

    @classmethod
    async def opened(
        cls,
        directory: Path,
        hear: Listener,
        lost: Lost,
        *,
        limits: Limits = Limits(),  # noqa: B008  # frozen
        workers: int = 1,
        clock: Callable[[], float] = time.time,
    ) -> LocalFleet:
        """Join the fleet of this `cache.dir`, which exists. Whoever cannot is alone, and goes on trying.

        `limits` and `workers` are for its `budget`; the wall `clock` is for what must outlive a restart."""
        fleet = cls(directory, hear, lost, limits, workers, clock)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(BOUND):
                await fleet._joined.wait()
        return fleet

    async def announce(self, announced: Invalidation) -> None:
        self._hear(announced)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(BOUND):
                while not await self._said(announced):
                    pass  # The hub died before it answered. To hear it twice does no harm.

    async def _said(self, announced: Invalidation) -> bool:
        await self._joined.wait()
        assert self._link is not None
        number = str(next(self._numbers))
        heard: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._unheard[number] = heard
        try:
            self._link.write(line("invalidation", id=number, **of_invalidation(announced)))
            return await heard
        finally:
            del self._unheard[number]

    def lease(self, key: str, patience: float, told: Told = deaf) -> AbstractAsyncContextManager[Lease]:
        return self._claims.lease(key, patience, told)

    async def health(self) -> Health:
        if self._joined.is_set():
            return Health("fleet", State.OK)
        return Health("fleet", State.DEGRADED, self._trouble or "alone: the other workers cannot be reached")

    async def aclose(self) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        if self._hub is not None:
            await self._hub.aclose()

    async def _stay(self) -> None:
        """Be connected to a hub, for ever."""
        before = missed = False
        pause = PAUSE
        while True:
            try:
                path = place.meeting_point(self._directory)
                link = await self._connected(path, successor=before)
            except (OSError, TimeoutError) as error:
                link = None
                missed = True
                self._noted(f"alone: {str(error) or 'the hub does not answer'}")
            begun = asyncio.get_running_loop().time()
            if link is not None:
                self._noted("")
                if before or missed:
                    self._safely(self._lost)
                before = True
                await self._member(link)
                self._safely(self._lost)
            lasted = asyncio.get_running_loop().time() - begun
            pause = PAUSE if lasted > LONGEST_PAUSE else min(pause * 1.5, LONGEST_PAUSE)
            await asyncio.sleep(pause)

    async def _connected(self, path: Path, *, successor: bool) -> Link | None:
        """None where it should be tried again soon: somebody else is just becoming the hub."""
        try:
            return await self._welcomed(path)
        except (FileNotFoundError, ConnectionRefusedError):
            if self._hub is not None:  # Ours, and it does not answer: its socket was removed.
                await self._hub.aclose()
            self._hub = await Hub.opened(path, self._purse, successor=successor)
            return self._hub.near() if self._hub else None

    def _purse(self) -> Purse:
        steady = asyncio.get_running_loop().time
        return Purse(self._limits, File(self._directory / "budget", self._clock, steady, boot()), steady())

    async def _welcomed(self, path: Path) -> Far:
        """A connection that the hub knows of: what is announced from now on is heard. OSError where it breaks."""
        async with asyncio.timeout(BOUND):
            reader, writer = await asyncio.open_unix_connection(path, limit=LONGEST)
            try:
                if understood(await reader.readline()).get("kind") != "welcome":
                    raise ConnectionResetError("the hub is leaving")
            except BaseException:
                writer.transport.abort()
                raise
        return Far(reader, writer)

    async def _member(self, link: Link) -> None:
        """From the first message to the end of the connection."""
        self._link = link
        self._joined.set()
        self._claims.joined(link.write)
        self.budget.joined(link.write)
        self.tally.joined(link.write)
        try:
            await link.listen(self._heard)
        except (OSError, ValueError):
            pass  # It broke, or what the hub says has no end.
        finally:
            self._joined.clear()
            self._claims.parted()
            self.budget.parted()
            self.tally.parted()
            for heard in self._unheard.values():
                self._answered(heard, False)
            await link.aclose()

    def _heard(self, data: bytes) -> None:
        message = understood(data)
        if announced := invalidation(message):
            self._safely(partial(self._hear, announced))
            assert self._link is not None
            self._link.write(line("heard", id=message.get("id")))
        elif message.get("kind") == "heard" and str(message.get("id")) in self._unheard:
            self._answered(self._unheard[str(message["id"])], True)
        elif not self.tally.heard(message):
            self._claims.heard(message)
            self.budget.heard(message)

    @staticmethod
    def _answered(heard: asyncio.Future[bool], answer: bool) -> None:
        if not heard.done():
            heard.set_result(answer)

    def _safely(self, call: Lost) -> None:
        try:
            call()
        except Exception:
            log.exception("fleet: a member does not do what it was told")

    def _noted(self, trouble: str) -> None:
        """A trouble is logged once, not at every attempt."""
        if trouble and not self._trouble:
            log.warning("fleet: %s", trouble)
        self._trouble = trouble
