"""The faults of the machine: processes that die, a disk that fills up, loses bits or fails, a clock, descriptors."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import resource
import signal
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxy.engine.at_hand import LARGEST
from proxy.server.protocol import GRACE
from tests.soak import census
from tests.soak.chronicle import Object
from tests.soak.load import Load
from tests.soak.oracle import Asked
from tests.soak.plan import Kind
from tests.soak.stage import Levers, Server
from tests.soak.windows import INDEX, JSON, TARBALLS, Window, Windows
from tests.soak.wire import Connection
from tests.waiting import came

HOUR = 3600.0
PAGE = 4096
STOPS_WITHIN = 40.0
"""Seconds that the end of a server may take: what is under way comes to its end before."""
OBEYED = 10.0
"""Seconds in which a worker obeys what the server has read again."""
ERRORS = frozenset((502, 504))
FOUND_WITHIN = 60.0
"""Seconds in which somebody asks for any given object, through each worker."""


@dataclass
class Machine:
    server: Server
    levers: Levers
    load: Load
    windows: Windows
    dice: random.Random
    came: Counter[Kind]
    redis: bool
    damaged: dict[str, Window]  # databases that were, until they are seen to be replaced

    async def befall(self, kind: Kind) -> None:
        does: dict[Kind, Callable[[], Coroutine[Any, Any, int]]] = {
            Kind.WORKER_KILLED: self._worker_killed,
            Kind.SERVER_KILLED: self._server_killed,
            Kind.SERVER_STOPPED: self._server_stopped,
            Kind.RELOADED: self._reloaded,
            Kind.DISK_FULL: self._disk_full,
            Kind.BIT_ROT: self._bit_rot,
            Kind.FILE_CUT: self._file_cut,
            Kind.READ_ERROR: self._read_error,
            Kind.DATABASE_CORRUPTED: self._database_corrupted,
            Kind.DATABASE_CUT: self._database_cut,
            Kind.CLOCK_FORWARD: lambda: self._clock(HOUR),
            Kind.CLOCK_BACK: lambda: self._clock(-HOUR),
            Kind.NO_DESCRIPTORS: self._no_descriptors,
        }
        self.came[kind] += await does[kind]()

    # Processes.

    async def _worker_killed(self) -> int:
        workers = self.server.workers
        if not workers:
            return 0
        with self.windows.disturbed("a worker is killed", "processes", "files", after=0.2):
            os.kill(self.dice.choice(workers), signal.SIGKILL)
        return 1

    async def _server_killed(self) -> int:
        with self.windows.disturbed("the server is killed", "processes", "files", after=0.2):
            await asyncio.to_thread(self.server.kill)
            await asyncio.sleep(self.dice.random() * 0.5)
            await asyncio.to_thread(self.server.serve)
        return 1

    async def _server_stopped(self) -> int:
        """Whoever waits while it drains hears that it is not ready; it ends well."""
        probes = [Connection(self.load.port) for _ in range(4)]
        for probe in probes:
            await probe.connect()
        await asyncio.sleep(0.05)  # they are accepted
        with self.windows.disturbed("the server is stopped", "closing", after=0.2):
            begun = time.monotonic()
            stopping = asyncio.create_task(asyncio.to_thread(self.server.stop, STOPS_WITHIN))
            await asyncio.sleep(0.2)
            in_time = time.monotonic() < begun + GRACE  # else it may have put them out by now
            for got in await asyncio.gather(*(probe.ask("GET", "/readyz", {}) for probe in probes)):
                if in_time and (got.status != 503 or b"draining" not in got.body):
                    self.load.oracle.faults.append(
                        f"while it drains /readyz says {got.status} {got.trouble} {got.body!r}"
                    )
            for probe in probes:
                await probe.close()
            code = await stopping
            if code != 0:
                self.load.oracle.faults.append(f"SIGTERM ended it with status {code}")
            await asyncio.to_thread(self.server.serve)
        return 1

    async def _reloaded(self) -> int:
        """What the file says counts from now on, unless it cannot be read; then nothing changes."""
        self._token = f"token-{self.dice.randrange(10**6)}"
        level = self.dice.choice(("info", "debug"))
        good = f'[access]\nadmin_token = "{self._token}"\n[log]\nlevel = "{level}"\n'
        await self._reread(good, "settings were read again")
        if self.dice.random() < 0.3:
            await self._reread('[access]\nadmin_token = "another"\nbroken', "settings are as before")
            self.server.config.write_text(good)  # somebody may start it anew
        return 1

    async def _reread(self, text: str, said: str) -> None:
        faults, connection = self.load.oracle.faults, Connection(self.load.port)
        before = self.server.log_file.stat().st_size
        self.server.config.write_text(text)
        self.server.tell(signal.SIGHUP)
        if not await asyncio.to_thread(came, lambda: said in self._told(before)):
            faults.append(f"SIGHUP was not heard: there is no {said!r}")
        asked = Asked("POST", "/-/purge", None)
        for token, status in ((self._token, 200), ("another", 401)):
            fields = {"authorization": f"Bearer {token}"}
            end = time.monotonic() + OBEYED
            while True:  # it is said when it is read; a worker that has much to do obeys a little later
                got = await connection.ask(
                    "POST", asked.path, fields, b'{"crate": "nothing-of-that-name", "soft": true}'
                )
                await connection.close()
                if got.status in (status, 0) or time.monotonic() > end:
                    break
                await asyncio.sleep(0.05)
            if got.status not in (status, 0):
                faults.append(f"after SIGHUP ({said}) {token!r} is answered with {got.status} {got.body!r}")

    def _told(self, since: int) -> str:
        """What it has logged since then."""
        with self.server.log_file.open("rb") as log:
            log.seek(since)
            return log.read().decode(errors="replace")

    _token: str = ""

    # The disk.

    async def _disk_full(self) -> int:
        stores = (INDEX, TARBALLS, JSON)
        with self.windows.disturbed("the disk is full", *stores, after=2.0):
            filler = self.server.cache.parent / "filler"
            await asyncio.to_thread(fill, filler)
            await asyncio.sleep(self.dice.uniform(0.5, 2.0))
            filler.unlink()
        return 1

    def _stored(self) -> tuple[Object, Path] | None:
        """Some stored tarball, and where it lies."""
        found: list[tuple[Object, Path]] = []
        for thing in self.load.chronicle.of("tarball"):
            parts = thing.path.split("/")
            if parts[-1] == "download":
                path = self.server.cache / "tarballs" / parts[-2][:2] / parts[-2][2:]
                if path.exists():
                    found.append((thing, path))
        return self.dice.choice(found) if found else None

    def _forget(self, thing: Object) -> None:
        """Nobody can expect it to be there any more, under whatever path."""
        same = [each.path for each in self.load.chronicle.of(thing.kind) if each.target == thing.target]
        self.load.oracle.forget(*same)

    async def _then_asked(self, thing: Object) -> None:
        """Somebody wants what was damaged."""
        connection = Connection(self.load.port)
        await self.load.ask(connection, Asked("GET", thing.path, thing), {"user-agent": "soak"})
        await connection.close()

    async def _damaged(self, change: Callable[[Object, Path], None]) -> int:
        found = self._stored()
        if found is None:
            return 0
        thing, path = found

        async def damage() -> None:
            self._forget(thing)
            with contextlib.suppress(FileNotFoundError):
                change(thing, path)

        await self.load.undisturbed(thing, damage)
        await self._then_asked(thing)
        return 1

    async def _bit_rot(self) -> int:
        def rot(thing: Object, path: Path) -> None:
            before = path.stat()
            with path.open("r+b") as file:
                at = self.dice.randrange(before.st_size)
                file.seek(at)
                byte = file.read(1)[0] ^ (1 << self.dice.randrange(8))
                file.seek(at)
                file.write(bytes([byte]))
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

        return await self._damaged(rot)

    async def _file_cut(self) -> int:
        return await self._damaged(lambda _, path: os.truncate(path, self.dice.randrange(path.stat().st_size)))

    async def _read_error(self) -> int:
        """Of a file that was seen to be whole it is found only while it is read, and a large one is sent meanwhile: its
        first reader in each worker is cut off."""

        def unreadable(thing: Object, path: Path) -> None:
            found = path.stat()
            self.levers.unreadable(found.st_ino)
            if found.st_size > LARGEST:
                same = [each.path for each in self.load.chronicle.of(thing.kind) if each.target == thing.target]
                window = self.windows.begin("a large file cannot be read", *(f"file {each}" for each in same))
                window.end = window.start + FOUND_WITHIN

        return await self._damaged(unreadable)

    def _database(self) -> tuple[Path, Window] | None:
        """One of the databases, and the window in which what it held is lost: until it is seen to be replaced."""
        name, *stores = self.dice.choice(
            [
                ("tarballs/ledger", TARBALLS),
                ("index", INDEX),
                ("savings",),
                *([] if self.redis else [("json", JSON), ("marks",)]),
            ]
        )
        paths = list((self.server.cache / name).glob("v*[0-9]/cache.db"))
        if not paths:
            return None
        key = f"{self.server.cache.name}/{name}"
        window = self.damaged.get(key)
        if window is None:
            window = self.damaged[key] = self.windows.begin(f"{name} is damaged", *stores)
        return paths[0], window

    async def _database_corrupted(self) -> int:
        found = self._database()
        if found is None:
            return 0
        with found[0].open("r+b") as file:
            pages = max(1, found[0].stat().st_size // PAGE)
            for _ in range(self.dice.choice((1, 3, 20))):
                file.seek(self.dice.randrange(pages) * PAGE)
                file.write(self.dice.randbytes(PAGE))
        return 1

    async def _database_cut(self) -> int:
        found = self._database()
        if found is None:
            return 0
        size = found[0].stat().st_size
        os.truncate(found[0], self.dice.choice((0, PAGE // 2, size // 2)))
        return 1

    # The rest.

    async def _clock(self, seconds: float) -> int:
        with self.windows.disturbed("the clock jumps", "time", after=5.0):
            self.levers.clock(seconds)
            await asyncio.sleep(self.dice.uniform(1.0, 3.0))
            self.levers.clock(0.0)
        return 1

    async def _no_descriptors(self) -> int:
        """Whoever connects then may be put out; who is connected goes on."""
        stores = (INDEX, TARBALLS, JSON, "errors", "connections", "files")
        with self.windows.disturbed("there are no descriptors", *stores, after=2.0, statuses=ERRORS):
            limits = {}
            for pid in self.server.workers:
                with contextlib.suppress(OSError):
                    limits[pid] = resource.prlimit(pid, resource.RLIMIT_NOFILE)
                    few = census.descriptors(pid) + self.dice.randrange(3)
                    resource.prlimit(pid, resource.RLIMIT_NOFILE, (few, limits[pid][1]))
            await asyncio.sleep(self.dice.uniform(0.5, 2.0))
            for pid, limit in limits.items():
                with contextlib.suppress(OSError):
                    resource.prlimit(pid, resource.RLIMIT_NOFILE, limit)
        return 1


def fill(file: Path) -> None:
    """To the last byte."""
    with file.open("wb") as filler:
        size = 64 * 1024 * 1024
        while size:
            try:
                os.posix_fallocate(filler.fileno(), filler.seek(0, os.SEEK_END), size)
            except OSError:
                size //= 2
