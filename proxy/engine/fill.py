"""A tarball on its way from upstream into the store, with any number of clients reading along.

The fill belongs to no client. Its newest piece is held back until the checksum of the whole is known and the file
is published, so that bytes which turn out wrong never leave as a complete answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from proxy.errors import Declined, Error, Faulty
from proxy.model import Crate, Head, Host
from proxy.rules import keys
from proxy.rules.digest import Digest
from proxy.stores.base import Blob, BlobStore, Observer, Spool
from proxy.upstream.base import Ask, Upstream

PIECE = 256 * 1024
"""Bytes read and sent at a time."""


class Fill:
    """One tarball being fetched. `size` is what upstream announced, None while or where that is unknown.

    Each reader calls `enter` once and `leave` once.
    """

    def __init__(self, crate: Crate, sha256: str, *, largest: int) -> None:
        self.size: int | None = None
        self._crate = crate
        self._sha256 = sha256
        self._largest = largest
        self._released = 0
        self._complete = False
        self._error: Error | None = None
        self._spool: Spool | None = None
        self._blob: Blob | None = None
        self._readers = 0
        self._progress = asyncio.Event()

    async def run(self, upstream: Upstream, blobs: BlobStore, observe: Observer) -> None:
        """Fetch to the end, verify, publish. What goes wrong is told to the readers and the observer, not raised."""
        self.enter()
        try:
            await self._fetch(upstream, blobs)
        except Error as error:
            self._error = error
            observe(Host.STATIC.value, error.detail)
        except OSError as error:
            self._error = Faulty(f"{self._name} could not be written to the cache: {error}")
            observe("tarball", self._error.detail)
        finally:
            if not self._complete and self._error is None:
                self._error = Faulty(f"the fetch of {self._name} was broken off; try again")
            self._step()
            await self.leave()

    async def ready(self) -> None:
        """Wait until a first piece may be sent or the whole is there; raises what the fill failed with."""
        while self._released == 0 and not self._complete:
            await self._next()

    async def whole(self) -> int:
        """Wait for the end; the size in bytes."""
        while not self._complete:
            await self._next()
        return self._released

    async def read(self, offset: int, size: int) -> bytes:
        """Bytes that have been released; only to be called for such."""
        source = self._blob or self._spool
        assert source is not None
        return await source.read(offset, size)

    async def pieces(self) -> AsyncGenerator[bytes]:
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
    def received(self) -> int:
        """Bytes that readers may have by now."""
        return self._released

    def enter(self) -> None:
        self._readers += 1

    async def leave(self) -> None:
        """The last one out closes the file."""
        self._readers -= 1
        if self._readers == 0:
            if self._blob is not None:
                self._blob.close()
            if self._spool is not None:
                await self._spool.discard()

    async def _fetch(self, upstream: Upstream, blobs: BlobStore) -> None:
        target = keys.tarball_target(self._crate.name, self._crate.version)
        answer = await upstream.send(Ask(Host.STATIC, "GET", target, TARBALL_FIELDS))
        try:
            self.size = announced(answer.head, self._name)
            # A file too large for the store is still checked and passed on, and thrown away afterwards.
            kept = self.size is None or self.size <= self._largest
            limit = self._largest if self.size is None else self.size
            digest = Digest(self._sha256)
            self._spool = await blobs.spool(self._crate, self._sha256)
            async for piece in answer.body():
                digest.update(piece)
                if digest.size > limit:
                    raise Faulty(f"{self._name} is larger than {limit} bytes (announced, or cache.max_object)")
                await self._spool.write(piece)
                self._step(released=digest.size - len(piece))
            self._verify(digest)
            if kept:
                self._blob = await self._spool.commit()
            self._complete = True
            self._step(released=digest.size)
        finally:
            await answer.aclose()

    def _verify(self, digest: Digest) -> None:
        if self.size is not None and digest.size != self.size:
            raise Faulty(f"{self._name} ended after {digest.size} of {self.size} bytes; try again")
        if not digest.matches():  # THE LINE that keeps wrong bytes out
            raise Faulty(f"{self._name} does not have the checksum that the index gives; nothing was stored")

    @property
    def _name(self) -> str:
        return f"the tarball of {self._crate.name} {self._crate.version}"

    def _step(self, released: int | None = None) -> None:
        if released is not None:
            self._released = released
        waiting, self._progress = self._progress, asyncio.Event()
        waiting.set()

    async def _next(self) -> None:
        if self._error is not None:
            raise self._error
        await self._progress.wait()


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
