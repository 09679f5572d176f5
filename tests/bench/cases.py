"""The table of cases, each with what is asked, of whom, and what the answers must look like."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tests.bench import asks, objects, raw
from tests.bench.load import NUMBER
from tests.bench.stage import NGINX, OURS, REDIS, TUNED, VARNISH, Server, Stage

PEERS = (OURS, NGINX, TUNED, VARNISH)


@dataclass(frozen=True, slots=True)
class Asked:
    """One request of a case. `expected`: the body, None where each server has its own; `cached`: it must be a hit."""

    request: bytes
    status: int = 200
    expected: bytes | None = None
    cached: bool = True


@dataclass(frozen=True, slots=True)
class Case:
    """`generator`: "wrk", "bulk" or "crowd". `away`: milliseconds to upstream. `empty`: so does the empty protocol."""

    name: str
    title: str
    asks: Callable[[Stage, Server], Sequence[Asked]]
    servers: Sequence[str] = PEERS
    connections: int = 32
    generator: str = "wrk"
    unit: str = "requests/s"
    away: int = 0
    empty: bool = False

    def among(self, *servers: str) -> Case:
        """The same between others; its name tells so."""
        return replace(self, name=f"{self.name} of {', '.join(servers)}", servers=servers, empty=False)


def _pages(stage: Stage, server: Server) -> list[Asked]:
    targets = [f"/api/v1/crates/{name}" for name in objects.PAGED]
    bodies = [stage.upstream("api", target).body for target in targets]
    return [
        Asked(asks.page(*pair), expected=body) for pair, body in zip(_each(objects.PAGED, server), bodies, strict=True)
    ]


def _index(stage: Stage, server: Server) -> list[Asked]:
    return [
        Asked(asks.index(name, server.host), expected=stage.upstream("index", objects.index_target(name)).body)
        for name in objects.INDEXED
    ]


def _unchanged(stage: Stage, server: Server) -> list[Asked]:
    """With the entity tags that this server has given to cargo: those of a coding are its own."""
    answers = [raw.asked(server.address, asks.index(name, server.host)) for name in objects.INDEXED]
    etags = zip(objects.INDEXED, [answer.headers["etag"] for answer in answers], strict=True)
    return [Asked(asks.index(name, server.host, etag), 304, b"") for name, etag in etags]


def _downloads(names: Sequence[str]) -> Callable[[Stage, Server], list[Asked]]:
    def made(stage: Stage, server: Server) -> list[Asked]:
        tarballs = [objects.tarball(stage.registry, name) for name in names]
        request = asks.by_checksum if server.ours else asks.by_name
        content = [stage.registry.package(name).latest.tarball for name in names]
        return [Asked(request(each, server.host), expected=body) for each, body in zip(tarballs, content, strict=True)]

    return made


def _job(stage: Stage, server: Server) -> list[Asked]:
    """What CI jobs ask, shuffled: of each hundred requests one or two for config.json, half for index files (a third
    of those known already), and the tarballs of a project."""
    every = [Asked(asks.config(server.host), cached=False)] * 2
    every += _index(stage, server)[:48] + _unchanged(stage, server)[48:] + _unchanged(stage, server)[:8]
    every += _downloads(objects.PROJECT)(stage, server)
    random.Random("job").shuffle(every)
    return every


def _cold(stage: Stage, server: Server) -> list[Asked]:
    """An index file that nobody has asked for, each time another."""
    name = objects.COLD.replace("0" * len(NUMBER), NUMBER.decode())
    return [Asked(asks.index(name, server.host), cached=False)]


def _some_cold(stage: Stage, server: Server) -> list[Asked]:
    hits = _index(stage, server)[:63]
    return [asked for at in range(0, 63, 9) for asked in (*hits[at : at + 9], *_cold(stage, server))]


def _each(names: Sequence[str], server: Server) -> list[tuple[str, str]]:
    return [(name, server.host) for name in names]


CASES = (
    Case("json", "JSON hit", _pages, empty=True),
    Case("index", "index hit, as cargo asks", _index, empty=True),
    Case("unchanged", "304 to cargo", _unchanged, empty=True),
    Case("small", "tarball of 50 KB", _downloads(objects.SMALL), empty=True),
    Case(
        "large", "tarball of 2 MB", _downloads(objects.LARGE), connections=4, generator="bulk", unit="MB/s", empty=True
    ),
    Case("job", "mixed traffic of a CI job", _job),
    Case("cold", "cold misses, upstream 50 ms away", _cold, away=50),
    Case("cold-cpu", "cold misses, upstream at hand", _cold),
    Case("crowd", "500 clients on one cold object", _cold, connections=500, generator="crowd", unit="ms", away=50),
    Case("some-cold", "hits while 10 % miss, upstream 50 ms away", _some_cold, connections=128, away=50),
    Case("redis", "JSON hit, from Redis alone", _pages, servers=(REDIS, OURS, NGINX, TUNED)),
)
BY_NAME = {case.name: case for case in CASES}
