"""What is served in a run: crates of a size, the same bytes each time. No HTTP here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tests.upstream import Dependency, Registry, Source
from tests.upstream.index import path as index_path

INDEXED = [f"bench-{number:02}" for number in range(64)]
"""Crates with an index file of some 3 KB."""
PAGED = [f"page-{number:02}" for number in range(8)]
"""Crates with a page of some 3 KB; few, because crates.io's API may be asked seldom."""
SMALL = [f"small-{number:02}" for number in range(16)]
LARGE = [f"large-{number:02}" for number in range(4)]
HUGE = "huge-00"
"""In the registry only where it is asked for: it takes seconds to make."""
PROJECT = [f"part-{number:02}" for number in range(80)]
"""What the project of `fetching` needs."""
COLD = "cold-00000000"
"""It stands for any number of crates, one for each eight digits, that differ in nothing else."""

SMALL_BYTES, LARGE_BYTES, HUGE_BYTES = 50_000, 2 * 2**20, 60 * 2**20
_RELEASES = 9
_OWNER = "ferris"
_BEGINNING = 1_704_067_200.0


@dataclass(frozen=True, slots=True)
class Tarball:
    name: str
    version: str
    sha256: str
    size: int


def registry(*, huge: bool = False) -> Registry:
    made = Registry()
    made.user(_OWNER)
    for at, source in enumerate(_sources()):
        made.add(source, _OWNER, at=_BEGINNING + at * 60.0)
    if huge:
        made.add(Source(HUGE, padding=HUGE_BYTES), _OWNER, at=_BEGINNING)
    return made


def tarball(of: Registry, name: str) -> Tarball:
    """The newest of a crate."""
    release = of.package(name).latest
    return Tarball(name, release.num, str(release.line["cksum"]), len(release.tarball))


def index_target(name: str) -> str:
    """Where the index host has the file of a crate."""
    return index_path(name)


def _sources() -> Iterable[Source]:
    needs = (Dependency("serde", "1.0", ("derive",), default_features=False), Dependency("log", "0.4", optional=True))
    for name in (*INDEXED, COLD):
        yield from (Source(name, f"1.{minor}.0", needs, {"std": ("serde/std",)}) for minor in range(_RELEASES))
    yield from (Source(name, description="A page of the API", keywords=("page",)) for name in PAGED)
    yield from (Source(name, padding=SMALL_BYTES) for name in SMALL)
    yield from (Source(name, padding=LARGE_BYTES) for name in LARGE)
    yield from _project()


def _project() -> Iterable[Source]:
    """Each needs up to three that come later, as crates do; sizes from 2 to 300 KB, most of them small."""
    for number, name in enumerate(PROJECT):
        later = {number * 2 + 1, number * 2 + 2, number + 7}
        needs = tuple(Dependency(PROJECT[other]) for other in sorted(later) if other < len(PROJECT))
        yield from (Source(name, f"1.{minor}.0", needs) for minor in range(_RELEASES))
        yield Source(name, f"1.{_RELEASES}.0", needs, padding=2_000 + number**3 * 300_000 // len(PROJECT) ** 3)
