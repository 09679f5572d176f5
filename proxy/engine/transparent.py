"""Reads that no row has times for: upstream's own headers decide (RFC 9111), and what they do not allow passes.

A request with credentials is always passed on, and its answer is never stored.
"""

from __future__ import annotations

from collections.abc import Callable

from proxy.engine.answers import Hot
from proxy.engine.changes import Changes
from proxy.engine.passing import Passage, Passing
from proxy.model import Entry, Outcome, Verdict
from proxy.rules import directives, freshness, headers
from proxy.rules.endpoints import Policy
from proxy.rules.freshness import Decision
from proxy.rules.keys import Read
from proxy.stores import codec
from proxy.stores.base import Store
from proxy.stores.memory import Memory
from proxy.upstream.base import Answer

LARGEST = 4 * 1024 * 1024
"""Bytes of an answer that is stored; a larger one passes."""


class Transparent:
    def __init__(
        self,
        *,
        passing: Passing,
        memory: Memory[Hot],
        store: Store,
        changes: Changes,
        keep: float | None,
        clock: Callable[[], float],
    ) -> None:
        self._passing = passing
        self._memory = memory
        self._store = store
        self._changes = changes
        self._keep = keep
        self._clock = clock

    async def get(self, read: Read, passage: Passage) -> Outcome | Answer:
        """A stored answer, or upstream's own on its way through, which the caller closes. Raises as `Passing`."""
        private = any(name in headers.CREDENTIALS for name, _ in passage.headers)
        if private or passage.method != "GET":
            return await self._passing.read(passage)
        entry = await self._stored(read)
        now = self._clock()
        if freshness.decide(entry, Policy(), now, no_cache=read.no_cache) is Decision.FRESH and entry is not None:
            left = freshness.fresh_for(entry, Policy(), now)
            return Outcome(Verdict.HIT, entry, left, freshness.age(entry, Policy(), now))
        return await self._fetch(read, passage)

    async def _stored(self, read: Read) -> Entry | None:
        mark = await self._changes.of(read)
        hot = self._memory.get(read.key)
        value = await self._store.get(read.key) if hot is None else None
        entry = hot.entry if hot is not None else codec.decoded(value) if value is not None else None
        return entry if entry is not None and entry.requested_at > max(mark.changed, mark.purged) else None

    async def _fetch(self, read: Read, passage: Passage) -> Outcome | Answer:
        # What is stored must be the whole answer, whatever part of it this client asked for.
        fields = tuple(item for item in passage.headers if item[0] not in headers.CONDITIONAL)
        requested_at = self._clock()
        answer = await self._passing.read(Passage(passage.match, passage.method, passage.target, fields, passage.body))
        head, responded_at = answer.head, self._clock()
        length = directives.seconds(head.get(b"content-length").decode("latin-1"))
        asked = directives.cache_control(headers.value(fields, b"cache-control") or b"")
        storable = freshness.storable(head, Policy(), credentials=False) and "no-store" not in asked
        if not storable or length is None or length > LARGEST:
            return answer
        try:
            body = b"".join([piece async for piece in answer.body()])
        finally:
            await answer.aclose()
        entry = freshness.stored(
            read.key, head, body, requested_at=requested_at, responded_at=responded_at, transparent=True
        )
        await self._store.put(read.key, codec.encoded(entry), tag=read.tag, keep=self._keep)
        left = freshness.fresh_for(entry, Policy(), self._clock())
        self._memory.put(read.key, Hot(entry, responded_at + left), size=len(body) + 2048, tag=read.tag)
        age = freshness.age(entry, Policy(), self._clock())
        return Outcome(Verdict.MISS, entry, left, age, forwarded="uri-miss", stored=True)
