"""Hot answers as bytes, for the short way through the server: which requests it takes, and what answers them now.

An answer is made by the code that makes it for everybody (`answering.reply`), once for each coding of an entry, and
kept with the entry; only the figures that change with the second are written anew. Freshness is the engine's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from proxy.engine.answers import Answers
from proxy.engine.copies import Hot
from proxy.errors import Refused
from proxy.model import Headers
from proxy.rules import codings, conditional, endpoints, headers, keys, verdicts
from proxy.rules.endpoints import Endpoint, Kind
from proxy.server import fast
from proxy.web import answering, messages
from proxy.web.access import Access
from proxy.web.messages import Scope
from proxy.web.request import Request

# The fields of an ordinary request. With any other, or with one of them twice, it goes to the app: what they may mean
# there (credentials, wishes of caches, parts, what a proxy before us says) is not looked at here.
_USUAL = frozenset(
    (
        b"accept",
        b"accept-encoding",
        b"accept-language",
        b"cargo-protocol",
        b"connection",
        b"host",
        b"if-modified-since",
        b"if-none-match",
        b"user-agent",
    )
)
_CONDITIONS = (b"if-none-match", b"if-modified-since")
_IN_GZIP: Headers = ((b"accept-encoding", codings.GZIP),)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a request asks for. It says nothing of what is stored."""

    row: Endpoint
    key: str
    head_only: bool
    gzip: bool
    conditional: bool
    none_match: bytes | None
    modified_since: bytes | None


@dataclass(slots=True)
class Tally:
    """Answers of one endpoint with one status since the start, and the bytes of their bodies."""

    requests: int = 0
    bytes: int = 0


@dataclass(slots=True)
class Prepared:
    """One coding of an entry. The heads, of the whole and of its 304, are right from `since` until `until`, when a
    figure in them changes; the forms want the age and the freshness left."""

    etag: str
    modified: bytes | None
    body: bytes
    whole_form: bytes
    unchanged_form: bytes
    count_whole: Tally
    count_unchanged: Tally
    since: float = math.inf
    until: float = -math.inf
    whole: bytes = b""
    unchanged: bytes = b""

    def write(self, hot: Hot, now: float) -> None:
        found = hot.hit(now)
        figures = (found.age, verdicts.whole(found.fresh_for))
        self.whole, self.unchanged = self.whole_form % figures, self.unchanged_form % figures
        self.since = now
        # Each figure is a whole number of seconds: one goes up with the age, the other down with what is left.
        self.until = now + min(1.0 - found.age % 1.0, found.fresh_for % 1.0)


class Hits:
    """A `fast.Lookup`. `tallies`: what it has answered, by name of the endpoint and status."""

    def __init__(self, answers: Answers, access: Access, clock: Callable[[], float]) -> None:
        self.tallies: dict[tuple[str, int], Tally] = {}
        self.admits = access.admits
        self._answers = answers
        self._clock = clock

    def wanted(self, scope: Scope) -> Wanted | None:
        if scope["method"] not in ("GET", "HEAD"):
            return None
        fields: dict[bytes, bytes] = dict(scope["headers"])
        if len(fields) != len(scope["headers"]) or not _USUAL.issuperset(fields):
            return None
        try:
            match = Request.of(scope).match()
        except Refused:
            return None
        row = match.endpoint
        if row.kind not in (Kind.JSON, Kind.INDEX) or row.name in answering.OWN_ADDRESSES:
            return None
        return Wanted(
            row,
            keys.read(match, endpoints.Policy()).key,
            scope["method"] == "HEAD",
            codings.takes_gzip(fields.get(b"accept-encoding")),
            not fields.keys().isdisjoint(_CONDITIONS),
            fields.get(b"if-none-match"),
            fields.get(b"if-modified-since"),
        )

    def answer(self, wanted: Wanted) -> tuple[bytes, bytes] | None:
        now = self._clock()
        hot = self._answers.at_hand(wanted.key, now)
        if hot is None:
            return None
        prepared = hot.prepared.get(wanted.gzip)
        if prepared is None:
            if hot.entry.status != 200:
                return None
            prepared = hot.prepared[wanted.gzip] = self._prepare(wanted, hot, now)
        assert isinstance(prepared, Prepared)
        if not prepared.since <= now < prepared.until:
            prepared.write(hot, now)
        if wanted.conditional and conditional.not_modified(
            wanted.none_match, wanted.modified_since, prepared.etag, prepared.modified
        ):
            prepared.count_unchanged.requests += 1
            return prepared.unchanged, b""
        count = prepared.count_whole
        count.requests += 1
        if wanted.head_only:
            return prepared.whole, b""
        count.bytes += len(prepared.body)
        return prepared.whole, prepared.body

    def _prepare(self, wanted: Wanted, hot: Hot, now: float) -> Prepared:
        def reply(*conditions: tuple[bytes, bytes]) -> answering.Reply:
            fields = (*(_IN_GZIP if wanted.gzip else ()), *conditions)
            request = Request("GET", "http", "", (), fields)
            return answering.reply(request, wanted.row, hot.hit(now), origins={}, base=None)

        whole = reply()
        unchanged = reply((b"if-none-match", b"*"))
        return Prepared(
            (headers.value(whole.headers, b"etag") or b"").decode("latin-1"),
            headers.value(whole.headers, b"last-modified"),
            whole.body,
            _template(whole),
            _template(unchanged),
            self._tally(wanted.row, whole.status),
            self._tally(wanted.row, unchanged.status),
        )

    def _tally(self, row: Endpoint, status: int) -> Tally:
        return self.tallies.setdefault((row.name, status), Tally())


def _template(answer: answering.Reply) -> bytes:
    """Its head, with `%d` for the age and for the seconds of freshness left."""
    fields = messages.sent(answer.status, messages.measured(answer.headers, answer.body))
    counting = {b"age": b"%d", b"cache-status": verdicts.HIT + b"%d"}
    return fast.head(
        answer.status,
        tuple((name, counting.get(name) or value.replace(b"%", b"%%")) for name, value in fields),
    )
