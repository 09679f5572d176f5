"""Reads of JSON, HTML and index files: look up, decide, load, store, answer. One explicit path.

It refuses to know where entries are kept, how upstream is reached, and how an answer is written to a client.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import assert_never

from proxy.engine.changes import Changes
from proxy.engine.flight import FIRST_BYTE, TURN, Flights, Meanwhile
from proxy.errors import Declined, Error, Faulty, Late, Offline, Refused, UpstreamError
from proxy.fleet.base import Fleet
from proxy.model import Entry, Head, Headers, Mark, Outcome, Verdict
from proxy.rules import bodies, codings, directives, freshness
from proxy.rules.endpoints import Kind
from proxy.rules.freshness import Decision
from proxy.rules.keys import Read
from proxy.stores import codec
from proxy.stores.base import Observer, Store
from proxy.stores.memory import Memory
from proxy.upstream.base import Ask, Upstream

LARGEST = 64 * 1024 * 1024
"""Bytes of JSON or of an index file; the largest index file is below 2 MB. An endless body ends here."""

UNAVAILABLE = "only-if-cached was asked for, and there is no copy that may be served"
"""RFC 9111 section 5.2.1.7: such a request is never the cause of one upstream."""

_ENTRY_OVERHEAD = 2048  # bytes that an entry in memory costs beside its body, measured roughly
_OUR_REFUSALS = (400, 403, 404, 405)  # upstream's statuses that are passed on in its own words


@dataclass(frozen=True, slots=True)
class Hot:
    """An entry in the memory tier; until `fresh_until` nothing needs to be decided about it."""

    entry: Entry
    fresh_until: float

    def fresh(self, now: float) -> bool:
        """A clock that went backwards makes nothing fresh for longer."""
        return self.entry.requested_at - 1.0 <= now < self.fresh_until


class Answers:
    """Everything that is answered from memory whole."""

    def __init__(
        self,
        *,
        memory: Memory[Hot],
        negatives: Memory[Hot],
        stores: Mapping[Kind, Store],
        keep: Mapping[Kind, float | None],
        upstream: Upstream,
        changes: Changes,
        fleet: Fleet,
        clock: Callable[[], float],
        observe: Observer,
        stale_after: float,
        offline: bool = False,
    ) -> None:
        """`negatives` holds the 404s, apart from the rest and in memory only, so that a flood of names that do
        not exist pushes nothing out. `keep`: seconds for which a store keeps an entry of that kind, None for ever.
        `stale_after`: seconds that upstream may take to begin an answer where there is a copy to serve instead.
        """
        self._memory = memory
        self._negatives = negatives
        self._stores = stores
        self._keep = keep
        self._upstream = upstream
        self._changes = changes
        self._fleet = fleet
        self._clock = clock
        self._observe = observe
        self._stale_after = stale_after
        self._offline = offline
        self._flights: Flights[Outcome] = Flights()
        self._begun: set[str] = set()  # keys that upstream has begun to answer

    async def get(self, read: Read, *, patient: bool = False) -> Outcome:
        """Answer a read: from memory, from a store, or by one request upstream for all who ask meanwhile.

        `patient`: wait for upstream, however slow, rather than be content with a stale copy. Raises `Declined`,
        `Faulty`, `Late` or `Offline` where there is nothing to serve.
        """
        now = self._clock()
        hot = self._memory.get(read.key) or self._negatives.get(read.key)
        if hot is not None and hot.fresh(now) and not _forced(read, hot.entry, now):
            return self._hit(read, hot.entry, hot.fresh_until - now, now)
        entry, mark = await self._stored(read)
        now = self._clock()
        decision = freshness.decide(entry, read.policy, now, changed=mark.changed, no_cache=read.no_cache)
        match decision:
            case Decision.FRESH if entry is not None:
                self._warm(read, entry, mark, now)
                return self._hit(read, entry, freshness.fresh_for(entry, read.policy, now, mark.changed), now)
            case Decision.STALE_WHILE_REVALIDATE if entry is not None and not self._offline:
                self._flights.start(read.key, lambda: self._load(read))
                return self._stale(read, entry, mark, now, detail="stale-while-revalidate")
            case Decision.FRESH | Decision.STALE_WHILE_REVALIDATE | Decision.REVALIDATE | Decision.ABSENT:
                if read.only_if_cached:
                    raise Refused(UNAVAILABLE, status=504)
                return await self._join(read, None if patient else entry)
        assert_never(decision)

    async def aclose(self) -> None:
        await self._flights.aclose()

    async def _join(self, read: Read, copy: Entry | None) -> Outcome:
        stale = Meanwhile(self._stale_after, lambda: self._unanswered(read)) if copy is not None else None
        try:
            outcome, collapsed = await self._flights.join(
                read.key, lambda: self._load(read), patience=FIRST_BYTE, meanwhile=stale
            )
        except TimeoutError:
            raise Late(f"{read.target} could not be had from crates.io within {FIRST_BYTE:.0f} s; try again") from None
        return replace(outcome, collapsed=True) if collapsed else outcome

    async def _unanswered(self, read: Read) -> Outcome | None:
        """The stored copy, where upstream has not begun to answer and the copy may be served."""
        if read.key in self._begun:
            return None
        entry, mark = await self._stored(read)
        now = self._clock()
        if entry is None or not freshness.may_serve_on_error(entry, read.policy, now, mark.changed):
            return None
        return self._stale(read, entry, mark, now, detail="stale-if-error")

    async def _load(self, read: Read) -> Outcome:
        """The flight, in turn with the other members of the fleet. What one has stored the others find; where it
        failed or must not be stored, each has one attempt."""
        if self._offline:
            return await self._look_and_ask(read)
        try:
            async with self._fleet.lease(read.key, TURN) as lease:
                outcome = await self._look_and_ask(read)
                if outcome.stored or outcome.verdict is Verdict.HIT:
                    lease.done()
                return outcome
        finally:
            self._begun.discard(read.key)

    async def _look_and_ask(self, read: Read) -> Outcome:
        """Look again, ask upstream, store. What fails becomes a stale answer where one may be served."""
        entry, mark = await self._stored(read)
        now = self._clock()
        decision = freshness.decide(entry, read.policy, now, changed=mark.changed, no_cache=read.no_cache)
        if entry is not None and decision is Decision.FRESH:  # another member was faster
            return self._hit(read, entry, freshness.fresh_for(entry, read.policy, now, mark.changed), now)
        forced = read.no_cache and freshness.decide(entry, read.policy, now, changed=mark.changed) is Decision.FRESH
        forwarded = "uri-miss" if entry is None else "request" if forced else "stale"
        try:
            return await self._fetch(read, entry, forwarded)
        except (UpstreamError, Offline) as error:
            if isinstance(error, UpstreamError):
                self._observe(f"{read.endpoint.host.value} host", f"{read.endpoint.name} {read.tag}: {error.detail}")
            entry, mark = await self._stored(read)
            return self._fallback(read, entry, mark, error)

    async def _fetch(self, read: Read, entry: Entry | None, forwarded: str) -> Outcome:
        requested_at = self._clock()
        head, body = await self._exchange(read, freshness.validators(entry) if entry is not None else ())
        responded_at = self._clock()
        times = {"requested_at": requested_at, "responded_at": responded_at}
        if head.status == 304 and entry is not None:
            renewed = freshness.refreshed(entry, head, **times)
            if renewed is not None:
                return await self._keep_it(read, renewed, Verdict.REVALIDATED, forwarded=forwarded, status=304)
            head, body = await self._exchange(read, ())
        head, body, coded = _decoded(read, head, body)
        if head.status == 200:
            fault = bodies.fault(read.endpoint.kind, head.get(b"content-type"), body)
            if fault is not None:
                raise Faulty(f"{read.endpoint.host.value} host of crates.io answered {read.target} wrongly: {fault}")
        elif not _missing(read, head):
            raise refusal(read, head, body, self._clock())
        else:
            head = replace(head, status=404)
        fresh = freshness.stored(read.key, head, body, **times, coded=coded)
        if not freshness.storable(head, read.policy):
            return Outcome(Verdict.MISS, fresh, 0.0, 0.0, forwarded=forwarded)
        return await self._keep_it(read, fresh, Verdict.MISS, forwarded=forwarded, status=None)

    async def _exchange(self, read: Read, conditions: Headers) -> tuple[Head, bytes]:
        accept = b"application/json" if read.endpoint.kind is Kind.JSON else b"*/*"
        fields = ((b"accept", accept), (b"accept-encoding", b"gzip"), *conditions)
        answer = await self._upstream.send(Ask(read.endpoint.host, "GET", read.target, fields))
        self._begun.add(read.key)
        try:
            pieces, size = [], 0
            async for piece in answer.body():
                pieces.append(piece)
                size += len(piece)
                if size > LARGEST:
                    raise Faulty(f"the answer to {read.target} is larger than {LARGEST} bytes")
            return answer.head, b"".join(pieces)
        finally:
            await answer.aclose()

    async def _keep_it(
        self, read: Read, entry: Entry, verdict: Verdict, *, forwarded: str, status: int | None
    ) -> Outcome:
        store = self._stores[read.endpoint.kind]
        if entry.status == 200:
            await store.put(read.key, codec.encoded(entry), tag=read.tag, keep=self._keep[read.endpoint.kind])
        else:  # upstream's 404 replaces what is stored at once
            await store.delete(read.key)
            self._memory.delete(read.key)
        mark = await self._changes.of(read)
        now = self._clock()
        stored = entry.requested_at > mark.purged  # a purge during the flight wins over its result
        if stored:
            self._warm(read, entry, mark, now)
        left = freshness.fresh_for(entry, read.policy, now, mark.changed)
        age = freshness.age(entry, now)
        return Outcome(verdict, entry, left, age, forwarded=forwarded, forwarded_status=status, stored=stored)

    async def _stored(self, read: Read) -> tuple[Entry | None, Mark]:
        """What is kept under the key, from the store or, where that has failed, from memory; and its marks."""
        value = await self._stores[read.endpoint.kind].get(read.key)
        # The marks come last: what was announced while the store was read must count.
        mark = await self._changes.of(read)
        entry = codec.decoded(value) if value is not None else None
        hot = self._memory.get(read.key)
        if entry is None and hot is not None:
            entry = hot.entry
        return (entry if entry is not None and entry.requested_at > mark.purged else None), mark

    def _warm(self, read: Read, entry: Entry, mark: Mark, now: float) -> None:
        left = freshness.fresh_for(entry, read.policy, now, mark.changed)
        size = len(entry.body) + len(entry.gzip.body if entry.gzip else b"") + _ENTRY_OVERHEAD
        tier = self._memory if entry.status == 200 else self._negatives
        tier.put(read.key, Hot(entry, now + left), size=size, tag=read.tag)

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
        if not freshness.may_serve_on_error(entry, read.policy, now, mark.changed):
            raise error
        answered = error.answered if isinstance(error, UpstreamError) else None
        outcome = self._stale(read, entry, mark, now, detail="stale-if-error")
        return replace(outcome, forwarded="stale", forwarded_status=answered)


def refusal(read: Read, head: Head, body: bytes, now: float) -> UpstreamError:
    """The error that an upstream status other than 200 and 404 means, in upstream's own words where it has some."""
    words = bodies.reason(body)
    error: UpstreamError
    if head.status in _OUR_REFUSALS or head.status == 429:
        detail = words or f"crates.io refused {read.target} with status {head.status}"
        error = Declined(detail, status=head.status, retry_after=directives.retry_after(head.get(b"retry-after"), now))
    else:
        said = f" ({words})" if words else ""
        error = Faulty(f"crates.io answered {read.target} with status {head.status}{said}; there is no copy to serve")
    error.answered = head.status
    return error


def _decoded(read: Read, head: Head, body: bytes) -> tuple[Head, bytes, bytes | None]:
    """An answer without its coding, and the body in gzip where it came so. Raises `Faulty` for another coding, for
    a body that is not whole, and for one that would become too large."""
    coding = head.get(b"content-encoding", b"identity").lower()
    if coding == b"identity":
        return head, body, None
    plain = codings.decoded(body, LARGEST) if coding in (codings.GZIP, b"x-gzip") else None
    if plain is None:
        raise Faulty(f"crates.io answered {read.target} in a coding that cannot be read; try again")
    fields = tuple(item for item in head.headers if item[0] not in (b"content-encoding", b"content-length"))
    return replace(head, headers=fields), plain, body


def _missing(read: Read, head: Head) -> bool:
    """Whether upstream says that it has no such object. The static host says 403 for that: its bucket may not
    be listed."""
    return head.status == 404 or (head.status == 403 and read.endpoint.kind is Kind.HTML)


def _forced(read: Read, entry: Entry, now: float) -> bool:
    return read.no_cache and now - entry.responded_at >= freshness.FORCED_AT_MOST_EVERY
