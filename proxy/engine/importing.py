"""Puts what is in an archive into the stores, each file once its bytes are known to be right.

A member that is not what it says is refused by name, and the rest goes on. What is stored and newer stays. Nothing is
left half done: a run that was broken off is started again, and finds what it has stored already.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any, assert_never

from proxy.engine.depot import Depot
from proxy.engine.exchange import LARGEST
from proxy.engine.flight import TURN
from proxy.engine.inventory import Inventory, Wanted
from proxy.engine.purging import Purging
from proxy.engine.unpacking import Broken, Member, Members, Source
from proxy.errors import Error, Refused
from proxy.fleet.base import Fleet
from proxy.model import Coded, Crate, Entry
from proxy.rules import archive
from proxy.rules.archive import Coding, Copy, Tarball
from proxy.rules.digest import Digest
from proxy.rules.endpoints import Kind
from proxy.stores import codec

MOST_REFUSED = 1000
"""Members, and below in bytes, that are refused before the rest is not read either: an archive of which so much is
wrong is not worth the time, and may have been made to take it."""
MOST_REFUSED_BYTES = 8 * 2**30

Told = Callable[[int], None]
"""Hears of each thing that was dealt with, with its size in bytes."""


@dataclass(slots=True)
class Imported:
    """What became of it. `there`: what was stored already, at least as new. `outdated`: what the stored index no
    longer knows, or is older than JSON is kept. `refused`: names, with why. `broken`: why the archive was not read to
    its end, or is not whole; "" where it is. `evicted`: bytes that had to make room."""

    copies: int = 0
    tarballs: int = 0
    there: int = 0
    outdated: int = 0
    evicted: int = 0
    refused: list[str] = field(default_factory=list)
    broken: str = ""
    refused_bytes: int = 0

    def refuse(self, name: str, size: int, why: str) -> None:
        """Raises `Broken` where that is enough."""
        self.refused.append(f"{name[:300]}: {why}")
        self.refused_bytes += size
        if len(self.refused) >= MOST_REFUSED or self.refused_bytes >= MOST_REFUSED_BYTES:
            raise Broken("too much of it is wrong: the rest was not read")


@dataclass(frozen=True, slots=True)
class _Pending:
    """A copy whose gzip form may come next."""

    name: str
    copy: Copy
    told: dict[str, Any]
    body: bytes


class Importing:
    def __init__(
        self,
        *,
        depot: Depot,
        inventory: Inventory,
        purging: Purging,
        fleet: Fleet,
        keep: float,
        largest: int,
        stored: Callable[[int], Awaitable[int]],
        clock: Callable[[], float],
    ) -> None:
        """`keep`: seconds for which JSON is kept. `largest`: bytes of a tarball that is kept. `stored` is called after
        each thing stored, with its bytes; it tells how many bytes had to make room for it."""
        self._depot = depot
        self._inventory = inventory
        self._purging = purging
        self._fleet = fleet
        self._keep = keep
        self._largest = largest
        self._stored = stored
        self._clock = clock

    async def run(self, source: Source, told: Told) -> Imported:
        """Raises `Error` where the cache cannot be written; what was stored until then stays."""
        reading = _Reading(Members(source))
        imported = Imported()
        try:
            await reading.begin()
            pending: _Pending | None = None
            while (member := await reading.next()) is not None:
                pending = await self._dealt(reading, member, pending, imported, told)
            await self._settled(pending, None, imported)
        except Broken as error:
            imported.broken = error.detail
        except OSError as error:
            raise Error(f"the cache cannot be written, or the archive not be read: {error}") from error
        finally:
            await self._purging.supplied()
        return imported

    async def _dealt(
        self, reading: _Reading, member: Member, pending: _Pending | None, imported: Imported, told: Told
    ) -> _Pending | None:
        """One member; the copy that waits for its gzip form now."""
        try:
            about = reading.about(member)
            content = archive.content(member.name, about)
            if isinstance(content, Coding) and (pending is None or pending.name != content.of):
                raise Refused("the member before it is not the file of which it is the gzip form, or was refused")
            if not isinstance(content, Coding):
                await self._settled(pending, None, imported)
                pending = None
            match content:
                case Tarball(crate):
                    await self._tarball(member, about["sha256"], crate, imported)
                case Copy():
                    pending = _Pending(member.name, content, about, await self._verified(member, about["sha256"]))
                case Coding():
                    assert pending is not None
                    data = await self._verified(member, about["sha256"])
                    coded = archive.coded(about, data, pending.body)
                    settling, pending = pending, None
                    await self._settled(settling, coded, imported)
                case _:
                    assert_never(content)
        except Broken:
            raise
        except Refused as error:
            imported.refuse(member.name, member.size, error.detail)
        told(member.size)
        return pending

    async def _verified(self, member: Member, sha256: str) -> bytes:
        if member.size > LARGEST:
            raise Refused(f"it has {member.size} bytes; {LARGEST} are allowed")
        data = await member.whole()
        if hashlib.sha256(data).hexdigest() != sha256:  # THE LINE that keeps wrong answers out
            raise Refused("its bytes do not have the checksum that it tells")
        return data

    async def _tarball(self, member: Member, sha256: str, crate: Crate, imported: Imported) -> None:
        if member.size > self._largest:
            raise Refused(f"it has {member.size} bytes, more than cache.max_object ({self._largest})")
        release = await self._inventory.release(Wanted(crate.name, crate.version))
        if release is None:
            if await self._inventory.index(crate.name) is None:
                raise Refused("there is no index file of this crate, neither in the archive nor stored")
            imported.outdated += 1
            return
        if (release.crate, release.sha256) != (crate, sha256):
            raise Refused("the index gives this version another checksum")
        blob = await self._depot.blobs.open(crate, sha256)
        if blob is not None:
            blob.close()
            digest = Digest(sha256)
            while piece := await member.piece():
                digest.update(piece)
            _check(digest)
            imported.there += 1
            return
        await self._fill(member, crate, Digest(sha256), sha256)
        imported.tarballs += 1
        imported.evicted += await self._stored(member.size)

    async def _fill(self, member: Member, crate: Crate, digest: Digest, sha256: str) -> None:
        spool = await self._depot.blobs.spool(crate, sha256)
        try:
            while piece := await member.piece():
                digest.update(piece)
                await spool.write(piece)
            _check(digest)
            (await spool.commit()).close()
        finally:
            await spool.discard()

    async def _settled(self, pending: _Pending | None, coded: Coded | None, imported: Imported) -> None:
        """Store a copy, unless what is stored is as new."""
        if pending is None:
            return
        now = self._clock()
        try:
            entry = archive.entry(pending.copy, pending.told, pending.body, coded, now)
            await self._put(pending.copy, entry, now, imported)
        except Refused as error:
            imported.refuse(pending.name, len(pending.body), error.detail)

    async def _put(self, copy: Copy, entry: Entry, now: float, imported: Imported) -> None:
        read, store = copy.read, self._depot.of(copy.read)
        index = read.endpoint.kind is Kind.INDEX
        keep = None if index else self._keep - (now - entry.responded_at)
        if keep is not None and keep <= 0:
            imported.outdated += 1
            return
        # In turn with whoever fetches it at this moment: what he stores is newer.
        async with self._fleet.lease(read.key, TURN):
            mark = await self._depot.changes.of(read)
            value = await store.get(copy.place)
            stored = codec.decoded(value) if value is not None else None
            if stored is not None and stored.requested_at > mark.purged and stored.responded_at >= entry.responded_at:
                imported.there += 1
                return
            if entry.requested_at <= mark.purged:
                # Who imports after a purge wants what is imported, however old it is.
                entry = replace(entry, requested_at=math.nextafter(mark.purged, math.inf))
            value = codec.encoded(entry)
            await store.put(copy.place, value, tag=read.tag, keep=keep)
            if await store.get(copy.place) != value:
                raise Refused("the store did not keep it: is it full, or the value too large for it?")
        imported.copies += 1
        imported.evicted += await self._stored(len(value))


class _Reading:
    """The members with their frame: the first says what the archive is, the last lists all the others."""

    def __init__(self, members: Members) -> None:
        self._members = members
        self._manifest = hashlib.sha256()
        self._listed = 0  # bytes of the manifest by now
        self._abouts = hashlib.sha256()

    async def begin(self) -> None:
        member = await self._members.next()
        if member is None or member.name != archive.FORMAT or member.size > LARGEST:
            raise Broken("this is no archive that `crates-proxy export` made")
        body = await member.whole()
        try:
            archive.check_beginning(body)
            if self._note(member)["sha256"] != hashlib.sha256(body).hexdigest():
                raise Refused("the bytes of its first member do not have the checksum that it tells")
        except Refused as error:
            raise Broken(error.detail) from None

    async def next(self) -> Member | None:
        """The next one; None behind a manifest that lists all that came. Raises `Broken` where there is none."""
        member = await self._members.next()
        if member is None:
            raise Broken("it has no manifest at its end: it is not whole")
        if member.name != archive.MANIFEST:
            return member
        digest = hashlib.sha256()
        while member.size == self._listed and (piece := await member.piece()):
            digest.update(piece)
        told = self._abouts_told(member)
        if digest.digest() != self._manifest.digest() or told not in (None, self._abouts.hexdigest()):
            raise Broken("its manifest does not list what is in it: something was changed, added or taken out")
        if await self._members.next() is not None:
            raise Broken("something follows its manifest")
        return None

    def about(self, member: Member) -> dict[str, Any]:
        """What a member tells about itself. Raises `Refused` where that cannot be believed."""
        return self._note(member)

    def _abouts_told(self, manifest: Member) -> object:
        try:
            return archive.about(manifest.records).get("abouts")
        except Refused:
            return None

    def _note(self, member: Member) -> dict[str, Any]:
        told = archive.about(member.records)
        line = archive.line(told["sha256"], member.name)
        self._listed += len(line)
        self._manifest.update(line)
        self._abouts.update(member.records[archive.ABOUT].encode())
        return told


def _check(digest: Digest) -> None:
    if not digest.matches():  # THE LINE that keeps wrong tarballs out
        raise Refused("its bytes do not have the checksum that it tells")
