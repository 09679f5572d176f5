"""Follows crates.io's feed of new versions: once a minute for the whole fleet, and softly invalidates what it names.

Each look is a turn at one lease: whoever has it waits until the next look is due, looks, and passes it on. How far
the feed is known stands in a store that the fleet shares, so that the next one goes on from there, be it after a
death or a restart; and who could not get the lease, or shares no store for a while, at worst looks once too often.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace

from proxy.engine.purging import Purging
from proxy.engine.whole import bounded
from proxy.errors import Error, Faulty, Late
from proxy.fleet.base import Fleet
from proxy.lasting import lasting
from proxy.model import Head, Headers, Health, Host, Selection, State
from proxy.rules import codings, rss
from proxy.stores.base import Observer, Store
from proxy.upstream.base import Ask, Upstream

TARGET = "/rss/updates.xml"
EVERY, LONGEST_PAUSE = 60.0, 900.0
"""Seconds between two looks: as long as crates.io takes to write the feed; and at most, after failures."""
WITHIN = 30.0
"""Seconds that a look may take."""
LARGEST = 8 * 1024 * 1024
"""Bytes of the feed; usually it has a hundred items in 60 KB."""
TICK = 1.0
"""Seconds between two looks at the clock, which may have been set, or the machine suspended."""
TURN = 86_400.0
"""Seconds to wait for the lease, which goes around once a minute: in effect for ever."""
AT_ONCE = 16
"""Announcements under way: the first look may bring a hundred."""

_KEY = "feed position"


@dataclass(frozen=True, slots=True)
class Position:
    """How far the feed is known. looked_at: when it was asked for last; seen: the identities of its items then;
    etag, modified: its validators. failures: looks in a row that failed, and trouble: how the last one did."""

    looked_at: float = -math.inf
    seen: tuple[str, ...] = ()
    etag: str = ""
    modified: str = ""
    failures: int = 0
    trouble: str = ""

    @property
    def pause(self) -> float:
        """Seconds until the next look."""
        return min(EVERY * 2.0 ** min(self.failures, 10), LONGEST_PAUSE)


class Feed:
    """`marks`: where the position is kept, for `keep` seconds. It follows from `start` on."""

    def __init__(
        self,
        *,
        upstream: Upstream,
        purging: Purging,
        fleet: Fleet,
        marks: Store,
        keep: float,
        clock: Callable[[], float],
        observe: Observer,
    ) -> None:
        self._upstream = upstream
        self._purging = purging
        self._fleet = fleet
        self._marks = marks
        self._keep = keep
        self._clock = clock
        self._observe = observe
        self._last = Position()  # after this member's own last look
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(lasting("the feed of new versions", self._follow))

    async def aclose(self) -> None:
        """The lease is given back when this returns."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def health(self) -> Health:
        """Of the whole fleet's following, whoever does it. What fails here is bounded by the ttls: never failed."""
        position = await self._position()
        late = self._clock() - position.looked_at - position.pause
        if position.trouble:
            return Health("feed", State.DEGRADED, f"{position.trouble}; new versions are seen when a ttl is over")
        if math.isfinite(late) and late > 2 * EVERY:
            return Health("feed", State.DEGRADED, f"nobody has looked for {late:.0f} s longer than intended")
        return Health("feed", State.OK)

    async def _follow(self) -> None:
        while True:
            async with self._fleet.lease("feed", TURN):
                position = await self._due()
                self._last = await self._looked(position)
                await self._marks.put(_KEY, _encoded(self._last), tag="", keep=self._keep)

    async def _due(self) -> Position:
        """Wait until it is time for a look, whoever had the last one; the position by then."""
        position = await self._position()
        while (left := self._left(position)) > 0:
            await asyncio.sleep(min(left, TICK))
            if self._left(position) <= 0:
                position = await self._position()  # who has no lease may have been faster
        return position

    def _left(self, position: Position) -> float:
        """Seconds to wait: after this member's own last look too, for a store that takes nothing must not make it
        look without end. After a clock that went backwards it is time at once."""
        latest = max(position, self._last, key=lambda each: each.looked_at)
        left = latest.looked_at + latest.pause - self._clock()
        return left if left <= latest.pause else 0.0

    async def _looked(self, position: Position) -> Position:
        """Look at the feed and announce what is new; the position after that."""
        now = self._clock()
        try:
            async with asyncio.timeout(WITHIN):
                head, body = await self._asked(position)
            known = replace(position, looked_at=now, failures=0, trouble="")
            if head.status == 304:
                return known
            found = rss.items(body)
        except (Error, TimeoutError) as caught:
            error = caught if isinstance(caught, Error) else Late(f"the feed was not whole after {WITHIN:.0f} s")
            if not position.trouble:
                self._observe("feed", f"{error.detail}; it is tried again, and meanwhile the ttls rule")
            return replace(position, looked_at=now, failures=position.failures + 1, trouble=error.detail)
        news = rss.news(found, position.seen)
        if news.gap:
            self._observe("feed", "versions were published that it does not name any more: for them the ttls rule")
        await self._announce(news.crates)
        seen = tuple(item.identity for item in found)
        etag, modified = (head.get(name).decode("latin-1") for name in (b"etag", b"last-modified"))
        return replace(known, seen=seen, etag=etag, modified=modified)

    async def _asked(self, position: Position) -> tuple[Head, bytes]:
        """The feed, if it has changed since. Raises what `upstream.send` raises, and `Faulty`."""
        validators = ((b"if-none-match", position.etag), (b"if-modified-since", position.modified))
        fields: Headers = ((b"accept", b"*/*"), (b"accept-encoding", b"gzip"))
        fields += tuple((name, value.encode("latin-1")) for name, value in validators if value)
        answer = await self._upstream.send(Ask(Host.STATIC, "GET", TARGET, fields))
        try:
            if answer.head.status not in (200, 304):
                raise Faulty(f"crates.io answered the request for its feed with status {answer.head.status}")
            body: bytes | None = await bounded(answer, LARGEST, "the feed of new versions")
        finally:
            await answer.aclose()
        if answer.head.status == 200 and answer.head.get(b"content-encoding", b"identity").lower() != b"identity":
            body = codings.decoded(body or b"", LARGEST)
        if body is None:
            raise Faulty("the feed of new versions came in a coding that cannot be read, or is too large in it")
        return answer.head, body

    async def _announce(self, crates: Iterable[str]) -> None:
        """For a minute from now on these are asked for afresh every second: index and API may still be as before."""
        queue = iter(crates)

        async def work() -> None:
            for crate in queue:
                await self._purging.changed(Selection(crate=crate))

        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(work())

    async def _position(self) -> Position:
        """As the store has it; where that has nothing or fails, as this member knows it. What a member announced
        while it was alone is announced once more, to all, when the store is back."""
        value = await self._marks.get(_KEY)
        return self._last if value is None else _decoded(value)


def _encoded(position: Position) -> bytes:
    return json.dumps(asdict(position)).encode()


def _decoded(value: bytes) -> Position:
    """The position of `_encoded`; for anything else, as of another release, that of somebody who begins."""
    try:
        fields = json.loads(value)
        return Position(
            float(fields["looked_at"]),
            tuple(map(str, fields["seen"])),
            str(fields["etag"]),
            str(fields["modified"]),
            int(fields["failures"]),
            str(fields["trouble"]),
        )
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
        return Position()
