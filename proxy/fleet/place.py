"""Where the members that share one `cache.dir` meet: a Unix socket, and a lock that says whose it is."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import socket
import stat
import tempfile
from pathlib import Path

LONGEST = 100
"""Bytes of a path that every system takes for a Unix socket: Linux has room for 107, others for 103."""


def meeting_point(directory: Path) -> Path:
    """The path of the socket: the same for every spelling of the directory.

    Raises OSError where there is no place that only this user can reach.
    """
    real = Path(os.path.realpath(directory))
    path = real / "fleet.sock"
    if len(os.fsencode(path)) <= LONGEST:
        return path
    private = Path(tempfile.gettempdir()) / f"crates-proxy-{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        private.mkdir(mode=0o700)
    found = private.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PermissionError(f"{private} is not a directory of this user alone")
    return private / f"{hashlib.sha256(os.fsencode(real)).hexdigest()[:16]}.sock"


class Claim:
    """The right to listen at a meeting point. The kernel takes it from a process that dies."""

    def __init__(self, path: Path, lock: int, sock: socket.socket) -> None:
        self.sock = sock
        self._path = path
        self._lock = lock

    def give_up(self) -> None:
        with contextlib.suppress(OSError):
            self._path.unlink()
        self.sock.close()
        os.close(self._lock)


def claimed(path: Path) -> Claim | None:
    """The bound socket, or None where another process has it."""
    lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    try:
        sock = _bound(path)
    except BaseException:
        os.close(lock)
        raise
    return Claim(path, lock, sock)


def _bound(path: Path) -> socket.socket:
    """By who holds the lock, and so knows that nobody listens there."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.unlink(missing_ok=True)
        sock.bind(str(path))
        path.chmod(0o600)  # Nobody can connect before it listens.
    except BaseException:
        sock.close()
        raise
    return sock
