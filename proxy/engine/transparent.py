"""Reads that no row has times for: upstream's own headers decide (RFC 9111), and what they do not allow passes.

Requests without credentials that want the same thing at the same time become one, in all members of the fleet, where
its answer may be stored; where it may not, each asks for itself. Requests with credentials never wait for others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any, assert_never

from proxy.engine import outcomes
from proxy.engine.answers import UNAVAILABLE
from proxy.engine.flight import FIRST_BYTE, TURN, Flights, Meanwhile
from proxy.engine.passing import Passage, Passing, sent
from proxy.engine.shelf import Found, Shelf, flight, suits
from proxy.engine.whole import whole
from proxy.errors import Down, Error, Late, Offline, Refused, Throttled, UpstreamError
from proxy.fleet.base import Fleet
from proxy.model import Entry, Outcome, Verdict
from proxy.rules import headers, reuse, storing, wishes
from proxy.rules.bucket import Urgency
from proxy.rules.keys import Read
from proxy.rules.reuse import Reuse
from proxy.rules.wishes import Wish
from proxy.stores.base import Observer
from proxy.upstream.base import FAILING, THROTTLED, Answer, Need

_NOT_OURS_TO_JUDGE = frozenset((b"if-match", b"if-unmodified-since"))  # RFC 9111 section 4.3.2


@dataclass(frozen=True, slots=True)
class Passed:
    """Upstream's own answer on its way through, which the caller closes. `forwarded`: as in `Outcome`."""

    answer: Answer
    forwarded: str


@dataclass(slots=True)
class _Lead:
    """The request that a flight is led by: the answer that only it may have, or that it is gone; and whether upstream
    has begun to answer."""

    passed: Passed | None = None
    gone: bool = False
    begun: bool = False


class Transparent:
    def __init__(
        self,
        *,
        passing: Passing,
        shelf: Shelf,
        fleet: Fleet,
        clock: Callable[[], float],
        observe: Observer,
        stale_after: float,
    ) -> None:
        """`stale_after`: seconds that upstream may take to begin an answer where there is a copy to serve instead."""
        self._passing = passing
        self._shelf = shelf
        self._fleet = fleet
        self._clock = clock
        self._observe = observe
        self._stale_after = stale_after
        self._flights: Flights[Outcome | None] = Flights()

    async def get(self, read: Read, passage: Passage, wish: Wish) -> Outcome | Passed:
        """A stored answer, or upstream's own.

        Raises as `Passing`, `Late` where nothing began to come in time and there is no copy to serve instead, and
        `Refused` (504) where the wish is not to ask upstream.
        """
        try:
            async with asyncio.timeout(FIRST_BYTE):
                return await self._get(read, passage, wish)
        except TimeoutError:
            error = Late(f"crates.io did not begin to answer within {FIRST_BYTE:.0f} s; try again")
        return self._fallback(read, passage, await self._shelf.find(read, sent(passage)), error)

    async def aclose(self) -> None:
        await self._flights.aclose()

    async def _get(self, read: Read, passage: Passage, wish: Wish) -> Outcome | Passed:
        if headers.names_any(passage.headers, _NOT_OURS_TO_JUDGE):
            return Passed(await self._passing.read(passage), "bypass")
        found = await self._shelf.find(read, sent(passage))
        entry, now = found.entry, self._clock()
        match reuse.decide(entry, wish, now, found.mark.changed):
            case Reuse.FRESH if entry is not None:
                return outcomes.outcome(Verdict.HIT, entry, found.mark, now)
            case Reuse.STALE if entry is not None:
                return outcomes.outcome(Verdict.STALE, entry, found.mark, now, detail="max-stale")
            case Reuse.STALE_WHILE_REVALIDATE if entry is not None and not outcomes.authorized(passage):
                renewal = replace(passage, method="GET", interim=None, urgency=Urgency.REFRESH)
                place = flight(read, sent(passage), found)
                self._flights.start(place, self._load(place, read, renewal, wish, _Lead(gone=True)))
                return outcomes.outcome(Verdict.STALE, entry, found.mark, now, detail="stale-while-revalidate")
            case Reuse.UNAVAILABLE:
                raise Refused(UNAVAILABLE, status=504)
            case Reuse.FRESH | Reuse.STALE | Reuse.STALE_WHILE_REVALIDATE | Reuse.REVALIDATE | Reuse.ABSENT:
                return await self._ask(read, passage, wish, found)
            case never:
                assert_never(never)

    async def _ask(self, read: Read, passage: Passage, wish: Wish, found: Found) -> Outcome | Passed:
        if passage.method == "HEAD":
            return await self._head(read, passage, found)
        alone = found.entry is None and headers.names_any(passage.headers, headers.CONDITIONAL)
        if alone or wish.no_store or outcomes.authorized(passage):
            return await self._fetch(read, passage, wish, found)
        for _ in range(2):  # the second time it is known what answers vary on
            lead = _Lead()
            joined = self._flights.under_way(flight(read, sent(passage), found)) is not None
            try:
                outcome, collapsed = await self._join(read, passage, wish, found, lead)
            except Throttled:
                if not joined:
                    raise
                break  # that one may have been less urgent
            if lead.passed is not None:
                return lead.passed
            if outcome is None:
                break
            if not collapsed:
                return outcome
            if not outcomes.may_be_shared(outcome):
                break
            if suits(outcome.entry, sent(passage)):
                return replace(outcome, collapsed=True)
            found = await self._shelf.find(read, sent(passage))
        return await self._fetch(read, passage, wish, found)

    async def _join(
        self, read: Read, passage: Passage, wish: Wish, found: Found, lead: _Lead
    ) -> tuple[Outcome | None, bool]:
        """What a flight comes to, and whether it was another's. With the end of this wait its answer has no taker."""
        place, need = flight(read, sent(passage), found), passage.need
        passage = replace(passage, awaited=need)
        other: Meanwhile[Outcome | None] | None = None
        if found.entry is not None and wish == wishes.NONE:
            other = Meanwhile(self._stale_after, lambda: self._unanswered(found, lead, need), need.doubted)
        try:
            return await self._flights.join(place, self._load(place, read, passage, wish, lead), meanwhile=other)
        except asyncio.CancelledError:
            lead.gone = True
            if lead.passed is not None:
                await lead.passed.answer.aclose()
            raise

    async def _unanswered(self, found: Found, lead: _Lead, need: Need) -> Outcome | None:
        """The stored copy, where upstream has not begun to answer and the copy may be served; the fetch goes on."""
        entry, now = found.entry, self._clock()
        if entry is None or lead.begun:
            return None
        why = need.doubted.result() if need.doubted.done() else FAILING
        if entry.terms.strict if why == THROTTLED else not reuse.disconnected(entry, now, found.mark.changed):
            return None
        lead.gone = True
        return outcomes.outcome(Verdict.STALE, entry, found.mark, now, detail=why)

    def _load(
        self, place: str, read: Read, passage: Passage, wish: Wish, lead: _Lead
    ) -> Callable[[], Coroutine[Any, Any, Outcome | None]]:
        """A flight, in turn with the other members of the fleet: look again, ask, store. None where the answer is
        nobody's but the leader's; then there is nothing that the others could wait for."""

        async def load() -> Outcome | None:
            async with self._fleet.lease(place, TURN) as lease:
                outcome = await self._look_and_ask(read, passage, wish, lead)
                lease.done()
                return outcome

        return load

    async def _look_and_ask(self, read: Read, passage: Passage, wish: Wish, lead: _Lead) -> Outcome | None:
        found = await self._shelf.find(read, sent(passage))
        now = self._clock()
        if found.entry is not None and reuse.decide(found.entry, wish, now, found.mark.changed) is Reuse.FRESH:
            return outcomes.outcome(Verdict.HIT, found.entry, found.mark, now)  # another member was faster
        answer = await self._fetch(read, passage, wish, found, lead)
        if isinstance(answer, Outcome):
            return answer
        if lead.gone:
            await answer.answer.aclose()
        else:
            lead.passed = answer
        return None

    async def _fetch(
        self, read: Read, passage: Passage, wish: Wish, found: Found, lead: _Lead | None = None
    ) -> Outcome | Passed:
        """Ask upstream, whether by the validators of what is stored or as the client does; store what may be."""
        fields = passage.headers
        if found.entry is not None:  # the client's own conditions are judged by what comes of it
            fields = (*headers.without(fields, headers.CONDITIONAL), *storing.validators(found.entry))
        requested_at = self._clock()
        try:
            answer = await self._passing.read(replace(passage, headers=fields))
        except (UpstreamError, Offline, Throttled) as error:
            return self._fallback(read, passage, found, error)
        if lead is not None:
            lead.begun = True
        try:
            return await self._judged(read, passage, wish, found, answer, requested_at)
        except BaseException:
            await answer.aclose()
            raise

    async def _judged(
        self, read: Read, passage: Passage, wish: Wish, found: Found, answer: Answer, requested_at: float
    ) -> Outcome | Passed:
        """What becomes of an answer, by its head."""
        entry, head = found.entry, answer.head
        forwarded = outcomes.forwarded(passage, found, self._clock())
        times = {"requested_at": requested_at, "responded_at": self._clock()}
        if entry is not None and entry.validated and head.status == 304:
            await answer.aclose()
            renewed = storing.renewed(entry, head, **times)
            if renewed is None:
                return await self._fetch(read, passage, wish, replace(found, entry=replace(entry, validated=False)))
            kept = storing.storable(storing.merged_head(entry, head, times["responded_at"]))
            return await self._keep_it(read, found, renewed, Verdict.REVALIDATED, forwarded, status=304, kept=kept)
        if entry is not None and head.status in reuse.FAILED:
            if reuse.on_error(entry, self._clock(), found.mark.changed):
                await answer.aclose()
                return outcomes.stale_on_error(passage, found, entry, self._clock(), head.status)
            return Passed(answer, forwarded)
        if wish.no_store or not storing.storable(head, authorized=outcomes.authorized(passage)):
            if entry is not None and head.status < 400:
                await self._shelf.forget(read, found)  # it has been replaced by what may not be stored
            return Passed(answer, forwarded)
        try:
            body = await whole(answer)
        except UpstreamError as error:
            return self._fallback(read, passage, found, error)
        if not isinstance(body, bytes):
            return Passed(body, forwarded)
        new = storing.stored(read.key, head, body, sent=sent(passage), **times)
        return await self._keep_it(read, found, new, Verdict.MISS, forwarded, status=None, kept=True)

    async def _head(self, read: Read, passage: Passage, found: Found) -> Passed:
        """HEAD goes through; what it tells about a stored answer to GET is heeded (RFC 9111 section 4.3.5)."""
        requested_at = self._clock()
        forwarded = outcomes.forwarded(passage, found, self._clock())
        answer = await self._passing.read(passage)
        entry, head = found.entry, answer.head
        if entry is None or head.status != 200:
            return Passed(answer, forwarded)
        times = {"requested_at": requested_at, "responded_at": self._clock()}
        renewed = storing.renewed(entry, head, **times) if storing.matches_head(entry, head) else None
        if renewed is None:
            await self._shelf.forget(read, found)
        elif storing.storable(storing.merged_head(entry, head, times["responded_at"])):
            await self._shelf.put(read, found, renewed)
        return Passed(answer, forwarded)

    async def _keep_it(
        self,
        read: Read,
        found: Found,
        entry: Entry,
        verdict: Verdict,
        forwarded: str,
        *,
        status: int | None,
        kept: bool,
    ) -> Outcome:
        mark = found.mark
        if kept:
            kept, mark = await self._shelf.put(read, found, entry)
        else:
            await self._shelf.forget(read, found)
        outcome = outcomes.outcome(verdict, entry, mark, self._clock())
        return replace(outcome, forwarded=forwarded, forwarded_status=status, stored=kept)

    def _fallback(self, read: Read, passage: Passage, found: Found, error: Error) -> Outcome:
        """What is served when upstream cannot be reached: the stale copy where that is allowed, or the error."""
        entry, now = found.entry, self._clock()
        if isinstance(error, UpstreamError):
            if not isinstance(error, Down):
                self._observe(f"{read.endpoint.host.value} host", f"{read.endpoint.name}: {error.detail}")
            error.forwarded = outcomes.forwarded(passage, found, self._clock())
        if entry is None:
            raise error
        if isinstance(error, Offline | Throttled) and not entry.terms.strict:
            detail = "offline" if isinstance(error, Offline) else THROTTLED
            return outcomes.outcome(Verdict.STALE, entry, found.mark, now, detail=detail)
        if isinstance(error, Offline | Throttled) or not reuse.disconnected(entry, now, found.mark.changed):
            raise error
        return outcomes.stale_on_error(passage, found, entry, now, None)
