"""What is stored, for people who look: by the name of a crate, and all of one crate. It asks nobody upstream.

It judges ages by the same rules that serve clients, and is bounded: a page of names, a number of answers.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from proxy.engine.copies import Copies
from proxy.model import Entry, Mark
from proxy.rules import freshness, keys, names, reuse, sparse
from proxy.rules.endpoints import Kind, Override
from proxy.rules.keys import Read
from proxy.stores import codec
from proxy.stores.base import Filed, Filing, Store, Tagged

PAGE = 50
"""Names on a page of the search."""
ANSWERS = 200
"""Stored answers that are told of one crate, of which some have one for every page of their dependents."""


@dataclass(frozen=True, slots=True)
class Found:
    """What is stored of a crate: answers in its name, tarballs, and the bytes of all, as far as a medium tells them.
    `crate`: its folded name; `name`: as the path of its index file spells it, where that is stored."""

    crate: str
    name: str
    index: bool
    answers: int
    tarballs: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Kept:
    """A stored answer. age: seconds since upstream vouched for it; fresh_for: until it is asked about it again, below
    zero where that is due; usable_for: for how long from now it may be served when upstream fails; dropped_in: when it
    goes whether or not there is room. All in seconds, infinite for never."""

    endpoint: str
    target: str
    size: int
    age: float
    fresh_for: float
    usable_for: float
    dropped_in: float


@dataclass(frozen=True, slots=True)
class Version:
    """A version that the stored index file has, or whose tarball is stored; `yanked` None where no index file tells."""

    version: str
    yanked: bool | None
    tarball: Filed | None


@dataclass(frozen=True, slots=True)
class Shown:
    """All that is stored of a crate. `name`: as the index spells it; `more`: answers that are not told."""

    name: str
    index: Kept | None
    versions: Sequence[Version]
    answers: Sequence[Kept]
    more: bool

    @property
    def empty(self) -> bool:
        return self.index is None and not self.answers and not any(each.tarball for each in self.versions)


class Catalogue:
    def __init__(
        self,
        *,
        copies: Copies,
        json: Tagged,
        json_values: Store,
        index: Tagged,
        blobs: Filing,
        keep: float,
        clock: Callable[[], float],
    ) -> None:
        """`json` and `index` are the media that are looked through, `json_values` is read; `keep`: seconds for which
        JSON is kept."""
        self._copies = copies
        self._json = json
        self._json_values = json_values
        self._index = index
        self._blobs = blobs
        self._keep = keep
        self._clock = clock

    async def search(self, part: str, after: str = "") -> list[Found]:
        """The crates of which something is stored whose names contain `part` and come behind `after`: a page of them.

        What no crate's name can hold finds nothing, without a look."""
        part = names.folded(part)
        if part and not names.is_part(part):
            return []
        index, json, blobs = await asyncio.gather(
            *(medium.crates(part, after, PAGE) for medium in (self._index, self._json, self._blobs))
        )
        by_name = [{each.crate: each for each in medium} for medium in (index, json, blobs)]
        # Whatever is among the first of all is among the first of each that has it.
        chosen = sorted({name for medium in by_name for name in medium})[:PAGE]
        spelt = await asyncio.gather(*(self._spelt(name) for name in chosen))
        found = []
        for name, spelling in zip(chosen, spelt, strict=True):
            file, answers, tarballs = (medium.get(name) for medium in by_name)
            there = [each for each in (file, answers, tarballs) if each is not None]
            found.append(
                Found(
                    name,
                    spelling,
                    file is not None,
                    answers.entries if answers is not None else 0,
                    tarballs.entries if tarballs is not None else 0,
                    sum(each.bytes for each in there),
                )
            )
        return found

    async def _spelt(self, crate: str) -> str:
        return next((place.rpartition("/")[2] for place in await self._index.tagged(crate, 1)), crate)

    async def crate(self, name: str, overrides: Mapping[str, Override]) -> Shown:
        """What is stored of a crate, whose name may be spelt in any way. `overrides`: what the settings say of the
        times of rows."""
        crate, now = names.folded(name), self._clock()
        files = await self._blobs.of(crate)
        places = await self._index.tagged(crate, PAGE)
        index, entry = await self._index_file(name, places, overrides, now)
        # Some have thousands of lines: in a thread, others have a turn meanwhile.
        releases = await asyncio.to_thread(lambda: list(sparse.releases(entry.body))) if entry is not None else []
        places = await self._json.tagged(crate, ANSWERS + 1)
        told = await asyncio.gather(*(self._answer(place, overrides, now) for place in places[:ANSWERS]))
        answers = [kept for kept in told if kept is not None]
        spelt = next((each.name for each in releases), next((each.crate.name for each in files), name))
        return Shown(spelt, index, _versions(releases, files), answers, len(places) > ANSWERS)

    async def _index_file(
        self, name: str, places: Sequence[str], overrides: Mapping[str, Override], now: float
    ) -> tuple[Kept | None, Entry | None]:
        """Of several spellings the index has one file."""
        own = keys.index_read(sparse.path(name)).key
        for place in sorted(places, key=lambda place: place != own) or [own]:
            read = keys.of_place(place, overrides)
            if read is not None:
                entry, mark = await self._copies.stored(read)
                if entry is not None:
                    return self._kept(read, entry, mark, now), entry
        return None, None

    async def _answer(self, place: str, overrides: Mapping[str, Override], now: float) -> Kept | None:
        read = keys.of_place(place, overrides)
        if read is None:
            return None
        if read.endpoint.kind is not Kind.TRANSPARENT:
            entry, mark = await self._copies.stored(read)
            return None if entry is None else self._kept(read, entry, mark, now)
        value = await self._json_values.get(place)
        entry = codec.decoded(value) if value is not None else None
        return None if entry is None else self._kept(read, entry, Mark(), now)

    def _kept(self, read: Read, entry: Entry, mark: Mark, now: float) -> Kept:
        age = freshness.age(entry, now)
        if read.endpoint.kind is Kind.TRANSPARENT:
            fresh_for, window = reuse.fresh_for(entry, now, mark.changed), entry.terms.stale_if_error
            usable_for = fresh_for + (reuse.DISCONNECTED_MOST if window is None else window)
        else:
            fresh_for = freshness.fresh_for(entry, read.policy, now, mark.changed)
            usable_for = fresh_for + read.policy.stale_if_error
        dropped_in = math.inf if read.endpoint.kind is Kind.INDEX else max(0.0, self._keep - age)
        size = len(entry.body) + (len(entry.gzip.body) if entry.gzip is not None else 0)
        return Kept(read.endpoint.name, read.target, size, age, fresh_for, max(0.0, usable_for), dropped_in)


def _versions(releases: Sequence[sparse.Release], files: Sequence[Filed]) -> list[Version]:
    """The newest first."""
    stored = {each.crate.version: each for each in files}
    told = {each.version: each.yanked for each in releases}
    ordered = sorted({*stored, *told}, key=lambda each: (names.precedence(each), each), reverse=True)
    return [Version(each, told.get(each), stored.get(each)) for each in ordered]
