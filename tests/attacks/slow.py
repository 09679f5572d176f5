"""slowhttptest's four attacks on a running proxy, beside a client that only wants its crates.

    python -m tests.attacks.slow [--seconds 30] [--connections 1000]

prints what the client had to wait without and with each attack, and fails where it got a wrong answer or its p99 came
to 100 ms. (Debian: apt-get install slowhttptest.)
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import multiprocessing
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from tests.e2e import harness
from tests.upstream import Source, Upstream, samples

PROGRAM = "/usr/bin/slowhttptest"
ALLOWED = 0.1
"""Seconds that the p99 of the good client may take."""
RATE = 200
"""Connections that an attack opens in a second."""
LARGE = "large"
_PAUSE = 0.01
"""Seconds between two requests of the good client."""


@dataclass(frozen=True, slots=True)
class Attack:
    name: str
    path: str
    options: tuple[str, ...]


ATTACKS = (
    Attack("slow heads (-H)", "/api/v1/crates/leaf", ("-H", "-i", "2", "-x", "24", "-t", "GET")),
    Attack("slow bodies (-B)", "/api/v1/crates/new", ("-B", "-i", "2", "-x", "10", "-s", "8192", "-t", "PUT")),
    Attack("ranges (-R)", f"/files/crates/{LARGE}/{LARGE}-1.0.0.crate", ("-R", "-a", "1", "-b", "3000", "-t", "GET")),
    Attack(
        "slow readers (-X)",
        f"/files/crates/{LARGE}/{LARGE}-1.0.0.crate",
        ("-X", "-w", "512", "-y", "1024", "-n", "2", "-z", "32", "-k", "3"),
    ),
)


@dataclass(slots=True)
class Waits:
    """How long each request of the good client took, in seconds, and what it got that was wrong."""

    seconds: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def quantile(self, share: float) -> float:
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


@dataclass(frozen=True, slots=True)
class Result:
    """`connected` and `closed`: connections of the attack that were open at most, and that were ended in the end."""

    attack: Attack
    calm: Waits
    under: Waits
    connected: int
    closed: int

    @property
    def held(self) -> bool:
        return not self.under.wrong and self.under.quantile(0.99) < ALLOWED


@dataclass(frozen=True, slots=True)
class Target:
    """A running proxy. `wanted`: what the good client asks for, and a part of the right answer. `client`: a process of
    its own, so that it waits for nobody but the proxy."""

    url: str
    wanted: Sequence[tuple[str, bytes]]
    client: Executor

    def visited(self, seconds: float) -> Waits:
        """A good client for so long."""
        return self.client.submit(visit, self.url, self.wanted, seconds).result(seconds + 120)

    def attacked(self, attack: Attack, connections: int, seconds: float) -> tuple[Waits, int, int]:
        """The good client's waits while the attack goes on; and how many connections were open at most, and ended."""
        with tempfile.TemporaryDirectory(prefix="slow-") as scratch:
            command = [PROGRAM, *attack.options, "-u", self.url + attack.path, "-c", str(connections), "-r", str(RATE)]
            command += ["-l", f"{seconds:.0f}", "-p", "20", "-g", "-o", f"{scratch}/told"]
            with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
                waits = self.visited(seconds)
                process.wait(seconds + 60)
            with open(f"{scratch}/told.csv", newline="") as file:  # a line a second
                told = [{name.strip(): int(value) for name, value in row.items()} for row in csv.DictReader(file)]
        return (
            waits,
            max((row["Connected"] for row in told), default=0),
            max((row["Closed"] for row in told), default=0),
        )


def visit(url: str, wanted: Sequence[tuple[str, bytes]], seconds: float) -> Waits:
    """Asks again and again: now on a connection of its own for each request, now on one for several."""
    waits, end, kept = Waits(), time.monotonic() + seconds, _connected(url)
    count = 0
    while time.monotonic() < end:
        path, right = wanted[count % len(wanted)]
        count += 1
        begun = time.monotonic()
        try:
            if count % 2:
                with contextlib.closing(_connected(url)) as client:
                    answer = _asked(client, path)
            else:
                answer = _asked(kept, path)
            if right not in answer or not answer.startswith(b"HTTP/1.1 200 "):
                waits.wrong.append(f"{path}: {answer[:200]!r}")
        except OSError as error:
            waits.wrong.append(f"{path}: {error}")
            kept = _connected(url)
        waits.seconds.append(time.monotonic() - begun)
        time.sleep(_PAUSE)
    kept.close()
    return waits


def _connected(url: str) -> socket.socket:
    address = urlsplit(url)
    return socket.create_connection((address.hostname or "", address.port or 0), timeout=20)


def _asked(client: socket.socket, path: str) -> bytes:
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    data = b""
    while b"\r\n\r\n" not in data:
        data += _received(client)
    head, _, _ = data.partition(b"\r\n\r\n")
    length = re.search(rb"\r\ncontent-length: (\d+)", head)
    whole = len(head) + 4 + (int(length[1]) if length else 0)
    while len(data) < whole:
        data += _received(client)
    return data


def _received(client: socket.socket) -> bytes:
    piece = client.recv(65536)
    if not piece:
        raise ConnectionResetError("the connection was ended")
    return piece


@contextlib.contextmanager
def target(directory: Path) -> Iterator[Target]:
    """`crates-proxy serve` with the limits that are the defaults, and its cache warm."""
    client = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
    with client, Upstream.running() as upstream, harness.proxy(directory, upstream.settings_env()) as proxy:
        noise = "".join(f"// {os.urandom(60).hex()}\n" for _ in range(16_000))
        upstream.registry.add(Source(LARGE, "1.0.0", code=noise), samples.OWNER)
        checksum = upstream.registry.release("leaf", "1.0.0").line["cksum"]
        wanted = [
            ("/api/v1/crates/leaf", b'"id":"leaf"'),
            ("/index/le/af/leaf", b'"vers":"1.0.0"'),
            (f"/files/crates/leaf/1.0.0/{checksum}/download", upstream.registry.release("leaf", "1.0.0").tarball),
        ]
        found = Target(proxy.url, wanted, client)
        calm = found.visited(0.5)
        assert calm.seconds and not calm.wrong, calm.wrong
        with contextlib.closing(_connected(proxy.url)) as large:
            assert _asked(large, ATTACKS[-1].path).startswith(b"HTTP/1.1 200 ")
        yield found


def played(found: Target, attack: Attack, connections: int, seconds: float) -> Result:
    calm = found.visited(seconds / 3)
    under, connected, closed = found.attacked(attack, connections, seconds)
    return Result(attack, calm, under, connected, closed)


def printed(results: Sequence[Result]) -> str:
    lines = [
        "| attack | connections | ended by the proxy | requests beside it | wrong | p50 | p99 | most | p99 without |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for each in results:
        waits = (each.under.median, each.under.quantile(0.99), max(each.under.seconds), each.calm.quantile(0.99))
        shown = " | ".join(f"{seconds * 1000:.1f} ms" for seconds in waits)
        counts = f"{each.connected} | {each.closed} | {len(each.under.seconds)} | {len(each.under.wrong)}"
        lines.append(f"| {each.attack.name} | {counts} | {shown} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.attacks.slow", description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0, help="of each attack")
    parser.add_argument("--connections", type=int, default=1000)
    given = parser.parse_args()
    if shutil.which(PROGRAM) is None:
        print("slowhttptest is not installed (Debian: apt-get install slowhttptest)", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="slow-") as scratch, target(Path(scratch, "proxy")) as found:
        results = [played(found, attack, given.connections, given.seconds) for attack in ATTACKS]
    print(printed(results))
    for each in results:
        for line in each.under.wrong[:5]:
            print(f"{each.attack.name}: {line}", file=sys.stderr)
    return 0 if all(each.held for each in results) else 1


if __name__ == "__main__":
    sys.exit(main())
