"""Writes what is stored into an archive: all of it, or what some versions need. Stored bytes are read and hashed
before they are written, so that an archive holds nothing that its reader would have to refuse.

What is held is one answer, one piece of a tarball, and (on the disk) the list of what was written.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from proxy.engine.depot import Depot
from proxy.engine.fill import PIECE
from proxy.engine.inventory import Inventory, Wanted, intact, named
from proxy.errors import Error
from proxy.model import Crate, Entry
from proxy.rules import archive, keys, sparse, tar
from proxy.rules.keys import Read
from proxy.stores import codec
from proxy.stores.base import Blob, Bytes

_LISTED_IN_MEMORY = 2**20  # bytes of the manifest; some ten thousand files


class Sink(Protocol):
    async def write(self, data: Bytes) -> None:
        """OSError where that fails."""
        ...


@dataclass(slots=True)
class Exported:
    """What became of it. `left_out`: what should be in the archive and is not, with why. `unknown`: tarballs that
    no stored index file knows, as when a version was deleted from crates.io: no build can ask for them."""

    copies: int = 0
    tarballs: int = 0
    unknown: int = 0
    left_out: list[str] = field(default_factory=list)


Told = Callable[[int], None]
"""Hears of each thing written, with its size in bytes."""


class Exporting:
    def __init__(self, *, depot: Depot, inventory: Inventory, directory: Path) -> None:
        """`directory`: where a file may be for as long as an archive is written."""
        self._directory = directory
        self._depot = depot
        self._inventory = inventory

    async def everything(self, sink: Sink, told: Told) -> Exported:
        """Index files, tarballs and other answers, each kind in a fixed order. OSError where `sink` fails."""
        exported = Exported()
        async with _Pack(sink, self._directory) as pack:
            async for place in self._depot.index.keys():
                await self._copy(pack, place, exported, told)
            async for file in self._depot.blobs.files():
                if file.crate is None or not await self._known(file.crate, file.sha256):
                    exported.unknown += 1
                    continue
                blob = await self._depot.blobs.open(file.crate, file.sha256, unread=True)
                await self._tarball(pack, file.crate, file.sha256, blob, exported, told)
            async for place in self._depot.answers.keys():
                await self._copy(pack, place, exported, told)
        return exported

    async def needed(self, wanted: Sequence[Wanted], sink: Sink, told: Told) -> Exported:
        """The index files and tarballs of these versions, as far as they are stored."""
        exported = Exported()
        packages = named(wanted)
        for each in packages:
            lacks = await self._inventory.lacks(each)
            exported.left_out += [f"{lack.name} {lack.version}: {lack.what}: {lack.reason}" for lack in lacks]
        async with _Pack(sink, self._directory) as pack:
            for path in sorted({sparse.path(each.name) for each in packages}):
                await self._copy(pack, keys.index_read(path).key, exported, told)
            for each in packages:
                release = await self._inventory.release(each)
                sha256 = each.sha256 or (release.sha256 if release is not None else "")
                blob = await self._inventory.tarball(each, release)
                crate = release.crate if release is not None else Crate(each.name, each.version or "")
                if blob is not None:
                    await self._tarball(pack, crate, sha256, blob, exported, told)
        return exported

    async def _known(self, crate: Crate, sha256: str) -> bool:
        release = await self._inventory.release(Wanted(crate.name, crate.version))
        return release is not None and release.sha256 == sha256

    async def _copy(self, pack: _Pack, place: str, exported: Exported, told: Told) -> None:
        read = keys.of_place(place)
        if read is None:
            return  # an older release made such a key, and nobody asks for it any more
        value = await self._depot.of(read).get(place)
        entry = codec.decoded(value) if value is not None else None
        if entry is None or not archive.carried(entry):
            return
        if entry.requested_at <= (await self._depot.changes.of(read)).purged:
            return
        await pack.copy(place, read, entry)
        exported.copies += 1
        told(len(entry.body))

    async def _tarball(
        self, pack: _Pack, crate: Crate, sha256: str, blob: Blob | None, exported: Exported, told: Told
    ) -> None:
        if blob is None:
            return  # evicted meanwhile
        try:
            if not await intact(blob, sha256):
                exported.left_out.append(f"{crate.name} {crate.version}: tarball: its bytes are damaged")
                return
            await pack.file(archive.tarball_name(crate), sha256, {}, blob.size, _pieces(blob))
        finally:
            blob.close()
        exported.tarballs += 1
        told(blob.size)


class _Pack:
    """An archive being written: a context, at whose end the manifest is written too."""

    def __init__(self, sink: Sink, directory: Path) -> None:
        self._sink = sink
        self._manifest = tempfile.SpooledTemporaryFile(_LISTED_IN_MEMORY, dir=str(directory))
        self._abouts = hashlib.sha256()

    async def __aenter__(self) -> _Pack:
        await self._bytes(archive.FORMAT, archive.BEGINNING, {})
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._manifest:
            if kind is None:
                await self._end()

    async def copy(self, place: str, read: Read, entry: Entry) -> None:
        name = archive.copy_name(place, read)
        await self._bytes(name, entry.body, archive.about_copy(place, read, entry))
        if entry.gzip is not None:
            await self._bytes(name + archive.CODED, entry.gzip.body, {"etag": entry.gzip.etag})

    async def file(
        self, name: str, sha256: str, about: Mapping[str, Any], size: int, pieces: AsyncIterator[Bytes]
    ) -> None:
        """A file whose bytes have this checksum, as the caller has verified."""
        told = archive.printed(about, sha256)
        await self._sink.write(tar.header(name, size, {archive.ABOUT: told}))
        digest, written = hashlib.sha256(), 0
        async for piece in pieces:
            digest.update(piece)
            written += len(piece)
            await self._sink.write(piece)
        if digest.hexdigest() != sha256 or written != size:
            raise Error(f"{name} changed while it was read: is the disk failing? The archive is not complete")
        await self._sink.write(bytes(tar.padding(size)))
        self._manifest.write(archive.line(sha256, name))
        self._abouts.update(told.encode())

    async def _bytes(self, name: str, data: bytes, about: Mapping[str, Any]) -> None:
        await self.file(name, hashlib.sha256(data).hexdigest(), about, len(data), _one(data))

    async def _end(self) -> None:
        size = self._manifest.tell()
        self._manifest.seek(0)
        sha256 = hashlib.file_digest(self._manifest, "sha256").hexdigest()
        self._manifest.seek(0)
        told = archive.printed({"abouts": self._abouts.hexdigest()}, sha256)
        await self._sink.write(tar.header(archive.MANIFEST, size, {archive.ABOUT: told}))
        while piece := self._manifest.read(PIECE):
            await self._sink.write(piece)
        await self._sink.write(bytes(tar.padding(size)) + tar.END)


async def _one(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def _pieces(blob: Blob) -> AsyncIterator[Bytes]:
    offset = 0
    while piece := await blob.read(offset, PIECE):
        offset += len(piece)
        yield piece
