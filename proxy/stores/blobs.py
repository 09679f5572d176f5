"""Tarballs on the disk, under their SHA-256, for the processes of one machine.

It knows whose file it is, how large and when it was last used; it trusts that the caller verified the checksum,
and knows nothing of upstream. What fails on the disk is absent.
"""

from __future__ import annotations

import asyncio
import errno
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from proxy.model import Crate, Health, Selection
from proxy.stores.attempts import Attempts
from proxy.stores.base import Filed, Listed, Observer, Shelved, Volume
from proxy.stores.descriptor import Descriptor
from proxy.stores.files import PARTS, Files, is_sha256, is_whole
from proxy.stores.ledger import Ledger, Record
from proxy.stores.proofs import DOUBTFUL, Proof, Proofs
from proxy.stores.spool import DiskBlob, DiskSpool

_NAME = "tarballs"


class DiskBlobs:
    """A `BlobStore`. Several processes may open the same directory."""

    def __init__(self, directory: Path, min_free: int, observer: Observer, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._files = Files(directory, min_free)
        self.swept = self._files.sweep()  # files and bytes of writers that were killed, which were removed
        self._ledger = Ledger(self._files.directory / "ledger", lambda what: observer(_NAME, what), self._files.remove)
        self._ledger.close()
        self._proofs = Proofs(clock)
        self._attempts = Attempts(_NAME, observer)
        self._threads = self._attempts.threads
        self.evicted = 0  # files dropped to make room for others
        self.freed = 0  # bytes of these
        self.corrupt = 0  # files set aside because they were not what they should be
        # When files were last used, until `flush`: a read that wrote would wait for every other writer.
        self._touched: dict[str, float] = {}
        self._reconciling = asyncio.Lock()
        self._reconciled = False

    @classmethod
    def opened(
        cls, directory: Path, min_free: int, observer: Observer, clock: Callable[[], float] = time.time
    ) -> DiskBlobs:
        """Open or create the store. It blocks, and may be called in any thread.

        A damaged ledger is set aside and told; the files stay, and each is hashed before it is served again.
        OSError where the directory cannot be used at all. `observer` must bear a call from another thread.
        """
        return cls(directory, min_free, observer, clock)

    async def open(self, crate: Crate, sha256: str, *, unread: bool = False) -> DiskBlob | None:
        if not is_sha256(sha256):
            return None
        found = await self._attempts.run("open", lambda: self._opened(crate, sha256, unread), None)
        if found is None:
            return None
        if isinstance(found, str):
            self.corrupt += 1
            self._attempts.told(f"{crate.name} {crate.version} ({sha256}) is set aside: {found}")
            return None
        self.used(sha256)
        return DiskBlob(self._threads, *found)

    def used(self, sha256: str) -> None:
        self._touched[sha256] = self._clock()

    async def spool(self, crate: Crate, sha256: str) -> DiskSpool:
        """As in `BlobStore`; OSError (ENOSPC) too where less than `min_free` is free. ValueError for no SHA-256."""
        self._files.path(sha256)
        created = await self._threads.run(self._created)
        return DiskSpool(self._files, self._ledger, self._proofs, self._threads, self._clock, crate, sha256, created)

    async def follow(self, name: str) -> DiskBlob | None:
        held = await self._attempts.run("follow", lambda: self._files.followed(name), None)
        return None if held is None else DiskBlob(self._threads, held, sys.maxsize, 0.0)

    async def verify(self, file: Listed) -> str | None:
        wrong = await self._attempts.run("verify", lambda: self._verified(file.sha256), None)
        if wrong:
            self.corrupt += 1
            self._attempts.told(f"{file.name} ({file.sha256}) is set aside: {wrong}")
        return wrong

    async def purge(self, selection: Selection) -> int:
        """Drop the files of a crate, or all. No endpoint is told apart here: a selection of one takes nothing."""
        if selection.endpoint is not None:
            return 0
        if selection.crate is None:
            await self.reconcile()
        return await self._attempts.run("purge", lambda: self._ledger.purge(selection.crate), 0)

    async def reconcile(self) -> None:
        """Make the ledger agree with what is on the disk, where a crash has come between the two, once in the life of
        this store. Before, a file without a record shows when it is asked for, and one that is gone, too."""
        async with self._reconciling:
            if not self._reconciled:
                await self._attempts.run("recount", self._ledger.recount, None)
                for part in PARTS:
                    await self._attempts.run("reconcile", partial(self._agreed, part), None)
                    await asyncio.sleep(0)
                self._reconciled = True

    async def files(self) -> AsyncIterator[Listed]:
        await self.reconcile()
        none: list[tuple[str, Record]] = []
        after = ""
        while page := await self._attempts.run("list", partial(self._ledger.page, after), none):
            for sha256, record in page:
                yield Listed(record.crate, sha256, record.size)
            after = page[-1][0]

    async def crates(self, part: str, after: str, limit: int) -> list[Shelved]:
        none: list[Shelved] = []
        return await self._attempts.run("list", lambda: self._ledger.crates(part, after, limit), none)

    async def of(self, crate: str) -> list[Filed]:
        none: list[Filed] = []
        found = await self._attempts.run("list", lambda: self._ledger.of(crate), none)
        return [replace(each, used=max(each.used, self._touched.get(each.sha256, 0.0))) for each in found]

    async def health(self) -> Health:
        return await self._attempts.health(self._probe)

    async def aclose(self) -> None:
        await self.flush()
        await self._threads.aclose(self._ledger.close)

    async def flush(self) -> None:
        """Write down which files were used lately. To be called every few seconds."""
        touched, self._touched = self._touched, {}
        if touched and not await self._attempts.run("flush", lambda: self._ledger.touch(touched), False):
            self._touched = touched | self._touched

    async def volume(self) -> int:
        """Bytes of all files, of every process; 0 while the disk fails. It costs one short query."""
        return await self._attempts.run("volume", self._ledger.total, 0)

    async def held(self) -> Volume:
        """How many files and bytes, of every process."""
        held = await self._attempts.run("volume", lambda: (self._ledger.count(), self._ledger.total()), None)
        return Volume() if held is None else Volume(*held)

    @property
    def errors(self) -> int:
        """Attempts that the disk failed."""
        return self._attempts.errors

    async def trim(self, want: int, pinned: Callable[[str], bool] = lambda sha256: False) -> int:
        """Drop the least recently used files until `want` bytes are freed; how many were.

        `pinned` tells which SHA-256 stay whatever happens. It is called in another thread.
        """
        await self.flush()
        count, freed = await self._attempts.run("trim", lambda: self._ledger.evict(want, pinned), (0, 0))
        self.evicted += count
        self.freed += freed
        if count:
            self._attempts.told(f"evicted {count} files, {freed} bytes")
        return freed

    def _agreed(self, part: str) -> None:
        self._ledger.reconcile(part, self._files.published(part), self._files.found)

    def _probe(self) -> None:
        self._files.check_room()
        self._ledger.total()

    def _created(self) -> tuple[Descriptor, Path]:
        self._files.check_room()
        return self._files.temporary()

    def _opened(self, crate: Crate, sha256: str, unread: bool) -> tuple[Descriptor, int, float, Proof] | str | None:
        """The file; why it was set aside; or None where there is none."""
        record = self._ledger.get(sha256)
        if record is None and not self._reconciled and (there := self._files.found(sha256)) is not None:
            self._ledger.adopt(sha256, there[1], there[0])
            record = self._ledger.get(sha256)
        # Without a record nobody vouches for what lies there; and whoever asks for it as another crate's file is
        # mistaken or malicious, which is no reason to doubt the file.
        if record is None or record.crate not in (None, crate):
            return None

        def known(held: Descriptor) -> Proof | None:
            return DOUBTFUL if unread and record.crate is not None else self._proofs.of(sha256, held)

        found = self._read(sha256, record, known)
        if found is None or isinstance(found, str):
            return found
        held, proof = found
        if record.crate is None:
            attributed = Record(crate, record.size, record.stored)
            self._ledger.add(sha256, attributed, self._clock(), publish=lambda: None)
        return held, record.size, record.stored, proof

    def _verified(self, sha256: str) -> str | None:
        record = self._ledger.get(sha256)
        found = None if record is None else self._read(sha256, record, lambda held: None)
        return found if found is None or isinstance(found, str) else ""

    def _read(
        self, sha256: str, record: Record, known: Callable[[Descriptor], Proof | None]
    ) -> tuple[Descriptor, Proof] | str | None:
        """The file and the proof that it is right: the one that is `known`, else one that reading it gives. Why it was
        set aside where it is wrong; None where there is none."""
        try:
            held, size = self._files.opened(sha256)
        except FileNotFoundError:
            self._ledger.drop(sha256, self._files.remove, unless=self._files.path(sha256).exists)
            return None
        wrong = "" if size == record.size else f"it has {size} bytes instead of {record.size}"
        try:
            if not wrong:
                proof = known(held)
                if proof is not None:
                    return held, proof
                if is_whole(held, sha256):
                    return held, self._proofs.proved(sha256, held)
                wrong = "its bytes do not have its checksum"
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            wrong = "the disk cannot read it"
        # Reading takes a while: it may have been purged meanwhile, and a good one be there by now.
        aside = self._ledger.drop(sha256, self._files.set_aside, unless=lambda: not self._files.still(sha256, held))
        return wrong if aside else None
