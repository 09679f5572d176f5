"""Asks no more than crates.io allows, and not when it wants to be left alone. It has the shape of what it wraps.

Every request to the API is booked in the fleet's budget and waits for its time; every host is left alone while it is
held. What an answer says about asking again is heeded here. Requests in their caller's name are always sent.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from dataclasses import replace

from proxy.errors import Dropped, Throttled
from proxy.fleet.base import Budget, Hold, Turn
from proxy.model import Host
from proxy.rules import bodies, codings, directives, holds
from proxy.rules.bucket import Urgency
from proxy.rules.holds import Said, Why
from proxy.upstream.base import THROTTLED, Answer, Ask, Upstream
from proxy.upstream.peeked import ENOUGH, Peeked

log = logging.getLogger("proxy")

REPEATED = 2
"""Times that a read is sent again because an idle connection was closed under it: where upstream closes one it is
likely to close others at the same moment."""
TOLD = 10_000
"""Promises to those who were refused that are remembered: a crowd's of more than two hours."""


class LimitedUpstream:
    def __init__(self, inner: Upstream, budget: Budget, clock: Callable[[], float], *, stale_after: float) -> None:
        """`clock`: the wall clock, for dates in Retry-After. `stale_after`: seconds for which one with a copy waits."""
        self._inner = inner
        self._budget = budget
        self._clock = clock
        self._stale_after = stale_after
        self._blocked: Hold | None = None  # a policy's block, of which it is not known whether it is over
        self._told: dict[str, float] = {}  # by target: the time for which somebody who was refused was told to come

    async def send(self, ask: Ask) -> Answer:
        for left in range(REPEATED, -1, -1):
            await self._admit(ask)
            try:
                return await self._heeded(ask, await self._inner.send(ask))
            except Dropped:  # it may be sent once more, and may have been counted
                if not left:
                    raise
        raise AssertionError

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def _admit(self, ask: Ask) -> None:
        """Wait until it may go, and count it. Raises `Throttled` where it may not."""
        if ask.need.urgency is Urgency.CALLER:
            if ask.host is Host.API:
                self._budget.spend()
        elif ask.host is Host.API:
            await self._turn(ask)
        elif (hold := self._budget.held(ask.host)) is not None:
            raise _held(ask.host, hold)

    async def _turn(self, ask: Ask) -> None:
        """Wait until it may go. Raises `Throttled` where it may not."""
        while True:
            urgency = ask.need.urgency
            told = self._told_before(ask, urgency)
            # Whoever asks again before that is no further one of a crowd: it may book, but moves nobody's time.
            turn = await self._budget.book(urgency if told is None else Urgency.CONTENT)
            if isinstance(turn, Turn):
                await self._wait(ask, turn)
                if self._held() is None:
                    self._find_out()
                    return
                turn.give_back()  # it came to be held while this one waited: the next booking says until when
            elif ask.need.urgency is urgency:  # else somebody has joined it meanwhile, and waits
                after = self._tell(ask, urgency, turn.retry_after if told is None else max(told, turn.retry_after))
                hold = self._held()
                raise _spent(after) if hold is None else _held(Host.API, hold, after)

    def _held(self) -> Hold | None:
        """As the budget says; a block is kept in mind until somebody is finding out whether it is over."""
        hold = self._budget.held(Host.API)
        if hold is not None:
            self._blocked = hold if hold.why is Why.BLOCKED else None
        return hold

    def _find_out(self) -> None:
        """After a block one request goes, of all members; who comes with it waits until it is known what it brings."""
        blocked, self._blocked = self._blocked, None
        if blocked is not None:
            self._budget.hold(Host.API, replace(blocked, seconds=holds.PROBE, why=Why.PROBED))

    def _told_before(self, ask: Ask, urgency: Urgency) -> float | None:
        """In how many seconds somebody is to come for the same who was refused it, where that is yet to be."""
        if urgency is not Urgency.CLIENT:
            return None
        left = self._told.get(ask.target, -math.inf) - asyncio.get_running_loop().time()
        return left if left > 0 else None

    def _tell(self, ask: Ask, urgency: Urgency, seconds: float) -> float:
        """The same, and remember it."""
        if urgency is Urgency.CLIENT:
            now = asyncio.get_running_loop().time()
            self._told.pop(ask.target, None)
            self._told[ask.target] = now + seconds
            while len(self._told) > TOLD or next(iter(self._told.values())) <= now:
                del self._told[next(iter(self._told))]
        return seconds

    async def _wait(self, ask: Ask, turn: Turn) -> None:
        ask.need.due = asyncio.get_running_loop().time() + turn.wait
        if turn.wait > self._stale_after and not ask.need.outdated:
            ask.need.doubt(THROTTLED)
        try:
            await asyncio.sleep(turn.wait)
        except asyncio.CancelledError:
            turn.give_back()
            raise

    async def _heeded(self, ask: Ask, answer: Answer) -> Answer:
        """The answer, of which is known what it says to this proxy."""
        head, own = answer.head, ask.need.urgency is not Urgency.CALLER
        words = ""
        if holds.wordy(ask.host, head.status, own=own):
            answer = peeked = Peeked(answer)
            await peeked.peek()
            words = _words(peeked)
        retry_after = directives.retry_after(head.get(b"retry-after"), self._clock())
        found = holds.meant(Said(ask.host, head.status, retry_after, words, own))
        if found is None:
            return answer
        seconds, why = found
        self._budget.hold(ask.host, Hold(seconds, why, words))
        if why is Why.BLOCKED:
            log.error("crates.io has blocked this proxy, and somebody must act (is upstream.contact right?): %s", words)
        else:
            log.warning("%s host: status %d: it is not asked for %.0f s", ask.host.value, head.status, seconds)
        if retry_after is None and isinstance(answer, Peeked) and head.status == 429 and own:
            answer.said(b"retry-after", b"%d" % math.ceil(seconds))
        return answer


def _words(answer: Peeked) -> str:
    """What a refusal says in crates.io's own form, "" where it is in another."""
    coded = answer.head.get(b"content-encoding", b"identity").lower() != b"identity"
    body = codings.decoded(answer.start, ENOUGH) if coded else answer.start
    return bodies.reason(body or b"") or ""


def _spent(seconds: float) -> Throttled:
    return Throttled(
        "crates.io's web API may be asked about once a second, and others are waiting already; "
        f"try again in {math.ceil(seconds)} s, or use the index, which has no limit",
        retry_after=math.ceil(seconds),
    )


def _held(host: Host, hold: Hold, seconds: float = 0.0) -> Throttled:
    after = math.ceil(max(hold.seconds, seconds))
    if hold.why is Why.BLOCKED:
        reason = f"crates.io has blocked this proxy, whose operator must act ({hold.words})"
    elif hold.why is Why.PROBED:
        reason = f"crates.io had blocked this proxy, and it is being found out whether it still does ({hold.words})"
    else:
        reason = f"the {host.value} host of crates.io has asked this proxy to wait"
    return Throttled(f"{reason}; try again in {after} s", retry_after=after)
