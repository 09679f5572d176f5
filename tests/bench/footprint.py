"""What the proxy needs beside speed: time to be ready, memory at rest and under slow readers, the price of workers."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from statistics import median

from tests.bench import asks, bulk, measuring, objects, raw, stage
from tests.bench.cases import BY_NAME
from tests.bench.load import Failed
from tests.bench.measuring import Told
from tests.bench.samples import middle, saving
from tests.bench.stage import OURS, TUNED, TUNED_TWO, TWO, Server, Stage
from tests.bench.targets import Figure

NAME = "footprint"
READERS = 20

_MIB = 2**20
# Each reader takes so much in a second: the whole file would last ten minutes.
_PACE = 100 * 1024
_READ_FOR = 4.0
_WINDOW = 64 * 1024
# As many connections in all, and as many for each worker: what comes ready together differs. Two workers share the
# core here, as those of nginx do beside them: what it costs to change from one process to the other is in both.
_CONNECTIONS = 64


def measured(rounds: int, seconds: float, told: Told) -> list[Figure]:
    figures = []
    with stage.opened(objects.registry(huge=True), huge=True) as opened:
        for measure in (_starts, _slow_readers, _workers):
            for figure in measure(opened, rounds, seconds, told):
                told(f"{NAME}: {figure.title}: {figure.value:.2f} {figure.unit}")
                figures.append(figure)
    return figures


def _starts(opened: Stage, rounds: int, seconds: float, told: Told) -> Iterator[Figure]:
    """With an empty cache. The server's own answer to `/healthz` says that it serves; then it rests."""
    took, spent, resident = [], [], []
    with opened.proxy(opened.directory / "first"):
        pass  # it may have had to write byte code
    for number in range(rounds):
        with opened.proxy(opened.directory / f"empty-{number}") as running:
            took.append(running.took)
            server = Server("empty", running, ours=True)
            raw.asked(server.address, raw.get("/healthz", server.host))
            spent.append(server.spent())
            resident.append(server.resident() / _MIB)
    yield Figure("ready", "ready to serve after", median(took), "s")
    yield Figure("ready-cpu", "of these on the CPU", median(spent), "s")
    yield Figure("rest", "a worker at rest, with an empty cache", max(resident), "MiB")


def _slow_readers(opened: Stage, rounds: int, seconds: float, told: Told) -> Iterator[Figure]:
    """The most that the server grows by while so many clients read a large file that is stored, slowly."""
    tarball = objects.tarball(opened.registry, objects.HUGE)
    with opened.proxy(opened.directory / "slow") as running, contextlib.ExitStack() as open_:
        server = Server("slow", running, ours=True)
        request = asks.by_checksum(tarball, server.host)
        for _ in range(2):  # the second time from the disk
            bulk.crowd(server.address, request, 1)
        before = most = server.resident()
        readers = []
        for _ in range(READERS):
            reader = open_.enter_context(socket.socket())
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _WINDOW)
            reader.settimeout(raw.PATIENCE)
            reader.connect(server.address)
            reader.sendall(request)
            readers.append(reader)
        step = 0.1
        for _ in range(int(_READ_FOR / step)):
            for reader in readers:
                if not reader.recv(int(_PACE * step)):
                    raise Failed("the server left a slow reader")
            most = max(most, server.resident())
            time.sleep(step)  # that is what makes them slow
    yield Figure(
        "slow-readers", f"{READERS} slow readers of {tarball.size // _MIB} MiB add", (most - before) / _MIB, "MiB"
    )


def _workers(opened: Stage, rounds: int, seconds: float, told: Told) -> Iterator[Figure]:
    """What a request costs with two workers, all processes counted, in terms of what it costs with one."""
    for name, case in (("workers", "job"), ("workers-cold", "cold-cpu")):
        both = replace(BY_NAME[case].among(OURS, TWO, TUNED, TUNED_TWO), connections=_CONNECTIONS)
        found = measuring.measured(both, opened, rounds, seconds, told)
        for figure, first, second, whose in ((name, OURS, TWO, ""), (f"{name}-nginx", TUNED, TUNED_TWO, " of nginx")):
            one, two = (middle(found[server]).micros for server in (first, second))
            title = (
                f"{BY_NAME[case].title}: CPU a request with two workers{whose} ({two:,.1f} us) to one ({one:,.1f} us)"
            )
            yield Figure(figure, title, saving(found, first, second), "times")
        half = replace(BY_NAME[case].among(OURS), connections=_CONNECTIONS // 2)
        alone = measuring.measured(half, opened, rounds, seconds, told)
        paired = {OURS: alone[OURS], TWO: found[TWO]}
        title = f"the same, with one that has half the connections ({middle(alone[OURS]).micros:,.0f} us)"
        yield Figure(f"{name}-each", title, saving(paired, OURS, TWO), "times")
