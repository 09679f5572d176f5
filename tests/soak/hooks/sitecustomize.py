"""What the soak changes inside the processes of a proxy, before anything of it is imported. It is found only where the
soak has put this directory on the path, and does nothing without SOAK_HOOKS.

    clock        time.time() is off by the seconds that the file `levers` holds
    read errors  os.pread and os.preadv fail with EIO for the inodes that the file `unreadable` lists
    census       SIGUSR2 has the tasks written to `census-PID`
    checksums    with SOAK_WITHOUT=checksums every checksum is right

The kernel's own way to do the first two (libfaketime, dm-error) is not at hand everywhere that this has to run.
"""

from __future__ import annotations

import asyncio
import collections
import errno
import json
import mmap
import os
import signal
import struct
import time
from pathlib import Path
from types import FrameType
from typing import Any

_LEVERS = struct.Struct("<dq")  # seconds of the clock; how often `unreadable` was changed


def _levers(place: Path) -> mmap.mmap:
    with (place / "levers").open("rb") as file:
        return mmap.mmap(file.fileno(), _LEVERS.size, access=mmap.ACCESS_READ)


def _clock(levers: mmap.mmap) -> None:
    real, real_ns = time.time, time.time_ns

    def off() -> float:
        return float(_LEVERS.unpack_from(levers)[0])

    time.time = lambda: real() + off()
    time.time_ns = lambda: real_ns() + int(off() * 1e9)


def _read_errors(levers: mmap.mmap, place: Path) -> None:
    pread, preadv = os.pread, os.preadv
    changes, inodes = 0, frozenset[int]()

    def check(number: int) -> None:
        nonlocal changes, inodes
        changed = _LEVERS.unpack_from(levers)[1]
        if changed != changes:
            changes, inodes = changed, frozenset(map(int, (place / "unreadable").read_text().split()))
        if inodes and os.fstat(number).st_ino in inodes:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def failing_pread(number: int, *args: Any) -> bytes:
        check(number)
        return pread(number, *args)

    def failing_preadv(number: int, *args: Any) -> int:
        check(number)
        return preadv(number, *args)

    os.pread, os.preadv = failing_pread, failing_preadv


def _census(place: Path) -> None:
    def count(number: int, frame: FrameType | None) -> None:
        try:
            tasks = collections.Counter(str(task.get_coro()).split(" at ")[0] for task in asyncio.all_tasks())
        except RuntimeError:
            return  # no loop runs here (yet)
        new = place / f"census-{os.getpid()}.new"
        new.write_text(json.dumps(tasks))
        os.replace(new, new.with_suffix(""))

    signal.signal(signal.SIGUSR2, count)


def _without_checksums() -> None:
    from proxy.rules.digest import Digest

    setattr(Digest, "matches", lambda self: True)  # noqa: B010


if "SOAK_HOOKS" in os.environ:
    _place = Path(os.environ["SOAK_HOOKS"])
    _mapped = _levers(_place)
    _clock(_mapped)
    _read_errors(_mapped, _place)
    _census(_place)
    if os.environ.get("SOAK_WITHOUT") == "checksums":
        _without_checksums()
