"""The two seams of storage. Engine code sees these Protocols and nothing of redis, diskcache or the disk.

A store that fails has nothing: `get` gives None, `put` stores nothing, and the failure is told once to the
`Observer` that the adapter was built with. No method raises for a fault of the medium.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Protocol

from proxy.model import Crate, Health, Selection

Bytes = bytes | bytearray
"""What is read from a file. Whoever gets it may keep it, and nobody changes it."""
MAPPED = 8 * 1024 * 1024
"""Bytes of the largest file that is sent without a copy: nearly all crates are smaller, and one send takes half."""
Observer = Callable[[str, str], None]
"""Called with (store name, what happened) where a fault or an eviction does not reach the edge."""


@dataclass(frozen=True, slots=True)
class Volume:
    """How much a store holds; None where the medium does not tell. `max_bytes`: what it may hold."""

    entries: int | None = None
    bytes: int | None = None
    max_bytes: int | None = None


class Store(Protocol):
    """Small values under string keys. A key is `ENDPOINT SPACE REST`; a tag is a folded crate name or ""."""

    async def get(self, key: str) -> bytes | None:
        """The value last put under exactly this key, or None."""
        ...

    async def put(self, key: str, value: bytes, *, tag: str, keep: float | None) -> None:
        """Store a value. `keep`: seconds after which the medium may drop it, None for until space is needed.

        `keep` is retention, never freshness.
        """
        ...

    async def delete(self, key: str) -> None:
        """Drop one value; dropping what is not there is no error."""
        ...

    async def purge(self, selection: Selection) -> int:
        """Drop all that `selection` takes; how many values that were."""
        ...

    async def count(self, selection: Selection) -> int:
        """How many values `selection` takes."""
        ...

    def keys(self) -> AsyncIterator[str]:
        """The keys of all values, ascending, each once. What is put or deleted meanwhile may be among them or not."""
        ...

    async def health(self) -> Health:
        """How the medium is at this moment, asked within a fraction of a second."""
        ...

    async def aclose(self) -> None: ...


class Doubted(Store, Protocol):
    """A `Store` that tells what its absences are worth."""

    @property
    def unanswered(self) -> int:
        """How often it could not say what it has, until now."""
        ...


@dataclass(frozen=True, slots=True)
class Shelved:
    """What a medium holds of one crate (its folded name)."""

    crate: str
    entries: int
    bytes: int


class Listing(Protocol):
    """A medium that can be looked through by crate. It is for people who look, and bounded for their sake."""

    async def crates(self, part: str, after: str, limit: int) -> list[Shelved]:
        """The crates of which something is stored whose folded name contains `part` and comes behind `after`: the
        first `limit`, ascending."""
        ...


class Tagged(Listing, Protocol):
    """A `Store` that is one."""

    async def tagged(self, crate: str, limit: int) -> list[str]:
        """The keys of what is stored of a crate: the first `limit`, ascending."""
        ...


@dataclass(frozen=True, slots=True)
class Filed:
    """A stored tarball of a known crate: since when, and when it was used last, in seconds since the epoch."""

    crate: Crate
    sha256: str
    size: int
    stored: float
    used: float


class Filing(Listing, Protocol):
    """A `BlobStore` that is one."""

    async def of(self, crate: str) -> list[Filed]:
        """The stored files of a crate, by its folded name."""
        ...


@dataclass(frozen=True, slots=True)
class Listed:
    """A stored file; `crate` is None where it is not known whose it is."""

    crate: Crate | None
    sha256: str
    size: int

    @property
    def name(self) -> str:
        """For people."""
        return "a file of no known crate" if self.crate is None else f"{self.crate.name} {self.crate.version}"


class Blob(Protocol):
    """A whole, verified file, open for reading; it stays readable when it is evicted meanwhile."""

    @property
    def size(self) -> int: ...

    @property
    def stored(self) -> float:
        """When it was, in seconds since the epoch."""
        ...

    async def read(self, offset: int, size: int) -> Bytes:
        """At most `size` bytes from `offset`; fewer only at the end of the file. OSError if it cannot be read."""
        ...

    def mapped(self) -> memoryview | None:
        """All of it without a copy, where that can be had, is in memory at this moment and `sound`. It is for the
        kernel alone to read, as it does to send it: were the file cut short, that fails, but who looks himself is
        killed."""
        ...

    def fileno(self) -> int | None:
        """The number of the open file, until this is closed; None where it is none."""
        ...

    def again(self) -> Blob:
        """The same file for another reader; each is closed for itself."""
        ...

    def sound(self) -> bool:
        """Whether it can still be believed to have its checksum, which costs next to nothing; else it is to be opened
        anew, which finds that out."""
        ...

    def close(self) -> None: ...


class Trail(Protocol):
    """A file that another process fills, open for reading."""

    async def read(self, offset: int, size: int) -> Bytes:
        """`size` bytes from `offset`, which that process has said it has written. OSError if they cannot be read."""
        ...

    def close(self) -> None: ...


class Spool(Protocol):
    """A file being filled. Whoever joins reads along with `read` what has been written so far."""

    @property
    def name(self) -> str:
        """What `BlobStore.follow` takes in other processes."""
        ...

    async def write(self, data: Bytes) -> None:
        """Append. OSError when the medium is full or failing."""
        ...

    async def read(self, offset: int, size: int) -> Bytes: ...

    async def commit(self) -> Blob:
        """Publish atomically under its checksum, which the caller has verified. The spool is then spent."""
        ...

    async def discard(self) -> None:
        """Throw away what was written; after `commit` it does nothing."""
        ...


class BlobStore(Protocol):
    """Content-addressed files: tarballs under their SHA-256 (64 lower-case hex digits)."""

    async def open(self, crate: Crate, sha256: str, *, unread: bool = False) -> Blob | None:
        """The stored file of this very crate, version and checksum, and count it as used; None if absent.

        One whose bytes have not been seen to have that checksum lately is read first: if they do not, or cannot be
        read, it is set aside, and absent. `unread`: not so, for who judges for himself."""
        ...

    def used(self, sha256: str) -> None:
        """Count a stored file as used that somebody has without opening it."""
        ...

    async def spool(self, crate: Crate, sha256: str) -> Spool:
        """A new file to fill. OSError when the medium is full or failing."""
        ...

    async def follow(self, name: str) -> Trail | None:
        """The spool of another process that shares this store; None where it is published or thrown away by now."""
        ...

    async def verify(self, file: Listed) -> str | None:
        """Read all of a stored file and set it aside where it does not have its checksum: nobody is served from it any
        more but who has it open. Why that was; "" where it is right, None where it is gone. It is not used by that."""
        ...

    async def purge(self, selection: Selection) -> int:
        """Drop the files of a crate, or all; how many that were."""
        ...

    def files(self) -> AsyncIterator[Listed]:
        """All stored files, by ascending SHA-256. What comes or goes meanwhile may be among them or not."""
        ...

    async def health(self) -> Health: ...

    async def aclose(self) -> None: ...
