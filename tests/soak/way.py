"""The faults of the way to crates.io: each for some answers, or some seconds, of one host or of all."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from tests.soak.plan import Kind
from tests.soak.windows import Windows
from tests.upstream import Upstream, faults
from tests.upstream.faults import At, Fault
from tests.upstream.wire import Request

API, INDEX, STATIC = HOSTS = ("api", "index", "static")
WRONG, LATE = frozenset((502,)), frozenset((502, 504))
SLUGGISH = 1.0
"""Seconds that it takes the small crates.io to do anything: with four of them an answer is late."""
LONGEST = 2.5
"""Seconds that a fault waits for requests to befall."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """make: the fault. hosts: where it may come; statuses: which errors of ours it may cause where there is no copy;
    times: how many answers it befalls at most."""

    make: Callable[[random.Random], Fault]
    hosts: tuple[str, ...] = HOSTS
    statuses: frozenset[int] = WRONG
    times: int = 3


TROUBLES = {
    Kind.CUT_IN_HEAD: Trouble(lambda dice: faults.Truncate(At.HEAD)),
    Kind.CUT_AT_START: Trouble(lambda dice: faults.Truncate(At.START)),
    Kind.CUT_IN_MIDDLE: Trouble(lambda dice: faults.Truncate(At.MIDDLE)),
    Kind.CUT_AT_LAST_BYTE: Trouble(lambda dice: faults.Truncate(At.LAST_BYTE)),
    Kind.CUT_AT_LAST_CHUNK: Trouble(lambda dice: faults.Truncate(At.LAST_CHUNK)),
    Kind.STALLED: Trouble(lambda dice: faults.Stall(), statuses=LATE),
    Kind.STALLED_IN_BODY: Trouble(lambda dice: faults.Stall(head=True), statuses=LATE),
    Kind.LATE: Trouble(lambda dice: faults.Delay(dice.uniform(0.2, 2.0)), statuses=LATE),
    Kind.SLOW: Trouble(lambda dice: faults.Slow(dice.randrange(80_000, 400_000)), statuses=LATE),
    Kind.RESET: Trouble(lambda dice: faults.Reset()),
    Kind.RESET_IN_BODY: Trouble(lambda dice: faults.Reset(after=dice.randrange(1, 5000))),
    Kind.TWO_LENGTHS: Trouble(lambda dice: faults.TwoLengths()),
    Kind.TOO_LONG: Trouble(lambda dice: faults.Length(dice.randrange(1, 1000))),
    # JSON and tarballs tell that they lack something; a line of an index file that lacks its end is still a line.
    Kind.TOO_SHORT: Trouble(lambda dice: faults.Length(-dice.randrange(2, 40)), hosts=(API, STATIC)),
    # At once: what comes when the connection is already another's cannot be told from an answer to that one.
    Kind.SURPLUS: Trouble(lambda dice: faults.Surplus()),
    Kind.GARBAGE: Trouble(lambda dice: faults.Garbage(dice.randbytes(dice.randrange(1, 300)))),
    Kind.ENDLESS: Trouble(lambda dice: faults.Endless(pause=0.002), times=1),
    Kind.BOMB: Trouble(lambda dice: faults.Bomb(), hosts=(API, INDEX), times=1),
    # Nothing tells of a flipped byte in JSON; in a tarball its checksum does.
    Kind.CORRUPT: Trouble(lambda dice: faults.Corrupt(), hosts=(STATIC,)),
    Kind.ERROR: Trouble(lambda dice: faults.Status(dice.choice((500, 502, 503, 504)))),
    Kind.LIMITED: Trouble(
        lambda dice: faults.Status(429, (("retry-after", "1"),)), hosts=(API,), statuses=frozenset((429,)), times=1
    ),
}


class Way:
    """`upstream`, and what is done to it. `came`: how many answers each kind has befallen."""

    def __init__(self, upstream: Upstream, windows: Windows, dice: random.Random, came: Counter[Kind]) -> None:
        faults.packed_zeros(faults.Bomb().size)  # made now, nobody waits for it
        self._upstream = upstream
        self._windows = windows
        self._dice = dice
        self._came = came

    async def befall(self, kind: Kind) -> None:
        if kind is Kind.OUTAGE:
            await self._outage()
            return
        trouble = TROUBLES[kind]
        host = self._dice.choice(trouble.hosts)
        share = self._dice.choice((0.3, 1.0))

        def strikes(request: Request) -> bool:
            """Reads of what is stored; of the static host's, those with a checksum to tell by."""
            named = request.host == host and (host != STATIC or request.path.endswith(".crate"))
            read = request.method == "GET" and request.path != "/api/v1/me"
            return named and read and self._dice.random() < share

        with self._windows.disturbed(kind.value, host, statuses=trouble.statuses):
            rule = self._upstream.fault(strikes, trouble.make(self._dice), trouble.times)
            for _ in range(int(LONGEST / 0.05)):
                await asyncio.sleep(0.05)
                if rule.left == 0:
                    break
            left, rule.left = rule.left or 0, 0
            self._came[kind] += trouble.times - left
            if kind in (Kind.STALLED, Kind.STALLED_IN_BODY, Kind.SLOW, Kind.LATE, Kind.ENDLESS):
                await asyncio.sleep(0.5)

    async def watch(self) -> None:
        """Where the machine is so busy that crates.io is late without any fault of ours, that is a cause too."""
        while True:
            lag = await self._upstream.lag()
            if lag > SLUGGISH:
                window = self._windows.begin("the machine is busy", *HOSTS, "errors", statuses=LATE)
                window.start, window.end = window.start - lag, window.start + lag
            await asyncio.sleep(0.1)

    async def _outage(self) -> None:
        hosts = self._dice.choice(((API,), (INDEX,), (STATIC,), HOSTS))
        with self._windows.disturbed(Kind.OUTAGE.value, *hosts, statuses=WRONG):
            await asyncio.to_thread(self._upstream.stop, *hosts)
            await asyncio.sleep(self._dice.uniform(0.5, 3.0))
            await asyncio.to_thread(self._upstream.start, *hosts)
            self._came[Kind.OUTAGE] += 1

    def heal(self) -> None:
        self._upstream.heal()
