"""What is stored of the versions that a build needs. It looks, judges no age, and asks nobody upstream."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from proxy.engine.copies import Copies
from proxy.engine.fill import PIECE
from proxy.model import Crate, Entry
from proxy.rules import keys, sparse
from proxy.rules.digest import Digest
from proxy.stores.base import Blob, BlobStore


@dataclass(frozen=True, slots=True)
class Wanted:
    """A version to have in the cache; without a version, the newest that is not yanked. `sha256` in lower case."""

    name: str
    version: str | None = None
    sha256: str | None = None

    def __str__(self) -> str:
        return self.name if self.version is None else f"{self.name} {self.version}"


class What(StrEnum):
    """The values are those that `check --json` prints."""

    INDEX = "index"
    TARBALL = "tarball"


@dataclass(frozen=True, slots=True)
class Lack:
    """Something without which a version cannot be built."""

    name: str
    version: str
    what: What
    reason: str


class Inventory:
    def __init__(self, *, copies: Copies, blobs: BlobStore) -> None:
        self._copies = copies
        self._blobs = blobs

    async def index(self, name: str) -> Entry | None:
        """The stored index file, of whatever age."""
        entry, _ = await self._copies.stored(keys.index_read(sparse.path(name)))
        return entry

    async def tarball(self, wanted: Wanted, release: sparse.Release | None) -> Blob | None:
        """The stored tarball of a version, open; whether it is `intact` is still to be seen. `release`: what the index
        says of it, where that is known."""
        sha256 = _checksum(wanted, release)
        if sha256 is None:
            return None
        crate = release.crate if release is not None else Crate(wanted.name, wanted.version or "")
        return await self._blobs.open(crate, sha256, unread=True)

    async def release(self, wanted: Wanted) -> sparse.Release | None:
        """What the stored index file says of a version."""
        entry = await self.index(wanted.name)
        return sparse.release(entry.body, wanted.version or "") if entry is not None else None

    async def lacks(self, wanted: Wanted, *, hashed: bool = False) -> list[Lack]:
        """What is missing of a version that is named; nothing where a build finds it all. `hashed`: read the whole
        tarball, rather than trust its record."""
        entry = await self.index(wanted.name)
        release = sparse.release(entry.body, wanted.version or "") if entry is not None else None
        found = []
        if reason := _index_reason(wanted, entry, release):
            found.append(_lack(wanted, What.INDEX, reason))
        if reason := await self._tarball_reason(wanted, release, hashed):
            found.append(_lack(wanted, What.TARBALL, reason))
        return found

    async def _tarball_reason(self, wanted: Wanted, release: sparse.Release | None, hashed: bool) -> str:
        sha256 = _checksum(wanted, release)
        if sha256 is None:
            return "neither the lock file nor a stored index file tells its checksum"
        blob = await self.tarball(wanted, release)
        if blob is None:
            return "it is not stored"
        try:
            right = not hashed or await intact(blob, sha256)
        except OSError as error:
            return f"it cannot be read ({error.strerror or error})"
        finally:
            blob.close()
        return (
            "" if right else "its bytes are damaged: they do not have its checksum; purge the crate and warm it again"
        )


async def intact(blob: Blob, sha256: str) -> bool:
    """Whether the bytes of a file have this checksum; all are read. OSError where they cannot be."""
    digest = Digest(sha256)
    while piece := await blob.read(digest.size, PIECE):
        digest.update(piece)
    return digest.matches()


def named(packages: Iterable[Wanted]) -> list[Wanted]:
    """Each once, in the order of their names and versions."""
    return sorted(set(packages), key=lambda each: (each.name, each.version or "", each.sha256 or ""))


def _lack(wanted: Wanted, what: What, reason: str) -> Lack:
    return Lack(wanted.name, wanted.version or "", what, reason)


def _checksum(wanted: Wanted, release: sparse.Release | None) -> str | None:
    return wanted.sha256 or (release.sha256 if release is not None else None)


def _index_reason(wanted: Wanted, entry: Entry | None, release: sparse.Release | None) -> str:
    if entry is None:
        return "it is not stored"
    if release is None:
        return "the stored one does not have this version"
    if wanted.sha256 not in (None, release.sha256):
        return f"the stored one gives this version the checksum {release.sha256}, the lock file {wanted.sha256}"
    return ""
