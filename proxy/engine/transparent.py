"""Reads that no row has times for: upstream's own headers decide (RFC 9111), and what they do not allow passes.

Requests without credentials that want the same thing at the same time become one, where its answer may be stored;
where it may not, each asks for itself.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any, assert_never

from proxy.engine.answers import UNAVAILABLE
from proxy.engine.flight import Flights
from proxy.engine.passing import Passage, Passing
from proxy.engine.shelf import Found, Shelf, flight, suits
from proxy.errors import Error, Offline, Refused, UpstreamError
from proxy.model import Entry, Head, Headers, Mark, Outcome, Verdict
from proxy.rules import headers, reuse, storing
from proxy.rules.keys import Read
from proxy.rules.reuse import Reuse
from proxy.rules.wishes import Wish
from proxy.stores.base import Observer
from proxy.upstream.base import Answer

LARGEST = 4 * 1024 * 1024
"""Bytes of an answer that is stored; a larger one passes."""

_NOT_OURS_TO_JUDGE = frozenset((b"if-match", b"if-unmodified-since"))  # RFC 9111 section 4.3.2


@dataclass(slots=True)
class _Lead:
    """The request that a flight is led by: the answer that only it may have, or that it is gone."""

    answer: Answer | None = None
    gone: bool = False


class Transparent:
    def __init__(self, *, passing: Passing, shelf: Shelf, clock: Callable[[], float], observe: Observer) -> None:
        self._passing = passing
        self._shelf = shelf
        self._clock = clock
        self._observe = observe
        self._flights: Flights[Outcome | None] = Flights()

    async def get(self, read: Read, passage: Passage, wish: Wish) -> Outcome | Answer:
        """A stored answer, or upstream's own on its way through, which the caller closes.

        Raises as `Passing`, and `Refused` (504) where the wish is not to ask upstream.
        """
        if _names(passage.headers, _NOT_OURS_TO_JUDGE):
            return await self._passing.read(passage)
        found = await self._shelf.find(read, _sent(passage))
        entry, now = found.entry, self._clock()
        match reuse.decide(entry, wish, now, found.mark.changed):
            case Reuse.FRESH if entry is not None:
                return self._outcome(Verdict.HIT, entry, found.mark, now)
            case Reuse.STALE if entry is not None:
                return self._outcome(Verdict.STALE, entry, found.mark, now, detail="max-stale")
            case Reuse.STALE_WHILE_REVALIDATE if entry is not None and not _authorized(passage):
                renewal = replace(passage, method="GET", interim=None)
                self._flights.start(
                    flight(read, _sent(passage), found), self._load(read, renewal, wish, _Lead(gone=True))
                )
                return self._outcome(Verdict.STALE, entry, found.mark, now, detail="stale-while-revalidate")
            case Reuse.UNAVAILABLE:
                raise Refused(UNAVAILABLE, status=504)
            case Reuse.FRESH | Reuse.STALE | Reuse.STALE_WHILE_REVALIDATE | Reuse.REVALIDATE | Reuse.ABSENT:
                return await self._ask(read, passage, wish, found)
            case never:
                assert_never(never)

    async def aclose(self) -> None:
        await self._flights.aclose()

    async def _ask(self, read: Read, passage: Passage, wish: Wish, found: Found) -> Outcome | Answer:
        if passage.method == "HEAD":
            return await self._head(read, passage, found)
        alone = found.entry is None and _names(passage.headers, headers.CONDITIONAL)
        if alone or wish.no_store or _authorized(passage):
            return await self._fetch(read, passage, wish, found)
        lead = _Lead()
        place = flight(read, _sent(passage), found)
        try:
            outcome, collapsed = await self._flights.join(place, self._load(read, passage, wish, lead))
        except asyncio.CancelledError:
            lead.gone = True
            if lead.answer is not None:
                await lead.answer.aclose()
            raise
        if lead.answer is not None:
            return lead.answer
        if not collapsed and outcome is not None:
            return outcome
        if outcome is None or not _may_be_shared(outcome) or not suits(outcome.entry, _sent(passage)):
            return await self._fetch(read, passage, wish, found)
        return replace(outcome, collapsed=True)

    def _load(
        self, read: Read, passage: Passage, wish: Wish, lead: _Lead
    ) -> Callable[[], Coroutine[Any, Any, Outcome | None]]:
        """A flight: look again, ask, store. None where the answer is nobody's but the leader's."""

        async def load() -> Outcome | None:
            found = await self._shelf.find(read, _sent(passage))
            now = self._clock()
            if found.entry is not None and reuse.decide(found.entry, wish, now, found.mark.changed) is Reuse.FRESH:
                return self._outcome(Verdict.HIT, found.entry, found.mark, now)  # another member was faster
            answer = await self._fetch(read, passage, wish, found)
            if isinstance(answer, Outcome):
                return answer
            if lead.gone:
                await answer.aclose()
            else:
                lead.answer = answer
            return None

        return load

    async def _fetch(self, read: Read, passage: Passage, wish: Wish, found: Found) -> Outcome | Answer:
        """Ask upstream, whether by the validators of what is stored or as the client does; store what may be."""
        entry, fields = found.entry, passage.headers
        if entry is not None:  # the client's own conditions are judged by what comes of it
            fields = (*_without(fields, headers.CONDITIONAL), *storing.validators(entry))
        requested_at = self._clock()
        try:
            answer = await self._passing.read(replace(passage, headers=fields))
        except (UpstreamError, Offline) as error:
            return self._fallback(read, found, error)
        times = {"requested_at": requested_at, "responded_at": self._clock()}
        head, forwarded = answer.head, self._forwarded(found)
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
                return self._stale_on_error(found, entry, head.status)
            return answer
        if wish.no_store or not storing.storable(head, authorized=_authorized(passage)):
            if entry is not None and head.status < 400:
                await self._shelf.forget(read, found)  # it has been replaced by what may not be stored
            return answer
        try:
            body = await _whole(answer)
        except UpstreamError as error:
            return self._fallback(read, found, error)
        if not isinstance(body, bytes):
            return body
        new = storing.stored(read.key, head, body, sent=_sent(passage), **times)
        return await self._keep_it(read, found, new, Verdict.MISS, forwarded, status=None, kept=True)

    async def _head(self, read: Read, passage: Passage, found: Found) -> Answer:
        """HEAD goes through; what it tells about a stored answer to GET is heeded (RFC 9111 section 4.3.5)."""
        requested_at = self._clock()
        answer = await self._passing.read(passage)
        entry, head = found.entry, answer.head
        if entry is None or head.status != 200:
            return answer
        times = {"requested_at": requested_at, "responded_at": self._clock()}
        renewed = storing.renewed(entry, head, **times) if storing.matches_head(entry, head) else None
        if renewed is None:
            await self._shelf.forget(read, found)
        elif storing.storable(storing.merged_head(entry, head, times["responded_at"])):
            await self._shelf.put(read, found, renewed)
        return answer

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
        outcome = self._outcome(verdict, entry, mark, self._clock())
        return replace(outcome, forwarded=forwarded, forwarded_status=status, stored=kept)

    def _forwarded(self, found: Found) -> str:
        if found.entry is None:
            return "uri-miss" if found.first is None else "vary-miss"
        left = reuse.fresh_for(found.entry, self._clock(), found.mark.changed)
        return "request" if left > 0 else "stale"

    def _outcome(self, verdict: Verdict, entry: Entry, mark: Mark, now: float, detail: str = "") -> Outcome:
        left = reuse.fresh_for(entry, now, mark.changed)
        return Outcome(verdict, entry, left, reuse.age(entry, now), detail=detail)

    def _stale_on_error(self, found: Found, entry: Entry, status: int | None) -> Outcome:
        outcome = self._outcome(Verdict.STALE, entry, found.mark, self._clock(), detail="stale-if-error")
        return replace(outcome, forwarded=self._forwarded(found), forwarded_status=status)

    def _fallback(self, read: Read, found: Found, error: Error) -> Outcome:
        """What is served when upstream cannot be reached: the stale copy where that is allowed, or the error."""
        entry, now = found.entry, self._clock()
        if isinstance(error, UpstreamError):
            self._observe(f"{read.endpoint.host.value} host", f"{read.endpoint.name}: {error.detail}")
        if entry is None:
            raise error
        if isinstance(error, Offline) and not entry.terms.strict:
            return self._outcome(Verdict.STALE, entry, found.mark, now, detail="offline")
        if isinstance(error, Offline) or not reuse.disconnected(entry, now, found.mark.changed):
            raise error
        return self._stale_on_error(found, entry, None)


class _Begun:
    """An answer of which some has been read: the whole of it, all the same."""

    def __init__(self, answer: Answer, pieces: list[bytes], rest: AsyncGenerator[bytes]) -> None:
        self._answer = answer
        self._pieces = pieces
        self._rest = rest

    @property
    def head(self) -> Head:
        return self._answer.head

    async def body(self) -> AsyncGenerator[bytes]:
        async with contextlib.aclosing(self._rest) as rest:
            for piece in self._pieces:
                yield piece
            async for piece in rest:
                yield piece

    async def aclose(self) -> None:
        await self._answer.aclose()


async def _whole(answer: Answer) -> bytes | Answer:
    """The body, with the answer closed; where it is too large to be stored, the answer as it was, open."""
    pieces: list[bytes] = []
    size, body = 0, answer.body()
    try:
        async for piece in body:
            pieces.append(piece)
            size += len(piece)
            if size > LARGEST:
                return _Begun(answer, pieces, body)
    except BaseException:
        await answer.aclose()
        raise
    await answer.aclose()
    return b"".join(pieces)


def _may_be_shared(outcome: Outcome) -> bool:
    """What upstream has just answered is for others only where it could be stored for them."""
    return outcome.stored or outcome.verdict in (Verdict.HIT, Verdict.STALE)


def _sent(passage: Passage) -> Headers:
    return headers.upstream(passage.headers)


def _authorized(passage: Passage) -> bool:
    return _names(passage.headers, headers.CREDENTIALS)


def _names(fields: Headers, names: frozenset[bytes]) -> bool:
    return any(name in names for name, _ in fields)


def _without(fields: Headers, names: frozenset[bytes]) -> Headers:
    return tuple(item for item in fields if item[0] not in names)
