"""Hot answers as bytes, for the short way through the server: which requests it takes, and what answers them now.

An answer is made by the code that makes it for everybody (`answering`), once for each coding of what is kept, and
kept with it. Freshness is the engine's.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from proxy.engine import at_hand
from proxy.engine.answers import Answers
from proxy.engine.at_hand import Held, Opened
from proxy.engine.copies import Hot
from proxy.engine.downloads import Downloads
from proxy.errors import Refused
from proxy.model import Crate, Headers
from proxy.rules import codings, directives, endpoints, keys, sparse, verdicts
from proxy.rules.endpoints import Endpoint, Kind
from proxy.server import fast
from proxy.stores.base import Blob
from proxy.web import answering
from proxy.web.access import Access
from proxy.web.dispatch import CONFIG, Site
from proxy.web.messages import Client, Scope
from proxy.web.prepared import Joined, Prepared, Tally
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
_OWN = {b"date": b"%b"}
_IN_GZIP: Headers = ((b"accept-encoding", codings.GZIP),)
_ADDRESSES = 64
"""Addresses by which this proxy is called whose config.json is remembered."""
_PIECES = 16
"""Answers that are held in one piece may take this part of what objects in memory may."""


@dataclass(frozen=True, slots=True)
class Config:
    """What config.json says to those who call this proxy by one of its addresses."""

    body: bytes
    prepared: dict[object, Prepared] = field(default_factory=dict)


Kept = Hot | Held | Opened | Config


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a request asks for. It says nothing of what is stored. `find`: where to look for it, under `key`; `row`:
    its endpoint, if it has one; `crate`: the name of the one that it is about, "" for none; `plain`: what is sent goes
    to the kernel as it is."""

    find: Callable[[str], Kept | None]
    key: str
    row: Endpoint | None
    crate: str
    plain: bool
    head_only: bool
    gzip: bool
    conditional: bool
    none_match: bytes | None
    modified_since: bytes | None


class Hits:
    """A `fast.Lookup`.

    What is answered is counted where its bytes lie, which is one addition, and summed up by `tallies`. config.json,
    which no row is about, is counted in `own`.
    """

    def __init__(
        self,
        answers: Answers,
        downloads: Downloads,
        access: Access,
        site: Site,
        clock: Callable[[], float],
        room: int,
        asked: Callable[[str, int, int], None] = lambda crate, requests, size: None,
    ) -> None:
        """`room`: bytes that objects in memory may take. `asked` hears, when they are summed up, of the requests about
        a crate that were answered, and of their bytes."""
        self.own = Tally()
        self._asked = asked
        self._tallies: dict[tuple[str, int], Tally] = {}
        self._live: dict[int, Prepared] = {}  # what may have been given since it was last counted
        self._counting = threading.Lock()
        self.admits = access.admits
        self._hot = answers.hot
        self._downloads = downloads
        self._tarballs = downloads.at_hand
        self._site = site
        self._clock = clock
        self._configs: dict[str, Config] = {}
        self._joined = Joined(room // _PIECES)

    def wanted(self, scope: Scope) -> Wanted | None:
        if scope["method"] not in ("GET", "HEAD"):
            return None
        fields: dict[bytes, bytes] = dict(scope["headers"])
        if len(fields) != len(scope["headers"]) or not _USUAL.issuperset(fields):
            return None
        try:
            found = self._place(Request.of(scope))
        except Refused:
            return None
        if found is None:
            return None
        find, key, row, crate = found
        return Wanted(
            find,
            key,
            row,
            crate,
            scope["scheme"] == "http",
            scope["method"] == "HEAD",
            row is not None and row.kind is not Kind.TARBALL and codings.takes_gzip(fields.get(b"accept-encoding")),
            not fields.keys().isdisjoint(_CONDITIONS),
            fields.get(b"if-none-match"),
            fields.get(b"if-modified-since"),
        )

    def _place(self, request: Request) -> tuple[Callable[[str], Kept | None], str, Endpoint | None, str] | None:
        """Where to look for what answers a request, under what key; its row and its crate. Raises `Refused`."""
        if request.path == CONFIG:
            base = self._site.base(request)
            if base not in self._configs:
                if len(self._configs) >= _ADDRESSES:
                    self._configs.clear()
                self._configs[base] = Config(sparse.config(base))
            return self._configs.get, base, None, ""
        match = request.match()
        row, given = match.endpoint, match.parameters
        if row.kind is Kind.TARBALL and "sha256" in given:
            key = at_hand.key(Crate(given["crate"], given["version"]), given["sha256"])
            return self._tarballs.kept, key, row, match.name
        if row.kind in (Kind.JSON, Kind.INDEX) and row.name not in answering.OWN_ADDRESSES:
            return self._hot, keys.read(match, endpoints.Policy()).key, row, match.name
        return None

    def answer(self, wanted: Wanted) -> fast.Answer | None:
        now = self._clock()
        kept = wanted.find(wanted.key)
        if kept is None:
            return None
        prepared: Prepared | None = kept.prepared.get(wanted.gzip)
        if prepared is None or not prepared.since <= now < prepared.until:
            prepared = self._written(wanted, kept, now)
            if prepared is None:
                return None
        if wanted.conditional and prepared.has(wanted.none_match, wanted.modified_since):
            prepared.sames += 1
            return prepared.unchanged
        if wanted.head_only:
            prepared.heads += 1
            return prepared.head
        whole = prepared.whole
        if whole is None:
            if not (isinstance(kept, Opened) and wanted.plain):
                return None
            content = kept.blob.mapped()
            if content is None:
                return None
            whole = prepared.head[0], content, kept.blob.fileno()
        prepared.bodies += 1
        return whole

    def tallies(self) -> Mapping[tuple[str, int], Tally]:
        """What was answered up to now, by name of the endpoint and status. It may be asked in any thread, since
        whoever answers writes only what this one reads."""
        now = self._clock()
        with self._counting:
            for number, prepared in list(self._live.items()):
                if not prepared.since <= now < prepared.until:
                    self._live.pop(number, None)  # before it can be given again, it is written anew
                given, size = prepared.count()
                if given and prepared.crate:
                    self._asked(prepared.crate, given, size)
        return self._tallies

    async def sent(self, client: Client) -> bool:
        """Whether it was a request for a tarball at hand, which is then answered: what the server has read of it need
        not be read again."""
        wanted: Wanted | None = client.scope.get(fast.WANTED)
        if wanted is None or wanted.row is None or wanted.row.kind is not Kind.TARBALL:
            return False
        found = self._downloads.again(wanted.key)
        if found is None:
            return False
        scope = client.scope
        client.seen.endpoint, client.seen.crate = wanted.row.name, wanted.crate
        client.seen.verdict, client.seen.path = found.verdict, scope["path"]
        request = Request(scope["method"], scope["scheme"], scope["path"], (), tuple(scope["headers"]))
        await answering.download(client, request, found, self._downloads, by_checksum=True)
        return True

    def _written(self, wanted: Wanted, kept: Kept, now: float) -> Prepared | None:
        """What is kept, with its figures as they are now. Until they change nothing has to be decided about it: it is
        fresh as long."""
        # An absence is seldom asked for twice; and what has not been answered yet, by a clock that went backwards, has
        # an age that says nothing.
        if isinstance(kept, Hot) and (not kept.fresh(now) or kept.entry.status != 200 or now < kept.entry.responded_at):
            return None
        if isinstance(kept, Opened) and not kept.blob.sound():
            return None
        prepared: Prepared | None = kept.prepared.get(wanted.gzip)
        if prepared is None:
            prepared = kept.prepared[wanted.gzip] = self._prepared(wanted, kept, now)
        figures, until = self._figures(kept, now)
        prepared.write(figures, now, until, joined=self._joined.takes(prepared))
        self._live[id(prepared)] = prepared
        return prepared

    def _figures(self, kept: Kept, now: float) -> tuple[tuple[object, ...], float]:
        """What stands in its heads that changes with time, and until when it is right."""
        if isinstance(kept, Hot):
            found = kept.hit(now)
            # Both are told in whole seconds: one goes up with the age, the other down with what is left.
            change = min(1.0 - found.age % 1.0, found.fresh_for % 1.0)
            return (found.age, verdicts.whole(found.fresh_for)), min(now + change, kept.fresh_until)
        at = time.time()
        date, left = directives.date(int(at)), 1.0 - at % 1.0
        if isinstance(kept, Config):
            return (date,), now + left
        self._tarballs.used(kept.sha256)
        age = self._downloads.hit(kept.sha256, _blob(kept)).age
        return (date, age), now + min(1.0 - age % 1.0, left)

    def _prepared(self, wanted: Wanted, kept: Kept, now: float) -> Prepared:
        def reply(*conditions: tuple[bytes, bytes]) -> answering.Reply:
            fields = (*(_IN_GZIP if wanted.gzip else ()), *conditions)
            request = Request("GET", "http", "", (), fields)
            if isinstance(kept, Config):
                return answering.own(request, kept.body)
            if isinstance(kept, Hot):
                assert wanted.row is not None
                return answering.reply(request, wanted.row, kept.hit(now), origins={}, base=None)
            found = self._downloads.hit(kept.sha256, _blob(kept))
            if isinstance(kept, Held):
                return answering.held(request, found, kept.data, by_checksum=True)
            return answering.headed(request, found, kept.blob.size, by_checksum=True)

        whole, unchanged = reply(), reply((b"if-none-match", b"*"))
        counting = _OWN if isinstance(kept, Config) else _ENTRY if isinstance(kept, Hot) else _TARBALL
        counts = self._tally(wanted.row, whole.status), self._tally(wanted.row, unchanged.status)
        elsewhere = kept.blob.size if isinstance(kept, Opened) else None
        return Prepared.of(whole, unchanged, counting, wanted.crate, counts, elsewhere)

    def _tally(self, row: Endpoint | None, status: int) -> Tally:
        return self.own if row is None else self._tallies.setdefault((row.name, status), Tally())


def _blob(kept: Held | Opened) -> Blob:
    return kept if isinstance(kept, Held) else kept.blob
