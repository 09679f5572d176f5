"""One stored file being read, and one being filled. They know whose file it is only to say so in the ledger."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path

from proxy.model import Crate
from proxy.stores import descriptor
from proxy.stores.base import MAPPED, Bytes
from proxy.stores.database import FAULTS
from proxy.stores.descriptor import Descriptor
from proxy.stores.files import Files
from proxy.stores.ledger import Ledger, Record
from proxy.stores.proofs import DOUBTFUL, Proof, Proofs
from proxy.stores.threads import Threads


class DiskBlob:
    """A `Blob`."""

    def __init__(self, threads: Threads, held: Descriptor, size: int, stored: float, proof: Proof = DOUBTFUL) -> None:
        self._threads = threads
        self._held: Descriptor | None = held
        self._size = size
        self._stored = stored
        self._proof = proof

    @property
    def size(self) -> int:
        return self._size

    @property
    def stored(self) -> float:
        return self._stored

    async def read(self, offset: int, size: int) -> Bytes:
        try:
            return await descriptor.read(self._threads, _open(self._held), offset, size, self._size)
        except OSError:
            self._proof.withdraw()
            raise

    def mapped(self) -> memoryview | None:
        return _open(self._held).mapped(self._size) if 0 < self._size <= MAPPED and self.sound() else None

    def fileno(self) -> int:
        return _open(self._held).number

    def again(self) -> DiskBlob:
        return DiskBlob(self._threads, _open(self._held), self._size, self._stored, self._proof)

    def sound(self) -> bool:
        return self._proof.holds(_open(self._held))

    def close(self) -> None:
        self._held = None


class DiskSpool:
    """A `Spool`. It stays readable after `commit`, for whoever still reads along."""

    def __init__(
        self,
        files: Files,
        ledger: Ledger,
        proofs: Proofs,
        threads: Threads,
        clock: Callable[[], float],
        crate: Crate,
        sha256: str,
        created: tuple[Descriptor, Path],
    ) -> None:
        self._files = files
        self._ledger = ledger
        self._proofs = proofs
        self._threads = threads
        self._clock = clock
        self._crate = crate
        self._sha256 = sha256
        self._held: Descriptor | None = created[0]
        self._path = created[1]
        self._size = 0
        self._spent = False

    @property
    def name(self) -> str:
        return self._path.name

    async def write(self, data: Bytes) -> None:
        held = self._filling()
        await self._threads.run(self._write, held, self._size, data)
        self._size += len(data)

    async def read(self, offset: int, size: int) -> Bytes:
        return await descriptor.read(self._threads, _open(self._held), offset, size, self._size)

    async def commit(self) -> DiskBlob:
        """As in `Spool`; where it raises OSError, what was written is thrown away."""
        held = self._filling()
        self._spent = True
        now = self._clock()
        proof = await self._threads.run(self._commit, held, now)
        return DiskBlob(self._threads, held, self._size, now, proof)

    async def discard(self) -> None:
        if not self._spent:
            self._spent = True
            self._held = None
            with contextlib.suppress(OSError):  # the next start sweeps what is left
                await self._threads.run(self._path.unlink, missing_ok=True)

    def _filling(self) -> Descriptor:
        if self._spent:
            raise OSError(errno.EBADF, "the file is no longer being filled")
        return _open(self._held)

    def _write(self, held: Descriptor, offset: int, data: Bytes) -> None:
        self._files.check_room(len(data))
        descriptor.write(held, offset, data)

    def _commit(self, held: Descriptor, now: float) -> Proof:
        try:
            os.fdatasync(held.number)
            record = Record(self._crate, self._size, now)
            self._ledger.add(self._sha256, record, now, publish=lambda: self._files.publish(self._path, self._sha256))
            return self._proofs.proved(self._sha256, held)  # as the caller has verified it
        except FAULTS as error:
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise
            raise OSError(errno.EIO, f"the ledger fails ({error})") from error


def _open(held: Descriptor | None) -> Descriptor:
    if held is None:
        raise OSError(errno.EBADF, "the file is closed")
    return held
