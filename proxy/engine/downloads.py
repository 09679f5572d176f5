"""Tarballs: whose checksum is wanted, is it stored, else fetch it once and let everybody read along.

The index alone says which bytes a version has; a checksum in a URL is only the client's word.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace

from proxy.engine.answers import UNAVAILABLE, Answers
from proxy.engine.at_hand import AtHand
from proxy.engine.fill import DOWNLOAD, TARBALL_FIELDS, Fill, announced
from proxy.engine.flight import FIRST_BYTE
from proxy.errors import Declined, Faulty, Late, Offline, Refused
from proxy.fleet.base import Fleet
from proxy.model import Crate, Host, Outcome, Verdict
from proxy.rules import keys, sparse
from proxy.rules.endpoints import Policy
from proxy.stores.base import Blob, BlobStore, Observer
from proxy.stores.memory import Memory
from proxy.upstream.base import Ask, Upstream

MISSING = 10_000
"""Files remembered as missing on the static host."""
AGAIN = 5
"""Seconds after which to ask again for a part of a tarball that is being fetched."""


@dataclass(frozen=True, slots=True)
class Download:
    """A tarball to be sent: a stored file, one still arriving, or (for HEAD) only its size. `age`: seconds since
    it was stored."""

    verdict: Verdict
    sha256: str
    source: Blob | Fill | None
    size: int | None
    age: float = 0.0
    collapsed: bool = False


class Downloads:
    def __init__(
        self,
        *,
        answers: Answers,
        blobs: BlobStore,
        at_hand: AtHand,
        fleet: Fleet,
        upstream: Upstream,
        index_policy: Policy,
        missing_ttl: float,
        largest: int,
        clock: Callable[[], float],
        observe: Observer,
        stored: Callable[[int], Awaitable[object]],
    ) -> None:
        """`fleet`: the processes that share `blobs`. `largest`: bytes of a tarball that is still kept. `missing_ttl`:
        seconds for which a file that the static host does not have is not asked for again. `stored` is called after
        each new file, with its bytes."""
        self._answers = answers
        self._blobs = blobs
        self.at_hand = at_hand
        self._fleet = fleet
        self._upstream = upstream
        self._index_policy = index_policy
        self._missing_ttl = missing_ttl
        self._largest = largest
        self._clock = clock
        self._observe = observe
        self._stored = stored
        self.checksum_failures = 0  # tarballs whose bytes were not those of their checksum
        self._missing: Memory[float] = Memory(MISSING * 8)
        self._fills: dict[str, Fill] = {}
        self._running: set[asyncio.Task[None]] = set()

    async def get(
        self,
        name: str,
        version: str,
        sha256: str | None = None,
        *,
        head: bool = False,
        whole: bool = False,
        only_if_cached: bool = False,
    ) -> Download:
        """The tarball of a version. With `sha256`, that very file or none. `whole`: not before all of it is there
        and verified, as who wants a part of it needs: a part cannot be held back until the rest is known to be right.

        Raises `Refused` (404) where the index does not have the version or not with that checksum, and what
        reading the index or fetching the file raises. Whoever got it gives it back to `done`.
        """
        try:
            async with asyncio.timeout(FIRST_BYTE):
                found = await self._get(name, version, sha256, head, only_if_cached)
                if whole and isinstance(found.source, Fill):
                    return await self._finished(found, found.source)
                return found
        except TimeoutError:
            what = "is not here as a whole yet, as a part of it needs" if whole else "did not begin to come"
            again = AGAIN if whole else None  # the fetch goes on behind
            detail = f"the tarball of {name} {version} {what}, within {FIRST_BYTE:.0f} s; try again"
            raise Late(detail, retry_after=again) from None

    async def _get(self, name: str, version: str, sha256: str | None, head: bool, only_if_cached: bool) -> Download:
        if sha256 is not None:
            blob = await self.at_hand.open(Crate(name, version), sha256)
            if blob is not None:
                return self.hit(sha256, blob)
        release = await self._release(name, version, sha256, only_if_cached)
        blob = await self.at_hand.open(release.crate, release.sha256)
        if blob is not None:
            return self.hit(release.sha256, blob)
        if only_if_cached:
            raise Refused(UNAVAILABLE, status=504)
        if self._clock() < (self._missing.get(release.sha256) or 0.0):
            raise Refused(f"crates.io has no file for {release.name} {release.version}", status=404)
        if head:
            return Download(Verdict.MISS, release.sha256, None, await self._size(release))
        return await self._join(release)

    def again(self, key: str) -> Download | None:
        """What a request for a file comes to that is at hand; to be given back to `done`."""
        blob = self.at_hand.again(key)
        return None if blob is None else self.hit(key.rpartition(" ")[2], blob)

    async def done(self, download: Download) -> None:
        """The client has what it wanted, or has left."""
        if isinstance(download.source, Fill):
            await download.source.leave()
        elif download.source is not None:
            download.source.close()

    async def settled(self) -> None:
        """Wait until what is being fetched is stored, and room has been made for it."""
        await asyncio.gather(*self._running, return_exceptions=True)

    async def aclose(self) -> None:
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def hit(self, sha256: str, blob: Blob) -> Download:
        """What a request comes to that a stored file answers."""
        return Download(Verdict.HIT, sha256, blob, blob.size, age=max(0.0, self._clock() - blob.stored))

    async def _release(self, name: str, version: str, sha256: str | None, only_if_cached: bool) -> sparse.Release:
        """What the index says of a version. Where it contradicts the client, it is asked afresh, once."""
        outcome, release = await self._indexed(name, version, only_if_cached, no_cache=False)
        if release is None or sha256 not in (None, release.sha256):
            outcome, release = await self._indexed(name, version, only_if_cached, no_cache=True)
        if release is not None and sha256 in (None, release.sha256):
            return release
        if outcome.verdict is Verdict.STALE:  # an old copy that does not know it yet proves no absence
            why = f"the stored index file does not have {name} {version}{_with(sha256)} and cannot be renewed now"
            raise Offline(why) if outcome.detail == "offline" else Faulty(f"{why}; try again")
        raise Refused(f"crate `{name}` does not have a version `{version}`{_with(sha256)}", status=404)

    async def _indexed(
        self, name: str, version: str, only_if_cached: bool, *, no_cache: bool
    ) -> tuple[Outcome, sparse.Release | None]:
        read = keys.index_read(sparse.path(name), self._index_policy, no_cache=no_cache, only_if_cached=only_if_cached)
        outcome = await self._answers.get(read, patient=no_cache)
        if outcome.entry.status != 200:
            raise Refused(f"crate `{name}` does not exist", status=404)
        return outcome, sparse.release(outcome.entry.body, version)

    async def _size(self, release: sparse.Release) -> int | None:
        crate = release.crate
        target = keys.tarball_target(crate.name, crate.version)
        answer = await self._upstream.send(Ask(Host.STATIC, "HEAD", target, TARBALL_FIELDS, endpoint=DOWNLOAD))
        await answer.aclose()
        with self._remembered(release):
            return announced(answer.head, f"the tarball of {crate.name} {crate.version}")

    async def _join(self, release: sparse.Release) -> Download:
        fill = self._fills.get(release.sha256)
        collapsed = fill is not None
        if fill is None:
            fill = self._fills[release.sha256] = Fill(release.crate, release.sha256, largest=self._largest)
            task = asyncio.create_task(self._run(release.sha256, fill))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        fill.enter()
        try:
            with self._remembered(release):
                await fill.ready()
        except BaseException:
            await fill.leave()
            raise
        return Download(Verdict.MISS, release.sha256, fill, fill.size, collapsed=collapsed or not fill.fetched)

    async def _finished(self, found: Download, fill: Fill) -> Download:
        try:
            return replace(found, size=await fill.whole())
        except BaseException:
            await fill.leave()
            raise

    @contextlib.contextmanager
    def _remembered(self, release: sparse.Release) -> Iterator[None]:
        """A file that the static host does not have is not asked for again at once."""
        try:
            yield
        except Declined:
            self._missing.put(release.sha256, self._clock() + self._missing_ttl, size=8, tag="")
            raise

    async def _run(self, sha256: str, fill: Fill) -> None:
        fill.enter()
        try:
            await fill.run(self._upstream, self._blobs, self._fleet, self._observe)
        finally:
            del self._fills[sha256]  # before the file is closed: who comes later finds it in the store or begins anew
            await fill.leave()
        self.checksum_failures += fill.mismatched
        if fill.fetched:
            await self._stored(fill.received)


def _with(sha256: str | None) -> str:
    return "" if sha256 is None else f" with the checksum {sha256}"
