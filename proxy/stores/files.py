"""Where blobs lie on the disk. It knows names and files, not whose they are. All of it blocks.

DIR/ab/REST       a published file, named after its SHA-256 and nothing else
DIR/tmp/          files being filled, each locked by the process that fills it
DIR/corrupt/      the last few files that were not what their record said
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
import time
from pathlib import Path

from proxy.rules.digest import Digest
from proxy.stores.database import secured
from proxy.stores.descriptor import Descriptor

_SHA256 = re.compile(r"[0-9a-f]{64}")
_TEMPORARY = re.compile(r"[0-9]+-[0-9a-f]{16}")
_KEPT_ASIDE = 8
"""Damaged files, the newest ones, for people to look at."""
PARTS = tuple(f"{number:02x}" for number in range(256))
"""What the SHA-256 of published files can begin with: each is a directory."""
_PIECE = 1024 * 1024
"""Bytes that are hashed at a time, without holding up other threads."""


def is_sha256(text: str) -> bool:
    return _SHA256.fullmatch(text) is not None


class Files:
    def __init__(self, directory: Path, min_free: int) -> None:
        self.directory = directory.absolute()
        self._min_free = min_free
        self._temporary = self.directory / "tmp"
        self._corrupt = self.directory / "corrupt"
        for needed in (self.directory, self._temporary, self._corrupt):
            secured(needed)

    def path(self, sha256: str) -> Path:
        """Where this file is published. Anything but a SHA-256 names no file (ValueError)."""
        if not is_sha256(sha256):
            raise ValueError("not a SHA-256 in lower-case hexadecimal")
        return self.directory / sha256[:2] / sha256[2:]

    def check_room(self, size: int = 0) -> None:
        """OSError (ENOSPC) where `size` more bytes would leave less than `min_free`."""
        room = os.statvfs(self.directory)
        if room.f_bavail * room.f_frsize < self._min_free + size:
            raise OSError(errno.ENOSPC, "less than cache.min_free would be left", str(self.directory))

    def temporary(self) -> tuple[Descriptor, Path]:
        """A new file to fill, open for reading and writing."""
        secured(self._temporary)
        while True:
            path = self._temporary / f"{os.getpid()}-{secrets.token_hex(8)}"
            held = Descriptor(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            # A sweep may come between the two calls: then it has the lock, or the file has no name any more.
            if _lock(held) and os.fstat(held.number).st_nlink:
                return held, path

    def followed(self, name: str) -> Descriptor | None:
        """A file that another process fills; None where there is none (any more) of that name."""
        if not _TEMPORARY.fullmatch(name):
            return None
        with contextlib.suppress(FileNotFoundError):
            return Descriptor(os.open(self._temporary / name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW))
        return None

    def opened(self, sha256: str) -> tuple[Descriptor, int]:
        """The published file and its size."""
        held = Descriptor(os.open(self.path(sha256), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW))
        return held, os.fstat(held.number).st_size

    def publish(self, temporary: Path, sha256: str) -> None:
        path = self.path(sha256)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        os.replace(temporary, path)

    def remove(self, sha256: str) -> None:
        self.path(sha256).unlink(missing_ok=True)

    def set_aside(self, sha256: str) -> None:
        """Keep a published file where nobody is served from it; only the last few of them stay."""
        secured(self._corrupt)
        with contextlib.suppress(FileNotFoundError):
            os.replace(self.path(sha256), self._corrupt / f"{time.time_ns()}-{sha256}")
        for old in sorted(self._corrupt.iterdir())[:-_KEPT_ASIDE]:
            old.unlink(missing_ok=True)

    def still(self, sha256: str, held: Descriptor) -> bool:
        """Is what was opened still the published file, and no later one in its place?"""
        with contextlib.suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(held.number), os.stat(self.path(sha256), follow_symlinks=False))
        return False

    def published(self, part: str) -> list[str]:
        """The SHA-256 of all published files that begin with this one of `PARTS`."""
        try:
            names = os.listdir(self.directory / part)
        except FileNotFoundError:
            return []
        return [part + name for name in names if is_sha256(part + name)]

    def found(self, sha256: str) -> tuple[float, int] | None:
        """The time of the last change of a published file, and its size; None where there is none."""
        try:
            stat = os.stat(self.path(sha256), follow_symlinks=False)
        except FileNotFoundError:
            return None
        return stat.st_mtime, stat.st_size

    def sweep(self) -> tuple[int, int]:
        """Remove the temporary files that no living process fills, in whatever container it lives; how many files and
        bytes that were."""
        count = freed = 0
        for path in self._temporary.iterdir():
            with contextlib.suppress(OSError):
                held = Descriptor(os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW))
                if _lock(held):
                    path.unlink()
                    count, freed = count + 1, freed + os.fstat(held.number).st_size
        return count, freed


def is_whole(held: Descriptor, sha256: str) -> bool:
    """Does an open file have this checksum? All of it is read."""
    digest, offset = Digest(sha256), 0
    while piece := os.pread(held.number, _PIECE, offset):
        digest.update(piece)
        offset += len(piece)
    return digest.matches()


def _lock(held: Descriptor) -> bool:
    try:
        fcntl.flock(held.number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
