"""Reads of JSON, HTML and index files: look up, decide, load, store, answer. One explicit path.

It refuses to know where entries are kept, how upstream is reached, and how an answer is written to a client.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import assert_never

from proxy.engine import exchange
from proxy.engine.copies import Copies
from proxy.engine.flight import FIRST_BYTE, TURN, Flights, Meanwhile
from proxy.engine.landing import Landing
from proxy.engine.pace import Pace
from proxy.engine.renewing import Renewing
from proxy.errors import Declined, Down, Error, Late, Offline, Refused, Throttled, UpstreamError
from proxy.fleet.base import Fleet
from proxy.model import Entry, Mark, Outcome, Verdict
from proxy.rules import freshness, renewal
from proxy.rules.bucket import Urgency
from proxy.rules.freshness import Decision
from proxy.rules.keys import Read
from proxy.stores.base import Observer
from proxy.upstream.base import THROTTLED, Need, Upstream

UNREACHED = 60.0
"""Seconds between two attempts at a host that cannot be reached, where nobody waits for them."""
AT_ONCE = 4
"""Answers of upstream that are judged at a time, in a turn of the loop or two: more, and each waits for more of them;
fewer, and each costs more."""
UNAVAILABLE = "only-if-cached was asked for, and there is no copy that may be served"
"""RFC 9111 section 5.2.1.7: such a request is never the cause of one upstream."""


class Answers:
    """Everything that is answered from memory whole."""

    def __init__(
        self,
        *,
        copies: Copies,
        upstream: Upstream,
        fleet: Fleet,
        renewing: Renewing,
        clock: Callable[[], float],
        observe: Observer,
        stale_after: float,
        offline: bool = False,
        put_off: Callable[[Read], None] = lambda read: None,
        overdue: Callable[[Read], None] = lambda read: None,
    ) -> None:
        """`stale_after`: seconds that upstream may take to begin an answer where there is a copy to serve instead.
        `put_off` is told of reads that got a copy because upstream may not be asked now or fails, `overdue` of those
        whose copy is as it should be, as the index says, but for what the index does not show."""
        self._copies = copies
        self.hot = copies.hot
        self._upstream = upstream
        self._fleet = fleet
        self._renewing = renewing
        self._clock = clock
        self._observe = observe
        self._stale_after = stale_after
        self._offline = offline
        self._put_off = put_off
        self._overdue = overdue
        self._flights: Flights[Outcome] = Flights()
        self._needs: dict[str, Need] = {}  # of the flights under way
        self._judging = Pace(AT_ONCE)
        self._landing = Landing(self._flights, copies)
        self._begun: set[str] = set()  # keys that upstream has begun to answer

    async def get(self, read: Read, *, patient: bool = False) -> Outcome:
        """Answer a read: from memory, from a store, or by one request upstream for all who ask meanwhile.

        `patient`: wait for upstream, however slow, rather than be content with a stale copy. Raises `Declined`,
        `Faulty`, `Late`, `Throttled` or `Offline` where there is nothing to serve.
        """
        now = self._clock()
        hot = self.hot(read.key)
        if hot is not None and hot.fresh(now) and not _forced(read, hot.entry, now):
            return hot.hit(now)
        entry, mark = await self._copies.stored(read)
        now = self._clock()
        decision = freshness.decide(entry, read.policy, now, changed=mark.changed, no_cache=read.no_cache)
        match decision:
            case Decision.FRESH if entry is not None:
                self._copies.warm(read, entry, mark, now)
                return self._hit(read, entry, freshness.fresh_for(entry, read.policy, now, mark.changed), now)
            case Decision.STALE_WHILE_REVALIDATE if entry is not None and not self._offline:
                self._needed(read.key, Urgency.REFRESH)
                self._flights.start(read.key, lambda: self._load(read))
                return self._stale(read, entry, mark, now, detail="stale-while-revalidate")
            case Decision.FRESH | Decision.STALE_WHILE_REVALIDATE | Decision.REVALIDATE | Decision.ABSENT:
                if read.only_if_cached:
                    raise Refused(UNAVAILABLE, status=504)
                return await self._join(read, None if patient else entry, absent=entry is None)
        assert_never(decision)

    async def refresh(self, read: Read, *, anew: bool = False) -> float:
        """Have a stale answer anew where a slot of the budget is free, like a refresh behind an answer that was given;
        with `anew` the API's own, where only the index has vouched for it too long. What fails is told to who joins.

        Returns 0, or where nothing could be sent the seconds after which it is worth another attempt.
        """
        while (other := self._flights.under_way(read.key)) is not None:
            await asyncio.wait({other})  # what it brings is found then, and what it was refused tells nothing here
        need = self._needed(read.key, Urgency.REFRESH)
        await asyncio.wait({self._flights.start(read.key, lambda: self._load(read, anew=anew))})
        return need.refused

    @property
    def avoided(self) -> int:
        """Requests to the API that the index has made needless, in this process."""
        return self._renewing.avoided

    @property
    def unstored(self) -> int:
        """What this process has answered, and not stored yet."""
        return self._flights.landings

    async def settled(self) -> None:
        """Wait until what was answered is stored."""
        await self._flights.settled()

    async def aclose(self) -> None:
        """What was answered is stored first."""
        await self._flights.aclose()

    async def _join(self, read: Read, copy: Entry | None, *, absent: bool) -> Outcome:
        copied = copy is not None and copy.status == 200
        need = self._needed(read.key, Urgency.CONTENT if copied else Urgency.CLIENT)
        absent = absent and not self._flights.landing(read.key)
        stale = None
        if copy is not None:
            stale = Meanwhile(
                self._stale_after, lambda: self._unanswered(read, need), need.doubted, lambda: self._longer(need)
            )
        try:
            outcome, collapsed = await self._flights.join(
                read.key, lambda: self._load(read, absent=absent), patience=FIRST_BYTE, meanwhile=stale
            )
        except TimeoutError:
            late = Late(f"{read.target} could not be had from crates.io within {FIRST_BYTE:.0f} s; try again")
            entry, mark = await self._copies.stored(read)  # upstream has begun, and is too slow for who has a copy
            return self._fallback(read, entry, mark, late)
        return replace(outcome, collapsed=True) if collapsed else outcome

    def _needed(self, key: str, urgency: Urgency) -> Need:
        """For whom the flight is that is under way or about to start: one more who wants it may make it more urgent."""
        if self._flights.under_way(key) is None:
            self._needs[key] = Need(urgency)
        need = self._needs.get(key) or Need(urgency)
        need.raise_to(urgency)
        return need

    def _longer(self, need: Need) -> float:
        """Seconds more that one with a copy waits. Where it is known that the copy hides something, upstream has the
        same time from when its turn comes."""
        return need.due + self._stale_after - asyncio.get_running_loop().time() if need.outdated else 0.0

    async def _unanswered(self, read: Read, need: Need) -> Outcome | None:
        """The stored copy, where upstream has not begun to answer and the copy may be served."""
        if read.key in self._begun:
            return None
        entry, mark = await self._copies.stored(read)
        now = self._clock()
        if entry is None or entry.status != 200:
            return None
        if need.doubted.done() and need.doubted.result() == THROTTLED:
            return self._stale(read, entry, mark, now, detail=THROTTLED)
        if not freshness.may_serve_on_error(entry, read.policy, now, mark.changed):
            return None
        return self._stale(read, entry, mark, now, detail="stale-if-error")

    async def _load(self, read: Read, *, anew: bool = False, absent: bool = False) -> Outcome:
        """The flight, in turn with the other members of the fleet. What one has stored the others find; where it
        failed or must not be stored, each has one attempt. `anew`: see `refresh`. `absent`: the store had nothing."""
        turn = contextlib.nullcontext() if self._offline else self._fleet.lease(read.key, TURN)
        async with turn as lease:
            try:
                outcome = await self._look_and_ask(read, anew, absent=absent and lease is not None and lease.alone)
            finally:
                self._begun.discard(read.key)
                self._needs.pop(read.key, None)
            await self._landing.land(read, outcome)
            if lease is not None and (outcome.stored or outcome.verdict is Verdict.HIT):
                lease.done()
            return outcome

    async def _look_and_ask(self, read: Read, anew: bool, *, absent: bool) -> Outcome:
        """Look again, ask upstream. What fails becomes a stale answer where one may be served. `absent` as
        `Copies.stored` has it."""
        entry, mark = await self._copies.stored(read, absent=absent)
        now = self._clock()
        decision = freshness.decide(entry, read.policy, now, changed=mark.changed, no_cache=read.no_cache)
        anew = anew and entry is not None and self._renewing.overdue(entry, now)
        if entry is not None and decision is Decision.FRESH and not anew:  # another member was faster
            return self._hit(read, entry, freshness.fresh_for(entry, read.policy, now, mark.changed), now)
        forced = read.no_cache and freshness.decide(entry, read.policy, now, changed=mark.changed) is Decision.FRESH
        forwarded = "uri-miss" if entry is None else "request" if forced else "stale"
        look = await self._renewing.look(read, entry, mark.changed)
        if look.renewed is not None:
            return await self._vouched(read, look.renewed, forwarded)
        need = self._needs.get(read.key) or Need()
        need.outdated = look.outdated
        spared = need if look.overdue is None else need.by_the_way()
        try:
            return await self._fetch(read, entry, forwarded, look.sight, spared)
        except (UpstreamError, Offline, Throttled) as error:
            if isinstance(error, UpstreamError) and not isinstance(error, Down):
                self._observe(f"{read.endpoint.host.value} host", f"{read.endpoint.name} {read.tag}: {error.detail}")
            if isinstance(error, Throttled | Down) and look.overdue is not None:
                need.refused = _again(error) if anew else 0.0
                self._overdue(read)
                return await self._vouched(read, look.overdue, forwarded)
            need.refused = _again(error)
            entry, mark = await self._copies.stored(read)
            return self._fallback(read, entry, mark, error)

    async def _vouched(self, read: Read, renewed: Entry, forwarded: str) -> Outcome:
        """What the index has renewed."""
        outcome = await self._keep_it(read, renewed, Verdict.REVALIDATED, forwarded=forwarded, status=None)
        return replace(outcome, detail=renewal.DETAIL)

    async def _fetch(
        self, read: Read, entry: Entry | None, forwarded: str, sight: renewal.Sight | None, need: Need
    ) -> Outcome:
        def begun() -> None:
            self._begun.add(read.key)

        requested_at = self._clock()
        conditions = freshness.validators(entry) if entry is not None else ()
        said = await exchange.asked(self._upstream, read, conditions, begun, self._judging.turn, need, self._clock)
        times = {"requested_at": requested_at, "responded_at": self._clock()}
        if said.head.status == 304 and entry is not None:
            renewed = freshness.refreshed(entry, said.head, **times)
            if renewed is not None:
                renewed = renewal.attested(renewed, sight)
                return await self._keep_it(read, renewed, Verdict.REVALIDATED, forwarded=forwarded, status=304)
            said = await exchange.asked(self._upstream, read, (), begun, self._judging.turn, need, self._clock)
        fresh = freshness.stored(read.key, said.head, said.body, **times, coded=said.coded)
        fresh = renewal.attested(fresh, sight)
        if not freshness.storable(said.head, read.policy):
            return Outcome(Verdict.MISS, fresh, 0.0, 0.0, forwarded=forwarded)
        return await self._keep_it(read, fresh, Verdict.MISS, forwarded=forwarded, status=None)

    async def _keep_it(
        self, read: Read, entry: Entry, verdict: Verdict, *, forwarded: str, status: int | None
    ) -> Outcome:
        """Have it at hand. It goes to the store when it is told."""
        mark = await self._copies.mark(read)
        now = self._clock()
        stored = entry.requested_at > mark.purged  # a purge during the flight wins over its result
        if stored:
            self._copies.warm(read, entry, mark, now)
        left = freshness.fresh_for(entry, read.policy, now, mark.changed)
        age = freshness.age(entry, now)
        return Outcome(verdict, entry, left, age, forwarded=forwarded, forwarded_status=status, stored=stored)

    def _hit(self, read: Read, entry: Entry, left: float, now: float) -> Outcome:
        return Outcome(Verdict.HIT, entry, left, freshness.age(entry, now))

    def _stale(self, read: Read, entry: Entry, mark: Mark, now: float, detail: str) -> Outcome:
        left = freshness.fresh_for(entry, read.policy, now, mark.changed)
        return Outcome(Verdict.STALE, entry, left, freshness.age(entry, now), detail=detail)

    def _fallback(self, read: Read, entry: Entry | None, mark: Mark, error: Error) -> Outcome:
        """What is served when upstream failed: the stale copy, however it came to be stale, or the error."""
        now = self._clock()
        if entry is None or entry.status != 200:
            raise error
        if isinstance(error, Offline):
            return self._stale(read, entry, mark, now, detail="offline")
        self._put_off(read)
        if isinstance(error, Throttled):
            return self._stale(read, entry, mark, now, detail=THROTTLED)
        limited = isinstance(error, Declined) and error.status == 429
        if not limited and not freshness.may_serve_on_error(entry, read.policy, now, mark.changed):
            raise error
        if isinstance(error, Down):  # nothing has been sent
            return self._stale(read, entry, mark, now, detail="stale-if-error")
        answered = error.answered if isinstance(error, UpstreamError) else None
        outcome = self._stale(read, entry, mark, now, detail="stale-if-error")
        return replace(outcome, forwarded="stale", forwarded_status=answered)


def _forced(read: Read, entry: Entry, now: float) -> bool:
    return read.no_cache and freshness.insisted(entry, now)


def _again(error: Error) -> float:
    """Seconds after which it is worth another attempt at the same; 0 where upstream has had its say."""
    if isinstance(error, Throttled):
        return float(error.retry_after or 1)
    return UNREACHED if isinstance(error, UpstreamError) and error.unsent else 0.0
