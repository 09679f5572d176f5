"""What the clients saw, and whether it kept the promise: what was ever had can be had, whatever crates.io does."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from tests.week.ways import Got

PATIENCE = 30.0
"""Seconds without a byte after which cargo gives up."""
EXCUSED = ("stale-if-error", "throttled", "offline")
"""What an answer says that was served because nothing better could be had."""
_DETAIL = re.compile(r"detail=([a-z-]+)")


@dataclass
class Lack:
    """A version that a crate's answers do not tell of, although somebody has asked: when the first one did and the
    last, and how much the API had been asked by then, by whomever."""

    since: float
    asked_since: int
    until: float
    asked_until: int

    @property
    def seconds(self) -> float:
        return self.until - self.since

    @property
    def asked(self) -> int:
        return self.asked_until - self.asked_since


class Witness:
    """`published`: when each version of a crate was, oldest first. `asked`: how much the API has been so far.

    failures: lines about reads of what had been had before, which then failed. put_off, in_vain: 429, and other
    failures, of what nobody had had. withheld: how old a new version was, in seconds, that an answer did not tell of,
    at most, and outdated: how many answers were so, by kind and excuse. lacks: the same from the first who asked to
    the last, by crate and number of versions told of, whatever the excuse. published_within: seconds until cargo saw
    its own version."""

    def __init__(
        self, clock: Callable[[], float], published: Callable[[str], list[float]], asked: Callable[[], int]
    ) -> None:
        self._clock = clock
        self._published = published
        self._asked = asked
        self._had: set[str] = set()
        self.requests: Counter[str] = Counter()
        self.verdicts: Counter[str] = Counter()
        self.details: Counter[str] = Counter()
        self.refused: Counter[tuple[str, int]] = Counter()
        self.longest: dict[str, float] = {}
        self.put_off = 0
        self.in_vain = 0
        self.failures: list[str] = []
        self.untrue: list[str] = []
        self.withheld: dict[str, float] = {}
        self.outdated: Counter[str] = Counter()
        self.lacks: dict[tuple[str, str, int], Lack] = {}
        self.published_within = 0.0

    def saw(self, kind: str, method: str, url: str, got: Got, waited: float) -> None:
        """One request and its answer, however it came out."""
        self.requests[kind] += 1
        self.longest[kind] = max(self.longest.get(kind, 0.0), waited)
        if verdict := got.fields.get("x-cache"):
            self.verdicts[verdict] += 1
        if detail := _DETAIL.search(got.fields.get("cache-status", "")):
            self.details[detail[1]] += 1
        read = method == "GET" and kind not in ("private", "write")
        if 200 <= got.status < 400 and waited <= PATIENCE:
            if read:
                self._had.add(url)
            return
        self.refused[kind, got.status] += 1
        words = got.body[:200].decode(errors="replace")
        told = f"at {self._clock():.0f}: {kind} {url}: {got.status or 'nothing'} after {waited:.1f} s {words}"
        if read and url in self._had:
            self.failures.append(told)
        elif got.status == 429:
            self.put_off += 1
        else:
            self.in_vain += 1
        if got.status == 429 and "retry-after" not in got.fields:
            self.untrue.append(f"429 that does not say when to come again: {told}")

    def read(self, kind: str, crate: str, got: Got, versions: int) -> None:
        """How many versions an answer told of. One that was served because nothing better could be had says so, and is
        reckoned apart."""
        detail = _DETAIL.search(got.fields.get("cache-status", ""))
        excuse = detail[1] if detail is not None and detail[1] in EXCUSED else ""
        published = self._published(crate)
        if versions < len(published):
            what = f"{kind}, {excuse}" if excuse else kind
            self.withheld[what] = max(self.withheld.get(what, 0.0), self._clock() - published[versions])
            self.outdated[what] += 1
            now, asked = self._clock(), self._asked()
            lack = self.lacks.setdefault((kind, crate, versions), Lack(now, asked, now, asked))
            lack.until, lack.asked_until = now, asked

    @property
    def total(self) -> int:
        return sum(self.requests.values())
