"""What becomes slower as a cache grows: hits, start, memory, the operator's questions, making room.

    python -m tests.bench --only growth

For each size a cache is made with so many answers, half index files and half pages, and a tenth as many tarballs.
A server on each cache is asked, turn about, for what it has in memory and for what only its store has.
"""

from __future__ import annotations

import contextlib
import random
import shutil
from collections.abc import Sequence
from pathlib import Path

from tests.bench import asks, filling, keeping, measuring, objects, stage
from tests.bench.cases import Asked, Case
from tests.bench.cores import Unfit
from tests.bench.measuring import Told
from tests.bench.objects import Tarball
from tests.bench.samples import middle, saving
from tests.bench.stage import Server, Stage
from tests.bench.targets import Figure

NAME = "growth"
SIZES = (1_000, 100_000, 1_000_000)
QUICK_SIZES = (1_000, 10_000)
ROUNDS = 3

_HOT = 200
_ASKED = 20_000
# With the tarballs and the room that SQLite wants for itself.
_BYTES_AN_ENTRY = 3_000


def measured(sizes: Sequence[int], seconds: float, told: Told) -> list[Figure]:
    """The figures of all sizes; the ratios are those of the last to the first."""
    figures: list[Figure] = []

    def take(found: list[Figure]) -> None:
        figures.extend(found)
        for figure in found:
            told(f"{NAME}: {figure.title}: {figure.value:,.2f} {figure.unit}")

    with stage.opened(objects.registry()) as opened:
        if shutil.disk_usage(opened.directory).free < sum(sizes) * _BYTES_AN_ENTRY:
            raise Unfit(f"growth needs {sum(sizes) * _BYTES_AN_ENTRY / 1e9:.0f} GB free in {opened.directory} (TMPDIR)")
        for size in sizes:
            told(f"{NAME}: filling a cache with {size:,} answers and {size // 10:,} tarballs")
            _home(opened, size).mkdir()
            filling.filled(_home(opened, size) / "cache", size, size // 10)
        for kind, settings in (("memory", {}), ("store", {"CACHE__MEMORY": "0"})):
            with contextlib.ExitStack() as running:
                for size in sizes:
                    take(_started(opened, running, size, kind, settings))
                take(_hits(opened, sizes, kind, seconds, told))
        for size in sizes:
            take(keeping.commanded(_home(opened, size) / "cache", size))
            take(keeping.measured(_home(opened, size) / "cache", size))
            take(keeping.tier(size))
    return figures


def _home(opened: Stage, size: int) -> Path:
    return opened.directory / f"grown-{size}"


def _started(
    opened: Stage, running: contextlib.ExitStack, size: int, kind: str, settings: dict[str, str]
) -> list[Figure]:
    fresh = {"ENDPOINTS__INDEX__TTL": "30d", "ENDPOINTS__CRATE__TTL": "30d"}
    server = Server(
        _label(size, kind), running.enter_context(opened.proxy(_home(opened, size), **fresh, **settings)), True
    )
    opened.enter(server)
    if kind != "memory":
        return []
    return [
        Figure(f"growth-start-{size}", f"ready to serve with {size:,} answers after", server.running.took, "s"),
        Figure(f"growth-rest-{size}", f"a worker at rest with {size:,} answers", server.resident() / 2**20, "MiB"),
    ]


def _hits(opened: Stage, sizes: Sequence[int], kind: str, seconds: float, told: Told) -> list[Figure]:
    figures = []
    first, last = _label(sizes[0], kind), _label(sizes[-1], kind)
    labels = {_label(size, kind): size for size in sizes}
    cases = [
        Case(f"growth-{kind}", f"{kind} hit", lambda _, server: _answers(labels[server.name], server, kind), [*labels])
    ]
    if kind == "store":
        cases.append(
            Case(
                "growth-tarball", "stored tarball", lambda _, server: _tarballs(labels[server.name], server), [*labels]
            )
        )
    for case in cases:
        found = measuring.measured(case, opened, ROUNDS, seconds, told)
        for label, size in labels.items():
            micros = middle(found[label]).micros
            figures.append(Figure(f"{case.name}-{size}", f"{case.title} with {size:,} answers: CPU", micros, "us"))
        ratio = saving(found, first, last)
        title = f"{case.title}: CPU at {sizes[-1]:,} to CPU at {sizes[0]:,}"
        figures.append(Figure(case.name, title, ratio, "times"))
    for label, size in labels.items():
        resident = opened.server(label).resident() / 2**20
        figures.append(
            Figure(f"growth-{kind}-resident-{size}", f"after these hits with {size:,} answers", resident, "MiB")
        )
    return figures


def _label(size: int, kind: str) -> str:
    return f"{size:,} answers, {kind}"


def _answers(size: int, server: Server, kind: str) -> list[Asked]:
    """Spread over all that is stored, in no order: few of them for hits in memory, many for hits in the store."""
    numbers = _spread(size // 2, (_HOT if kind == "memory" else _ASKED) // 2)
    every = []
    for number in numbers:
        for read, request in ((filling.index_read(number), asks.index), (filling.page_read(number), asks.page)):
            body = filling.entry(read, number, 0.0).body
            every.append(Asked(request(filling.name(number), server.host), expected=body))
    return every


def _tarballs(size: int, server: Server) -> list[Asked]:
    every = []
    for number in _spread(size // 10, _ASKED):
        sha256, content = filling.tarball(number)
        tarball = Tarball(filling.name(number), filling.VERSION, sha256, len(content))
        every.append(Asked(asks.by_checksum(tarball, server.host), expected=content))
    return every


def _spread(population: int, wanted: int) -> list[int]:
    return random.Random(population).sample(range(population), min(population, wanted))
