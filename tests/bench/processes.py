"""Programs that a run starts: each ends with it, whatever happens, and says why it did not start."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.cores import Unfit, pinned
from tests.bench.raw import PATIENCE, Address

ROOT = Path(__file__).parents[2]
MODULE = [sys.executable, "-m"]


@dataclass(frozen=True, slots=True)
class Running:
    """A program on a port of its own. `took`: seconds from its start until it was ready."""

    pid: int
    ports: tuple[int, ...]
    took: float = 0.0

    @property
    def address(self) -> Address:
        return "127.0.0.1", self.ports[0]


def found(program: str, package: str) -> str:
    """Where a program is; as Debian has it, also outside of a user's PATH. Raises `Unfit` where it is not."""
    path = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
    if path is None:
        raise Unfit(f"{program} is not here; install it: apt-get install {package}")
    return path


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextlib.contextmanager
def announcing(command: Sequence[str], core: int | None = None) -> Iterator[Running]:
    """A program of ours that prints its ports when it serves, and ends with its standard input."""
    begun = time.monotonic()
    with subprocess.Popen(
        [*(pinned(core) if core is not None else ()), *MODULE, *command],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise Unfit(f"{' '.join(command)} ended with {process.wait()}")
            yield Running(process.pid, tuple(int(port) for port in line.split()), time.monotonic() - begun)
        finally:
            process.kill()


@contextlib.contextmanager
def serving(
    command: Sequence[str],
    log: Path,
    *,
    core: int | None,
    port: int = 0,
    says: str = "",
    environment: Mapping[str, str] | None = None,
) -> Iterator[Running]:
    """A server that logs to `log`. It is ready when it `says` its port, or where it cannot, when `port` answers."""
    begun = time.monotonic()
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*(pinned(core) if core is not None else ()), *command],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        while True:
            if said := re.search(says, log.read_text("utf-8", "replace")) if says else None:
                port = int(said[1])
            if (said or not says) and _answers(port):
                break
            if process.poll() is not None or time.monotonic() > begun + PATIENCE:
                raise Unfit(f"{command[0]} does not serve; it said:\n{log.read_text('utf-8', 'replace')[-3000:]}")
            time.sleep(0.002)
        yield Running(process.pid, (port,), time.monotonic() - begun)
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE)
        with contextlib.suppress(ProcessLookupError):  # what is left of the group
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
        return True
    return False
