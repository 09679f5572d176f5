"""The cache directory: is it ours to write, on what does it lie, and is there room."""

from __future__ import annotations

import asyncio
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from proxy import report
from proxy.rules.findings import Finding, fail, ok, warn
from proxy.settings import Settings

_MEMORY = ("tmpfs", "ramfs")
_NETWORK = ("nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs")
WHAT = "cache.dir"


async def findings(settings: Settings, directory: Path) -> list[Finding]:
    return await asyncio.to_thread(lambda: [*_looked(settings, directory)])


def existing(directory: Path) -> Path:
    """The directory, or what there is of the way to it."""
    return next(each for each in (directory, *directory.absolute().parents) if os.path.exists(each))


def _looked(settings: Settings, directory: Path) -> Iterator[Finding]:
    there = existing(directory)
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"doctor")
            file.flush()
    except OSError as error:
        user = f"user {os.geteuid()}"
        detail = f"{directory}: {user} cannot write to {there} ({error.strerror or error})"
        yield fail(WHAT, detail, f"give it to the user that serves: chown {os.geteuid()} {there}")
        return
    yield ok(WHAT, f"{directory}{'' if there == directory else ' does not exist yet and'} can be written")
    found = there.stat()
    if there == directory and found.st_uid != os.geteuid():
        detail = f"it belongs to user {found.st_uid}, and this is user {os.geteuid()}"
        yield warn(WHAT, detail, "run commands as the user that serves: what they write must be readable to it")
    if there == directory and stat.S_IMODE(found.st_mode) & 0o022:
        detail = f"its mode is {stat.S_IMODE(found.st_mode):04o}: others can change what is served"
        yield warn(WHAT, detail, f"chmod 700 {directory}")
    kind = _file_system(there)
    if kind in _MEMORY:
        yield warn(WHAT, f"it is on {kind}: gone at the next boot, and in memory", "name one on a disk")
    if kind in _NETWORK:
        yield warn(WHAT, f"it is on {kind}, where locks and SQLite are not to be trusted", "name one on a local disk")
    yield from _room(settings, there)


def _room(settings: Settings, there: Path) -> Iterator[Finding]:
    room = os.statvfs(there)
    free, limit = room.f_bavail * room.f_frsize, settings.cache.min_free
    if free < limit:
        detail = f"{report.size(free)} are free, less than cache.min_free ({report.size(limit)}): no tarball is stored"
        yield fail("disk", detail, "make room: `crates-proxy gc`, a smaller cache.max_size, or a larger disk")
    elif room.f_files and room.f_favail < room.f_files // 100:
        yield warn("disk", f"{room.f_favail} inodes of {room.f_files} are free", "make room for files")
    else:
        yield ok("disk", f"{report.size(free)} are free")


def _file_system(path: Path) -> str:
    """What kind of file system a path is on; "" where the system does not tell."""
    real, best, kind = os.path.realpath(path), "", ""
    try:
        with open("/proc/self/mounts", encoding="utf-8", errors="replace") as mounts:
            for line in mounts:
                _, mount, told, *_ = line.split(" ")
                mount = mount.replace("\\040", " ")
                below = real == mount or real.startswith(mount.rstrip("/") + "/")
                if below and len(mount) >= len(best):
                    best, kind = mount, told
    except OSError:
        return ""
    return kind
