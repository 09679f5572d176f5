"""What an answer may be, given all that was done to the proxy meanwhile. Whatever else comes is a fault of the proxy.

bodies     one that was right at a time that the answer's verdict and age allow; none else, ever
statuses   an error only for a cause, and the one that the contract gives that cause; 404 for nothing that exists
copies     what is stored answers while crates.io cannot
endings    nobody is cut off, but by a process that died or bytes that came wrong
"""

from __future__ import annotations

import time
import zlib
from collections import Counter
from dataclasses import dataclass, field

from tests.soak.chronicle import Chronicle, Object
from tests.soak.windows import INDEX, JSON, TARBALLS, Windows
from tests.soak.wire import Got

LONGEST = 26.0
"""Seconds that an answer may have been under way, for others, before its client came."""
CAUSED = 35.0
"""Seconds after the end of a trouble in which it may still be the cause of an error: a request that has begun then
lasts up to 26 s, and a breaker or a hold goes on for some."""
IDLE = 4.0
"""Seconds after which an idle connection may end any moment, with somebody's request on its way: reads are asked again,
changes may not be."""
SETTLES = 0.25
"""Seconds within which what was answered is stored, unless its process dies: it is answered first. A hundredth and a
transaction is what is promised; the rest is what a busy machine adds."""
NEWS = 4.0
"""Seconds in which a version need not be known: the index file is fresh for one, and then asked for."""
UPSTREAMS = {"tarball": ("static", "index"), "html": ("static",), "index": ("index",), "json": ("api",), "absent": ()}


@dataclass(frozen=True, slots=True)
class Asked:
    """A request. thing: what exists at its path, None for nothing; known: the body of which the client has sent the
    tag; part: the bytes that it wants, first and behind the last."""

    method: str
    path: str
    thing: Object | None
    known: bytes | None = None
    part: tuple[int, int] | None = None
    stores: tuple[str, ...] = ()


@dataclass
class Oracle:
    """`without`: what it is lenient about. kept: when a path was last known to be stored."""

    chronicle: Chronicle
    windows: Windows
    kept: dict[str, float] = field(default_factory=dict)
    tags: dict[tuple[str, str], bytes] = field(default_factory=dict)
    answers: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def forget(self, *paths: str) -> None:
        for path in paths:
            self.kept.pop(path, None)

    def judge(self, asked: Asked, got: Got) -> None:
        """Note the answer; what is wrong with it goes to `faults`."""
        self.answers["requests"] += 1
        self.statuses[got.status] += 1
        wrong = self._ending(asked, got) if got.trouble else self._answer(asked, got)
        if wrong:
            verdict = got.field("cache-status")
            self.faults.append(
                f"{time.monotonic():.3f} {asked.method} {asked.path}: {wrong} [status {got.status}, {verdict!r}, "
                f"asked {got.asked:.3f}, ended {got.ended:.3f}] {self._around(got)}"
            )

    def _around(self, got: Got) -> str:
        """What was going on, for who reads the report."""
        found = {each.cause for each in self.windows.all if each.touches(got.asked - 5, got.ended)}
        return f"while: {', '.join(sorted(found)) or 'nothing'}"

    def _ending(self, asked: Asked, got: Got) -> str:
        dying = self.windows.touching("processes", got.asked, got.ended)
        if dying:
            return ""
        if got.status == 0 and self.windows.touching("connections", got.asked, got.ended):
            return ""
        closing = self.windows.touching("closing", got.asked, got.ended)
        if closing and got.status == 0 and got.connected >= closing[0].start and got.trouble != "no answer":
            return ""  # it came when the doors were closed already
        if (
            closing
            and got.status == 0
            and got.trouble in ("refused", "closed", "reset")
            and got.asked >= closing[0].start
        ):
            return ""
        if got.trouble == "closed" and got.idle > IDLE:
            return ""
        tarball = asked.thing is not None and asked.thing.kind == "tarball"
        if tarball and got.trouble == "cut":
            if self.windows.touching(f"file {asked.path}", got.asked, got.ended):
                return ""
            hosts = self._troubled(asked.thing, got) or self.windows.touching("files", got.asked - LONGEST, got.ended)
            if got.status == 200 and hosts:
                return ""
        return f"the answer was {got.trouble}"

    def _answer(self, asked: Asked, got: Got) -> str:
        verdict = got.field("x-cache")
        self.answers[verdict or "without a verdict"] += 1
        if asked.method not in ("GET", "HEAD"):
            return self._changed(asked, got)
        if asked.thing is None:
            return self._absent(asked, got)
        if got.status in (200, 206, 304, 416):
            wrong = self._whole(asked, asked.thing, got)
            if not wrong and got.status == 200:
                self._stored(asked, asked.thing, got)
            return wrong
        return self._error(asked, asked.thing, got)

    def _error(self, asked: Asked, thing: Object, got: Got) -> str:
        late = LONGEST if self.windows.touching("index", thing.born - LONGEST, got.ended) else 0.0
        if got.status == 404 and thing.kind == "tarball" and got.asked < thing.born + NEWS + late:
            return ""  # the index file was on its way, slowly, since before there was such a version
        if got.status in (403, 404) or got.status == 500:
            return "what exists was refused so"
        held = self.kept.get(asked.path)
        unsettled = held is not None and self.windows.touching("processes", held, held + SETTLES)
        if held is not None and held < got.asked and not unsettled and not self._disturbed(thing, held, got.ended):
            return f"there was a copy, kept {got.asked - held:.1f} s before"
        causes = self._troubled(thing, got) + self.windows.touching("errors", got.asked - CAUSED, got.ended)
        allowed = frozenset[int]().union(*(window.statuses for window in causes))
        if got.status not in allowed:
            return f"an error without its cause (there were causes for {sorted(allowed)}): {got.body[:200]!r}"
        self.answers["errors with a cause"] += 1
        return ""

    def _troubled(self, thing: Object | None, got: Got) -> list:  # type: ignore[type-arg]
        hosts = UPSTREAMS[thing.kind] if thing is not None else ("api", "static", "index")
        return [each for host in hosts for each in self.windows.touching(host, got.asked - CAUSED, got.ended)]

    def _disturbed(self, thing: Object, start: float, end: float) -> bool:
        """Whether what was stored at one time may be gone at another."""
        store = {"tarball": TARBALLS, "index": INDEX}.get(thing.kind, JSON)
        stores = (store, INDEX) if store == TARBALLS else (store,)  # the index tells which file it is
        return any(self.windows.touching(each, start, end) for each in stores)

    def _stored(self, asked: Asked, thing: Object, got: Got) -> None:
        """A hit tells nothing: what could not be stored may be in the memory of one worker for a while."""
        if asked.method == "HEAD" or got.field("x-cache") not in ("MISS", "REVALIDATED"):
            return
        if self._disturbed(thing, got.asked - LONGEST, got.ended):
            return
        self.kept[asked.path] = got.ended

    def _absent(self, asked: Asked, got: Got) -> str:
        if got.status == 404:
            return ""
        if got.status in (200, 206, 304, 500):
            return "nothing exists there"
        causes = self._troubled(None, got) + self.windows.touching("errors", got.asked - CAUSED, got.ended)
        allowed = frozenset[int]().union(*(window.statuses for window in causes))
        return "" if got.status in allowed else f"an error without its cause: {got.body[:200]!r}"

    def _changed(self, asked: Asked, got: Got) -> str:
        """A change, or a private read: crates.io's own answer or an error for a cause."""
        if got.status in (200, 429):
            return ""
        causes = self.windows.touching("api", got.asked - CAUSED, got.ended)
        causes += self.windows.touching("errors", got.asked - CAUSED, got.ended)
        allowed = frozenset[int]().union(*(window.statuses for window in causes))
        return "" if got.status in allowed else f"an error without its cause: {got.body[:200]!r}"

    def _whole(self, asked: Asked, thing: Object, got: Got) -> str:
        """Whether the bytes are right, at the time that the answer says they are of."""
        right = self.chronicle.right(asked.path, self._since(got), got.ended)
        ever = self.chronicle.right(asked.path, float("-inf"), got.ended)
        if got.status == 304:
            if asked.known is None:
                return "304 to who has nothing"
            return "" if asked.known in right else "304 for bytes that are not right (any more)"
        if asked.method == "HEAD":
            sizes = {str(len(body)) for body in ever}
            return (
                "" if got.field("content-encoding") or got.field("content-length") in sizes | {""} else "a wrong length"
            )
        body = _plain(got)
        if body is None:
            return "a coding that cannot be read"
        if asked.part is not None and got.status == 206:
            start, end = asked.part
            ever, right = ([each[start:end] for each in bodies] for bodies in (ever, right))
        elif got.status != 200:
            return "a status that nobody asked for"
        if body not in ever:
            return f"WRONG BYTES: {len(body)} of them, right are {sorted({len(each) for each in ever})}"
        if body not in right:
            return f"bytes that were right once, and not {got.field('age') or 0} s ago"
        if got.status == 200:
            return self._tag(asked, got, next(each for each in ever if each == body))
        return ""

    def _since(self, got: Got) -> float:
        """From when on the bytes may be right."""
        if got.field("x-cache") == "STALE" or self.windows.touching("time", got.asked - LONGEST, got.ended):
            return float("-inf")
        return got.asked - float(got.field("age") or 0) - LONGEST

    def _tag(self, asked: Asked, got: Got, body: bytes) -> str:
        """One tag never means two things."""
        tag = got.field("etag")
        if not tag or tag.startswith("W/"):
            return ""
        before = self.tags.setdefault((asked.path, tag), body)
        return "" if before == body else f"the tag {tag} means two different bodies"


def _plain(got: Got) -> bytes | None:
    coding = got.field("content-encoding")
    if coding == "gzip":
        try:
            return zlib.decompress(got.body, wbits=31)
        except zlib.error:
            return None
    return got.body if not coding else None
