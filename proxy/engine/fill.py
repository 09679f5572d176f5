"""A tarball on its way from upstream into the store, with any number of clients reading along.

The fill belongs to no client. Its newest piece is held back until the checksum of the whole is known and the file
is published, so that bytes which turn out wrong never leave as a complete answer.

Of the processes that share a store one fetches and tells the others how far it is; they read along in its file.
When it fails or dies the next one fetches from the start, and those who have bytes already go on only where the
new bytes are the same. A file too large to be kept is theirs all the same, as long as they came while it did.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator

from proxy.engine.flight import TURN
from proxy.engine.held import HeldSpool
from proxy.errors import Declined, Error, Faulty
from proxy.fleet.base import Fleet, Lease
from proxy.model import Crate, Head, Host
from proxy.rules import keys
from proxy.rules.digest import Digest
from proxy.stores.base import Blob, BlobStore, Bytes, Observer, Spool, Trail
from proxy.upstream.base import Answer, Ask, Upstream

PIECE = 120 * 1024
"""Bytes read and sent at a time. Less than 128 KiB, from which glibc takes its memory from the kernel each time; and
what was just read is still in the processor's cache when it is sent: half the time of twice as much."""


class Fill:
    """One tarball being fetched. `size` is what upstream announced, None while or where that is unknown.
    `fetched`: whether this process has asked upstream for it; `mismatched`: whether that gave other bytes.

    Each reader calls `enter` once and `leave` once.
    """

    def __init__(self, crate: Crate, sha256: str, *, largest: int) -> None:
        self.size: int | None = None
        self.fetched = False
        self._crate = crate
        self._sha256 = sha256
        self._largest = largest
        self._released = 0
        self._complete = False
        self._error: Error | None = None
        self._spool: Spool | None = None
        self._blob: Blob | None = None
        self.mismatched = False
        self._trails: dict[str, Trail] = {}
        self._source: Blob | Spool | Trail | None = None  # the one of these that readers read
        self._observe: Observer = lambda what, happened: None
        self._readers = 0
        self._progress = asyncio.Event()

    async def run(self, upstream: Upstream, blobs: BlobStore, fleet: Fleet, observe: Observer) -> None:
        """Fetch to the end, verify, publish. What goes wrong is told to the readers and the observer, not raised.

        `fleet`: the processes that share `blobs`; if another one fetches already, this one reads along.
        """
        self._observe = observe
        try:
            async with fleet.lease(f"tarball {self._sha256}", TURN, lambda word: self._follow(word, blobs)) as lease:
                blob = await blobs.open(self._crate, self._sha256)
                if blob is not None:
                    await self._adopt(blob)
                else:
                    await self._fetch(upstream, blobs, lease)
                if self._blob is not None:
                    lease.done()
        except _Whole:
            self._complete = True
        except Error as error:
            self._error = error
            observe(Host.STATIC.value, error.detail)
        except OSError as error:
            self._error = Faulty(f"{self._name} could not be written to the cache or read there: {error}")
            observe("tarball", self._error.detail)
        finally:
            if not self._complete and self._error is None:
                self._error = Faulty(f"the fetch of {self._name} was broken off; try again")
            self._step()

    async def ready(self) -> None:
        """Wait until a first piece may be sent or the whole is there; raises what the fill failed with."""
        while self._released == 0 and not self._complete:
            await self._next()

    async def whole(self) -> int:
        """Wait for the end; the size in bytes."""
        while not self._complete:
            await self._next()
        return self._released

    async def read(self, offset: int, size: int) -> Bytes:
        """Bytes that have been released; only to be called for such."""
        assert self._source is not None
        return await self._source.read(offset, size)

    async def pieces(self) -> AsyncGenerator[Bytes]:
        """All bytes from the first on, as they are released. Raises where the fill fails."""
        offset = 0
        while True:
            if offset < self._released:
                piece = await self.read(offset, min(PIECE, self._released - offset))
                offset += len(piece)
                yield piece
            elif self._complete:
                return
            else:
                await self._next()

    @property
    def kept(self) -> bool:
        """Whether the file is in the store."""
        return self._blob is not None

    @property
    def received(self) -> int:
        """Bytes that readers may have by now."""
        return self._released

    def enter(self) -> None:
        self._readers += 1

    async def leave(self) -> None:
        """The last one out closes the files."""
        self._readers -= 1
        if self._readers == 0:
            for trail in self._trails.values():
                trail.close()
            if self._blob is not None:
                self._blob.close()
            if self._spool is not None:
                await self._spool.discard()

    async def _fetch(self, upstream: Upstream, blobs: BlobStore, lease: Lease) -> None:
        self.fetched = True
        target = keys.tarball_target(self._crate.name, self._crate.version)
        answer = await upstream.send(Ask(Host.STATIC, "GET", target, TARBALL_FIELDS, endpoint=DOWNLOAD))
        try:
            self.size = announced(answer.head, self._name)
            # A file too large for the store is still checked and passed on, and thrown away afterwards.
            kept = self.size is None or self.size <= self._largest
            limit = self._largest if self.size is None else self.size
            digest = Digest(self._sha256)
            spool = await self._spooled(blobs)
            async for piece in answer.body():
                released = digest.size
                digest.update(piece)
                if digest.size > limit:
                    why = "upstream announced" if self.size is not None else "cache.max_object allows where none is"
                    raise Faulty(f"{self._name} is larger than the {limit} bytes that {why}")
                spool = await self._written(spool, piece, released)
                if spool.name:
                    lease.tell(json.dumps([spool.name, self.size, released]))
                if await self._changed_over(spool, released):
                    self._step(released)
            self._verify(digest, answer)
            await self._changed_over(spool, digest.size, whole=True)
            if kept:
                await self._commit(spool)
            if self._blob is None and spool.name:  # nobody finds it in the store, and this is the last word about it
                lease.tell(json.dumps([spool.name, digest.size, digest.size]))
            self._complete = True
            self._step(released=digest.size)
        finally:
            await answer.aclose()

    async def _spooled(self, blobs: BlobStore) -> Spool:
        try:
            self._spool = await blobs.spool(self._crate, self._sha256)
        except OSError as error:
            self._spool = self._held(error)
        return self._spool

    async def _written(self, spool: Spool, piece: bytes, before: int) -> Spool:
        """The spool that has the piece now. Where the disk fails, all goes on in memory; `before` bytes were there."""
        try:
            await spool.write(piece)
            return spool
        except OSError as error:
            if not spool.name:
                raise
            held = self._held(error)
            for offset in range(0, before, PIECE):
                await held.write(await spool.read(offset, min(PIECE, before - offset)))
            await held.write(piece)
        self._spool = held
        if self._source is spool:
            self._source = held
        await spool.discard()
        return held

    async def _commit(self, spool: Spool) -> None:
        """Publish it. Where that fails the bytes are right all the same, and the clients get them."""
        try:
            self._source = self._blob = await spool.commit()
        except OSError as error:
            self._observe("tarballs", f"{self._name} could not be kept: {error}")

    def _held(self, error: OSError) -> HeldSpool:
        self._observe("tarballs", f"{self._name} is passed on and not kept: {error}")
        return HeldSpool()

    async def _follow(self, word: str, blobs: BlobStore) -> None:
        """Another process says how far it is."""
        name, size, released = json.loads(word)
        if name not in self._trails:
            trail = await blobs.follow(name)
            if trail is None:
                return  # It has come to its end, and there is more to hear soon.
            self._trails[name] = trail
        whole = released == size  # else the newest piece is held back
        if await self._changed_over(self._trails[name], released, whole=whole):
            self.size = size
            self._step(released)
            if whole:
                raise _Whole

    async def _adopt(self, blob: Blob) -> None:
        """Another process has published it."""
        self._blob = blob
        self.size = blob.size
        await self._changed_over(blob, blob.size, whole=True)
        self._complete = True
        self._step(blob.size)

    async def _changed_over(self, source: Blob | Spool | Trail, reached: int, *, whole: bool = False) -> bool:
        """Whether readers read from `source` now, of which `reached` bytes are there. Not until these are all that
        readers may have already, and never where they differ from those: an answer of two halves would look whole.
        """
        if self._source is not None and self._source is not source:
            if reached < self._released and not whole:
                return False
            if reached < self._released or not await self._same(self._source, source):
                raise Faulty(f"{self._name} came differently at the second attempt; try again")
        self._source = source
        return True

    async def _same(self, one: Blob | Spool | Trail, other: Blob | Spool | Trail) -> bool:
        for offset in range(0, self._released, PIECE):
            size = min(PIECE, self._released - offset)
            if await one.read(offset, size) != await other.read(offset, size):
                return False
        return True

    def _verify(self, digest: Digest, answer: Answer) -> None:
        if self.size is not None and digest.size != self.size:
            raise Faulty(f"{self._name} ended after {digest.size} of {self.size} bytes; try again")
        if not digest.matches():  # THE LINE that keeps wrong bytes out
            self.mismatched = True
            answer.distrust()
            raise Faulty(f"{self._name} does not have the checksum that the index gives; nothing was stored")

    @property
    def _name(self) -> str:
        return f"the tarball of {self._crate.name} {self._crate.version}"

    def _step(self, released: int = 0) -> None:
        self._released = max(self._released, released)
        waiting, self._progress = self._progress, asyncio.Event()
        waiting.set()

    async def _next(self) -> None:
        if self._error is not None:
            raise self._error
        await self._progress.wait()


class _Whole(Exception):
    """Another process has fetched and verified it, and has not kept it: there is no more to wait for."""


DOWNLOAD = "download"
"""The row of all that is done here."""
TARBALL_FIELDS = ((b"accept", b"*/*"), (b"accept-encoding", b"identity"))


def announced(head: Head, name: str) -> int | None:
    """The length that the head of a tarball announces. Raises `Declined` (404) where the static host has none,
    `Faulty` for everything else that is no 200."""
    # 403 is how the static host says that it has no such file: its bucket may be read but not listed.
    if head.status in (403, 404):
        raise Declined(f"crates.io has no file for {name}", status=404)
    if head.status != 200:
        raise Faulty(f"crates.io answered the request for {name} with status {head.status}")
    length = head.get(b"content-length")
    return int(length) if length.isdigit() else None
