"""Hot answers as bytes, for the short way through the server: which requests it takes, and what answers them now.

An answer is made by the code that makes it for everybody (`answering.reply`), once for each coding of an entry, and
kept with the entry; only the figures that change with the second are written anew. Freshness is the engine's.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from proxy.engine import at_hand
from proxy.engine.answers import Answers
from proxy.engine.at_hand import Held
from proxy.engine.copies import Hot
from proxy.engine.downloads import Downloads
from proxy.errors import Refused
from proxy.model import Crate, Headers
from proxy.rules import codings, conditional, directives, endpoints, headers, keys, verdicts
from proxy.rules.endpoints import Endpoint, Kind
from proxy.server import fast
from proxy.web import answering, messages
from proxy.web.access import Access
from proxy.web.messages import Client, Scope
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
# Fields with figures, in the order in which they stand in a head.
_ENTRY = {b"age": b"%d", b"cache-status": verdicts.HIT + b"%d"}
_TARBALL = {b"date": b"%b", b"age": b"%d"}
_IN_GZIP: Headers = ((b"accept-encoding", codings.GZIP),)


Kept = Hot | Held


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a request asks for. It says nothing of what is stored. `crate`: the name of the one that it is about, ""
    for none. `tarball`: it is one, named by its checksum."""

    row: Endpoint
    crate: str
    key: str
    tarball: bool
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
    """One coding of what is kept. The heads, of the whole and of its 304, are right from `since` until `until`, when a
    figure in them changes; the forms want these figures. `bodies`, `heads` and `sames`: how often the whole, its head
    alone and the 304 were given; of these `counted` are in the tallies."""

    tag: str
    same: frozenset[bytes]  # what a client that has it says in nearly every case
    modified: bytes | None
    body: bytes
    whole_form: bytes
    unchanged_form: bytes
    crate: str
    count_whole: Tally
    count_unchanged: Tally
    bodies: int = 0
    heads: int = 0
    sames: int = 0
    counted: tuple[int, int, int] = (0, 0, 0)
    since: float = math.inf
    until: float = -math.inf
    whole: bytes = b""
    unchanged: bytes = b""

    def write(self, figures: tuple[object, ...], since: float, until: float) -> None:
        self.whole, self.unchanged = self.whole_form % figures, self.unchanged_form % figures
        self.since, self.until = since, until

    def has(self, wanted: Wanted) -> bool:
        """Whether a client that asks on condition has it already."""
        return wanted.none_match in self.same or conditional.not_modified(
            wanted.none_match, wanted.modified_since, self.tag, self.modified
        )


class Hits:
    """A `fast.Lookup`.

    What is answered is counted where its bytes lie, which is one addition, and summed up by `tallies`.
    """

    def __init__(
        self,
        answers: Answers,
        downloads: Downloads,
        access: Access,
        clock: Callable[[], float],
        asked: Callable[[str, int, int], None] = lambda crate, requests, size: None,
    ) -> None:
        """`asked` hears, when they are summed up, of the requests about a crate that were answered, and of their
        bytes."""
        self._asked = asked
        self._tallies: dict[tuple[str, int], Tally] = {}
        self._live: dict[int, Prepared] = {}  # what may have been given since it was last counted
        self._counting = threading.Lock()
        self.admits = access.admits
        self._answers = answers
        self._downloads = downloads
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
        row, gzip = match.endpoint, codings.takes_gzip(fields.get(b"accept-encoding"))
        if row.kind is Kind.TARBALL and "sha256" in match.parameters:
            given = match.parameters
            key, gzip = at_hand.key(Crate(given["crate"], given["version"]), given["sha256"]), False
        elif row.kind in (Kind.JSON, Kind.INDEX) and row.name not in answering.OWN_ADDRESSES:
            key = keys.read(match, endpoints.Policy()).key
        else:
            return None
        return Wanted(
            row,
            match.name,
            key,
            row.kind is Kind.TARBALL,
            scope["method"] == "HEAD",
            gzip,
            not fields.keys().isdisjoint(_CONDITIONS),
            fields.get(b"if-none-match"),
            fields.get(b"if-modified-since"),
        )

    def answer(self, wanted: Wanted) -> tuple[bytes, bytes] | None:
        now = self._clock()
        kept: Kept | None
        if wanted.tarball:
            kept = self._downloads.held(wanted.key)
        else:
            kept = self._answers.at_hand(wanted.key, now)
        if kept is None:
            return None
        prepared = kept.prepared.get(wanted.gzip)
        if not isinstance(prepared, Prepared) or not prepared.since <= now < prepared.until:
            # An absence is seldom asked for twice; and what has not been answered yet, by a clock that went
            # backwards, has an age that says nothing.
            if isinstance(kept, Hot) and (kept.entry.status != 200 or now < kept.entry.responded_at):
                return None
            if not isinstance(prepared, Prepared):
                prepared = kept.prepared[wanted.gzip] = self._prepare(wanted, kept, now)
            prepared.write(*self._figures(kept, now))
            self._live[id(prepared)] = prepared
        if wanted.conditional and prepared.has(wanted):
            prepared.sames += 1
            return prepared.unchanged, b""
        if wanted.head_only:
            prepared.heads += 1
            return prepared.whole, b""
        prepared.bodies += 1
        return prepared.whole, prepared.body

    def tallies(self) -> Mapping[tuple[str, int], Tally]:
        """What was answered up to now, by name of the endpoint and status. It may be asked in any thread, since
        whoever answers writes only what this one reads."""
        now = self._clock()
        with self._counting:
            for number, prepared in list(self._live.items()):
                if not prepared.since <= now < prepared.until:
                    self._live.pop(number, None)  # before it can be given again, it is written anew
                self._count(prepared)
        return self._tallies

    def _count(self, prepared: Prepared) -> None:
        given = prepared.bodies, prepared.heads, prepared.sames
        bodies, heads, sames = (new - old for new, old in zip(given, prepared.counted, strict=True))
        if not (bodies or heads or sames):
            return
        prepared.counted = given
        size = bodies * len(prepared.body)
        prepared.count_whole.requests += bodies + heads
        prepared.count_whole.bytes += size
        prepared.count_unchanged.requests += sames
        if prepared.crate:
            self._asked(prepared.crate, bodies + heads + sames, size)

    async def sent(self, client: Client) -> bool:
        """Whether it was a request for a tarball that is held open, which is then answered: what the server has read
        of it need not be read again."""
        wanted: Wanted | None = client.scope.get(fast.WANTED)
        found = self._downloads.opened(wanted.key) if wanted is not None and wanted.tarball else None
        if wanted is None or found is None:
            return False
        scope = client.scope
        client.seen.endpoint, client.seen.crate = wanted.row.name, wanted.crate
        client.seen.verdict, client.seen.path = found.verdict, scope["path"]
        request = Request(scope["method"], scope["scheme"], scope["path"], (), tuple(scope["headers"]))
        await answering.download(client, request, found, self._downloads, by_checksum=True)
        return True

    def _figures(self, kept: Kept, now: float) -> tuple[tuple[object, ...], float, float]:
        """What stands in its heads that changes with time, and from when until when it is right."""
        if isinstance(kept, Hot):
            found = kept.hit(now)
            # Both are told in whole seconds: one goes up with the age, the other down with what is left.
            change = min(1.0 - found.age % 1.0, found.fresh_for % 1.0)
            return (found.age, verdicts.whole(found.fresh_for)), now, now + change
        age = self._downloads.hit(kept.sha256, kept).age
        at = time.time()
        return (directives.date(int(at)), age), now, now + min(1.0 - age % 1.0, 1.0 - at % 1.0)

    def _prepare(self, wanted: Wanted, kept: Kept, now: float) -> Prepared:
        def reply(*conditions: tuple[bytes, bytes]) -> answering.Reply:
            fields = (*(_IN_GZIP if wanted.gzip else ()), *conditions)
            request = Request("GET", "http", "", (), fields)
            if isinstance(kept, Hot):
                return answering.reply(request, wanted.row, kept.hit(now), origins={}, base=None)
            found = self._downloads.hit(kept.sha256, kept)
            return answering.held(request, found, kept.data, by_checksum=True)

        whole, unchanged = reply(), reply((b"if-none-match", b"*"))
        counting = _ENTRY if isinstance(kept, Hot) else _TARBALL
        tag = headers.value(whole.headers, b"etag") or b""
        text = tag.decode("latin-1")
        return Prepared(
            text,
            frozenset([tag] if conditional.not_modified(tag, None, text, None) else ()),
            headers.value(whole.headers, b"last-modified"),
            whole.body,
            _form(whole, counting),
            _form(unchanged, counting),
            wanted.crate,
            self._tally(wanted.row, whole.status),
            self._tally(wanted.row, unchanged.status),
        )

    def _tally(self, row: Endpoint, status: int) -> Tally:
        return self._tallies.setdefault((row.name, status), Tally())


def _form(answer: answering.Reply, counting: Mapping[bytes, bytes]) -> bytes:
    """Its head, with a place for each figure."""
    fields = messages.sent(answer.status, messages.measured(answer.headers, answer.body))
    return fast.head(
        answer.status,
        tuple((name, counting.get(name) or value.replace(b"%", b"%%")) for name, value in fields),
    )
