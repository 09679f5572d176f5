"""What the soak changes inside the processes of a proxy, before anything of it is imported. It is found only where the
soak has put this directory on the path, and does nothing without SOAK_HOOKS.

    clock        time.time() is off by the seconds that the file `levers` holds
    read errors  os.pread and os.preadv fail with EIO for the inodes that the file `unreadable` lists
    census       SIGUSR2 has the tasks written to `census-PID`
    checksums    with SOAK_WITHOUT=checksums every checksum is right

The kernel's own way to do the first two (libfaketime, dm-error) is not at hand everywhere that this has to run.
"""

import asyncio
import collections
import errno
import json
import mmap
import os
import signal
import struct
import time

_LEVERS = struct.Struct("<dq")  # seconds of the clock; how often `unreadable` was changed


def _levers(place):
    with open(os.path.join(place, "levers"), "rb") as file:
        return mmap.mmap(file.fileno(), _LEVERS.size, access=mmap.ACCESS_READ)


def _clock(levers):
    real, real_ns = time.time, time.time_ns

    def off():
        return _LEVERS.unpack_from(levers)[0]

    time.time = lambda: real() + off()
    time.time_ns = lambda: real_ns() + int(off() * 1e9)


def _read_errors(levers, place):
    pread, preadv = os.pread, os.preadv
    known = [0, frozenset()]

    def check(number):
        changed = _LEVERS.unpack_from(levers)[1]
        if changed != known[0]:
            with open(os.path.join(place, "unreadable")) as file:
                known[:] = [changed, frozenset(map(int, file.read().split()))]
        if known[1] and os.fstat(number).st_ino in known[1]:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def failing_pread(number, *args):
        check(number)
        return pread(number, *args)

    def failing_preadv(number, *args):
        check(number)
        return preadv(number, *args)

    os.pread, os.preadv = failing_pread, failing_preadv


def _census(place):
    def count(number, frame):
        try:
            tasks = collections.Counter(task.get_coro().__qualname__ for task in asyncio.all_tasks())
        except RuntimeError:
            return  # no loop runs here (yet)
        path = os.path.join(place, f"census-{os.getpid()}")
        with open(path + ".new", "w") as file:
            json.dump(tasks, file)
        os.replace(path + ".new", path)

    signal.signal(signal.SIGUSR2, count)


def _without_checksums():
    from proxy.rules.digest import Digest

    Digest.matches = lambda self: True


if _place := os.environ.get("SOAK_HOOKS"):
    _mapped = _levers(_place)
    _clock(_mapped)
    _read_errors(_mapped, _place)
    _census(_place)
    if os.environ.get("SOAK_WITHOUT") == "checksums":
        _without_checksums()
