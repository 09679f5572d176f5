"""A member of a fleet in a process of its own: `python -m tests.fleet.member KIND WHERE BOUNDED`.

It announces each crate that it reads, does what an order in JSON says about a lease or the budget, and writes a line
of JSON for everything that happens to it.

Where BOUNDED is empty, each time for which it waits for others is an hour: what comes then comes because the others
have answered or are known to be gone, on however slow a machine, and who waits for somebody in vain waits for ever.
"""

from __future__ import annotations

import asyncio
import json
import logging
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import uvloop

from proxy.fleet import bookings, claims, local, redis, redis_leases
from proxy.fleet.base import Fleet, Lease, Listener, Lost, Turn
from proxy.fleet.local import LocalFleet
from proxy.fleet.redis import RedisFleet
from proxy.model import Invalidation, Selection
from proxy.rules.bucket import Urgency
from proxy.stores import connection
from tests.waiting import WITHIN

ROOT = Path(__file__).parent.parent.parent
HOUR = 3600.0


def of(crate: str, soft: bool = True) -> Invalidation:
    return Invalidation(Selection(crate=crate), soft, 1700000000.25)


async def opened(kind: str, where: str, hear: Listener, lost: Lost) -> LocalFleet | RedisFleet:
    match kind:
        case "local":
            return await LocalFleet.opened(Path(where), hear, lost)
        case "redis":
            url, _, name = where.partition("|")
            return await RedisFleet.opened(url, f"test{name}:", hear, lost)
    raise ValueError(kind)


def unbound(change: Callable[[object, str, float], None] = setattr) -> None:
    """From now on an hour is what anybody is waited for."""
    for module in (local, redis, claims, redis_leases):
        change(module, "BOUND", HOUR)
    for module in (redis, bookings):
        change(module, "SILENCE", HOUR)
    change(connection, "_SECONDS", HOUR)


class Leasing:
    """Leases by name, several at a time."""

    def __init__(self, fleet: Fleet, say: Callable[..., None]) -> None:
        self._fleet = fleet
        self._say = say
        self._ends: dict[str, asyncio.Event] = {}
        self._held: dict[str, Lease] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def obey(self, order: dict[str, Any]) -> None:
        name = order["name"]
        match order["do"]:
            case "lease":
                for number in range(order["times"]):
                    each = name if order["times"] == 1 else f"{name}-{number}"
                    work = self._lease(each, order["key"], order["patience"], order["at_once"])
                    self._tasks[each] = asyncio.create_task(work)
            case "release":
                if order["done"]:
                    self._held[name].done()
                self._ends[name].set()
            case "tell":
                self._held[name].tell(order["word"])
            case "cancel":
                self._tasks[name].cancel()

    async def _lease(self, name: str, key: str, patience: float, at_once: bool) -> None:
        end = self._ends[name] = asyncio.Event()

        async def told(word: str) -> None:
            self._say("word", name=name, word=word)

        begun = time.monotonic()
        async with self._fleet.lease(key, patience, told) as lease:
            self._held[name] = lease
            self._say("leased", name=name, seconds=time.monotonic() - begun)
            if not at_once:
                await end.wait()
        self._say("released", name=name)


async def main(kind: str, where: str, bounded: str) -> None:
    def say(what: str, **more: Any) -> None:
        print(json.dumps({"what": what, **more}), flush=True)

    def hear(announced: Invalidation) -> None:
        if announced.selection.crate == "raise":
            raise ValueError("a listener with a bug")
        say("heard", crate=announced.selection.crate, soft=announced.soft, at=announced.at)

    if not bounded:
        unbound()
    fleet = await opened(kind, where, hear, lambda: say("lost"))
    say("open", state=(await fleet.health()).state)
    orders = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    leasing = Leasing(fleet, say)
    while crate := (await orders.readline()).decode().strip():
        if crate.startswith("{"):
            order = json.loads(crate)
            if order["do"] == "book":
                turns = [await fleet.budget.book(Urgency.CLIENT) for _ in range(order["times"])]
                say("booked", waits=[turn.wait if isinstance(turn, Turn) else None for turn in turns])
            elif order["do"] == "standing":
                say("standing", recent=(await fleet.budget.standing()).recent)
            elif order["do"] == "unbound":
                unbound()
            else:
                leasing.obey(order)
            continue
        await fleet.announce(of(crate))
        say("announced")
    await fleet.aclose()
    say("closed")


class Member:
    """The test's end of such a process."""

    def __init__(self, kind: str, where: str, *, bounded: bool) -> None:
        command = [sys.executable, "-m", "tests.fleet.member", kind, where, "bounded" if bounded else ""]
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.events: list[dict[str, Any]] = []
        self._told: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()  # None: it has ended
        # All is read at once: who hears much and is not looked at would hang with a full pipe.
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._told.put(json.loads(line))
        self._told.put(None)

    def announce(self, crate: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(crate.encode() + b"\n")
        self.process.stdin.flush()

    def lease(
        self, name: str, key: str = "key", patience: float = HOUR, *, times: int = 1, at_once: bool = False
    ) -> None:
        """Ask for a lease, to be held until `release`, or given back `at_once`."""
        fields = {"key": key, "patience": patience, "times": times, "at_once": at_once}
        self.announce(json.dumps({"do": "lease", "name": name, **fields}))

    def release(self, name: str, *, done: bool = False) -> None:
        self.announce(json.dumps({"do": "release", "name": name, "done": done}))

    def tell(self, name: str, word: str) -> None:
        self.announce(json.dumps({"do": "tell", "name": name, "word": word}))

    def book(self, times: int) -> None:
        """Book so many requests to the API."""
        self.announce(json.dumps({"do": "book", "times": times}))

    def standing(self) -> None:
        self.announce(json.dumps({"do": "standing"}))

    def unbound(self) -> None:
        """Nobody is waited for from now on, or the wait never ends."""
        self.announce(json.dumps({"do": "unbound"}))

    def cancel(self, name: str) -> None:
        self.announce(json.dumps({"do": "cancel", "name": name}))

    def leased(self) -> list[str]:
        """What it is known by now to have got."""
        while not self._told.empty():
            self._next(0.0)
        return [event["name"] for event in self.events if event["what"] == "leased"]

    def leave(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def until(self, what: str, within: float = WITHIN, **more: Any) -> dict[str, Any]:
        """The next such event; those before it are kept in `events`."""
        end = time.monotonic() + within
        while event := self._next(end - time.monotonic()):
            if {"what": what, **more}.items() <= event.items():
                return event
        raise AssertionError(f"no {what!r} within {within:g} s: {self.events}")

    def _next(self, seconds: float) -> dict[str, Any] | None:
        try:
            event = self._told.get(timeout=max(0.0, seconds))
        except queue.Empty:
            return None
        if event is not None:
            self.events.append(event)
        return event

    def heard(self) -> list[str]:
        return [event["crate"] for event in self.events if event["what"] == "heard"]

    def end(self) -> None:
        with self.process:
            self.process.kill()
            self._reader.join()


class Spawn(Protocol):
    def __call__(self, kind: str, where: str, *, bounded: bool = False) -> Member: ...


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(*sys.argv[1:]))
