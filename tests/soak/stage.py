"""The processes and the places: a proxy with hooks, its cache on a small file system, the small crates.io, Redis."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.e2e import harness
from tests.redis_server import redis_server
from tests.soak import census
from tests.soak.between import Between
from tests.soak.chronicle import Chronicle
from tests.soak.load import ADMIN
from tests.upstream import Upstream

ROOM = 512
"""MiB of the file system that holds the cache."""
NOT_HERE = "no small file system can be mounted here"
HOOKS = Path(__file__).parent / "hooks"
SETTINGS = {
    "SERVER__WORKERS": "2",
    "SERVER__DRAIN_TIMEOUT": "28s",
    "UPSTREAM__CONNECT_TIMEOUT": "2s",
    "UPSTREAM__READ_TIMEOUT": "4s",
    "UPSTREAM__STALE_AFTER": "500ms",
    "CACHE__MAX_OBJECT": "8MiB",
    "CACHE__MAX_SIZE": "400MiB",
    "CACHE__MIN_FREE": "4MiB",
    # So little that most is read from the disk or Redis again and again.
    "CACHE__MEMORY": "4MiB",
    "ENDPOINTS__CRATE__TTL": "2s",
    "ENDPOINTS__VERSIONS__TTL": "2s",
    "ENDPOINTS__VERSION__TTL": "3s",
    "ENDPOINTS__OWNERS__TTL": "5s",
    "ENDPOINTS__SEARCH__TTL": "2s",
    "ENDPOINTS__SUMMARY__TTL": "1s",
    "ENDPOINTS__KEYWORDS__TTL": "5s",
    "ENDPOINTS__CATEGORIES__TTL": "5s",
    "ENDPOINTS__INDEX__TTL": "1s",
    **{f"ENDPOINTS__{name}__NEGATIVE_TTL": "1s" for name in ("CRATE", "INDEX", "DOWNLOAD")},
}


def as_root(module: str) -> None:
    """Begin this program anew as root of a user namespace of its own, where it is not root: only root may mount."""
    if os.geteuid() != 0 and "SOAK_INSIDE" not in os.environ:
        os.environ["SOAK_INSIDE"] = "1"
        inside = ["unshare", "--mount", "--map-root-user", sys.executable, "-m", module, *sys.argv[1:]]
        with contextlib.suppress(FileNotFoundError):
            os.execvp(inside[0], inside)


@contextlib.contextmanager
def small_file_system(directory: Path) -> Iterator[str]:
    """One of its own at `directory`, for a disk that is really full; what it is. Raises where none can be had."""
    directory.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={ROOM}m", "soak", str(directory)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(
            f"{NOT_HERE} ({done.stderr.strip()}), and a full disk is one of the faults: run this as root, or where "
            "`unshare --mount --map-root-user` is permitted"
        )
    try:
        yield f"a tmpfs of {ROOM} MiB"
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


@dataclass
class Levers:
    """What the hooks in the proxy's processes obey."""

    place: Path
    seconds: float = 0.0
    changes: int = 0

    def __post_init__(self) -> None:
        self.place.mkdir()
        (self.place / "unreadable").write_text("")
        self._write()

    def clock(self, seconds: float) -> None:
        self.seconds = seconds
        self._write()

    def unreadable(self, *inodes: int) -> None:
        """From now on these files, and no others, cannot be read."""
        (self.place / "unreadable.new").write_text(" ".join(map(str, inodes)))
        os.replace(self.place / "unreadable.new", self.place / "unreadable")
        self.changes += 1
        self._write()

    def _write(self) -> None:
        with open(self.place / "levers", "r+b" if (self.place / "levers").exists() else "wb") as file:
            file.write(struct.pack("<dq", self.seconds, self.changes))


class Server(harness.Proxy):
    """The proxy, always on the same port."""

    port = 0
    config = Path()

    def serve(self) -> None:
        self.start(**({"CRATES_PROXY_SERVER__PORT": str(self.port)} if self.port else {}))
        self.port = int(self.url.rpartition(":")[2])

    @property
    def workers(self) -> list[int]:
        found = []
        for pid in self.pids:
            with contextlib.suppress(OSError):
                if census.parent(pid) == self.pid:
                    found.append(pid)
        return sorted(found)


@dataclass
class Stage:
    directory: Path
    chronicle: Chronicle
    upstream: Upstream
    levers: Levers
    file_system: str
    without: str

    def server(self, name: str, more: dict[str, str]) -> Server:
        own = self.directory / name
        settings = {
            **{f"CRATES_PROXY_{key}": value for key, value in SETTINGS.items()},
            **self.upstream.settings_env(),
            "CRATES_PROXY_CACHE__DIR": str(self.directory / "disk" / name),
            "CRATES_PROXY_LOG__ACCESS": "false",
            "PYTHONPATH": str(HOOKS),
            "SOAK_HOOKS": str(self.levers.place),
            "SOAK_WITHOUT": self.without,
            **more,
        }
        server = Server(own, settings)
        server.cache = self.directory / "disk" / name
        server.config = own / "settings.toml"
        server.config.write_text(f'[access]\nadmin_token = "{ADMIN}"\n')
        server.arguments = ("--config", str(server.config))
        return server


@contextlib.contextmanager
def staged(dice: random.Random, without: str) -> Iterator[Stage]:
    chronicle = Chronicle(dice)
    with contextlib.ExitStack() as stack:
        directory = Path(tempfile.mkdtemp(prefix="soak-"))
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        file_system = stack.enter_context(small_file_system(directory / "disk"))
        upstream = stack.enter_context(Upstream.running(chronicle))
        chronicle.begin(upstream.site)
        yield Stage(directory, chronicle, upstream, Levers(directory / "hooks"), file_system, without)


@contextlib.asynccontextmanager
async def redis_behind(dice: random.Random):  # type: ignore[no-untyped-def]
    """Two servers, of which the first runs, and somebody between them and the proxy."""
    with redis_server() as first, redis_server() as second:
        second.kill()
        between = Between(first.socket, dice)
        await between.open()
        try:
            yield (first, second), between
        finally:
            await between.refuse()
            await asyncio.sleep(0)
