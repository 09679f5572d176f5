"""Straight through: changes and private reads with the caller's credentials, and whatever no row has times for.

Nothing here is retried, joined with another request, stored or logged with its fields.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from proxy.engine.flight import FIRST_BYTE
from proxy.engine.purging import Purging
from proxy.errors import Late, UpstreamError
from proxy.model import Head, Headers, Host, Selection
from proxy.rules import codings, headers, invalidation, names
from proxy.rules.bucket import Urgency
from proxy.rules.endpoints import Kind
from proxy.rules.publish import NameReader
from proxy.rules.routes import Match
from proxy.upstream.base import Answer, Ask, Interim, Need, Upstream

CHANGE_PATIENCE = 65.0
"""Seconds without a byte of an answer to a change: crates.io itself gives up after 60 (its CDN's limit)."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A request on its way through. `body` is None where the client sends none; a read has none. `interim`: what
    tells the client something before its answer. `urgency`: for whom it is made, where it is public;
    `awaited`: the same, where somebody listens to what becomes of it."""

    match: Match = field(repr=False)  # what may hold a token is in no traceback
    method: str
    target: str = field(repr=False)
    headers: Headers = field(repr=False)
    body: AsyncIterator[bytes] | None = field(default=None, repr=False)
    interim: Interim | None = None
    urgency: Urgency = Urgency.CLIENT
    awaited: Need | None = None

    @property
    def need(self) -> Need:
        """What is private, changes something or carries credentials goes in its caller's name."""
        if self.awaited is not None:
            return self.awaited
        public = self.match.endpoint.kind is Kind.TRANSPARENT
        credentials = headers.names_any(self.headers, headers.CREDENTIALS)
        return Need(self.urgency if public and not credentials else Urgency.CALLER)


class Passing:
    def __init__(self, *, upstream: Upstream, purging: Purging, origin: str) -> None:
        """`origin`: scheme and authority of the API host, by which it names its own URLs."""
        self._upstream = upstream
        self._origin = origin
        self._purging = purging

    async def read(self, passage: Passage) -> Answer:
        """Forward a read with the caller's credentials. The caller closes the answer.

        Raises `Faulty`, `Late` or `Offline` where no answer came, and `Throttled` where a public one may not be asked
        for now.
        """
        return await self._send(passage, None, patience=None)

    async def private(self, passage: Passage) -> Answer:
        """The same, of what is its caller's alone: there is no copy to wait with, so that it comes in time or not."""
        try:
            async with asyncio.timeout(FIRST_BYTE):
                return await self.read(passage)
        except TimeoutError:
            raise Late(f"crates.io did not begin to answer within {FIRST_BYTE:.0f} s; try again") from None

    async def change(self, passage: Passage) -> Answer:
        """Forward a change; where it may have succeeded, the crate's entries must be revalidated from then on.

        They are invalidated in every worker before the answer's first byte is passed on. Raises as `read`.
        """
        upload = _Upload(passage.body)
        body = upload.pieces() if passage.body is not None else None
        if passage.method == "OPTIONS":  # it asks what would be possible, and changes nothing
            return await self._send(passage, body, CHANGE_PATIENCE)
        try:
            answer = await self._send(passage, body, CHANGE_PATIENCE)
        except UpstreamError as error:
            if upload.ended and not error.unsent:  # it may have been carried out all the same
                await self._invalidate(passage.match, upload)
            raise
        # A refusal changed nothing; a 5xx may come from behind the change.
        if not 400 <= answer.head.status < 500:
            await self._invalidate(passage.match, upload)
        for key in invalidation.outdated(passage.target, answer.head, self._origin):
            await self._purging.outdated("other", key)
        return answer

    async def _send(self, passage: Passage, body: AsyncIterator[bytes] | None, patience: float | None) -> Answer:
        ask = Ask(
            Host.API,
            passage.method,
            passage.target,
            sent(passage),
            body,
            patience,
            straight=True,
            need=passage.need,
            interim=_heard(passage.interim),
            endpoint=passage.match.endpoint.name,
        )
        return await self._upstream.send(ask)

    async def _invalidate(self, match: Match, upload: _Upload) -> None:
        crate = names.folded(upload.name.name or "") if match.endpoint.name == "publish" else match.crate
        if match.endpoint.invalidates and crate:
            await self._purging.changed(Selection(crate=crate))


def sent(passage: Passage) -> Headers:
    """The fields of a request as they go upstream. What comes back in a coding is passed on in it, never decoded."""
    coding = codings.accepted(headers.value(passage.headers, b"accept-encoding"))
    return (*headers.upstream(passage.headers), (b"accept-encoding", coding))


def _heard(interim: Interim | None) -> Interim | None:
    """What passes an interim answer of upstream's on, without the fields that are not the client's."""
    return None if interim is None else lambda status, fields: interim(status, headers.interim(fields))


def head_downstream(head: Head) -> Head:
    """What of an answer's head is passed on; without a Cache-Control of upstream's nobody may keep it."""
    fields = headers.downstream(head.headers)
    age = headers.value(head.headers, b"age")
    if age is not None:  # whoever stores it behind us has to know
        fields = (*fields, (b"age", age))
    if headers.value(fields, b"cache-control") is None:
        fields = (*fields, (b"cache-control", b"no-store"))
    return Head(head.status, fields)


class _Upload:
    """A body on its way up: which crate it names, and whether all of it was sent."""

    def __init__(self, body: AsyncIterator[bytes] | None) -> None:
        self._body = body
        self.name = NameReader()
        self.ended = body is None

    async def pieces(self) -> AsyncIterator[bytes]:
        assert self._body is not None
        async for piece in self._body:
            self.name.feed(piece)
            yield piece
        self.ended = True
