"""The clients of a run, each a script: cargo in CI with warm and fresh homes, tools, people, a publisher.

They are what cargo and careful tools are: conditional where they have a copy, patient as cargo is, obedient to
Retry-After. They know nothing of proxies; where things are they learn from config.json.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tests.upstream import index
from tests.week.ways import Got, Way
from tests.week.witness import Witness

T = TypeVar("T")

RETRIES = (1.0, 3.5, 6.5)
"""Seconds between cargo's attempts at an index file or a tarball; it heeds a Retry-After up to 10."""
AT_ONCE = 8
"""Requests that one cargo has under way: two connections, multiplexed."""
COME_AGAIN = 60.0
"""Seconds that a careful tool waits where it is refused and not told for how long."""
ATTEMPTS = 40
"""After so many a tool leaves a crate out."""
CARGO = {"user-agent": "cargo/1.95.0", "cargo-protocol": "version=1", "accept": "text/plain", "accept-encoding": "gzip"}
TOOL = {"user-agent": "crate-survey/1.0 (survey@example.org)", "accept": "application/json"}


async def each(what: Iterable[T], lanes: int, do: Callable[[T], Awaitable[object]]) -> None:
    """Do it for all, in order, with so many under way."""
    left = iter(what)

    async def lane() -> None:
        for one in left:
            await do(one)

    await asyncio.gather(*(lane() for _ in range(lanes)))


class Visitor:
    """One client, as the others see it: it asks, and what it sees is written down."""

    def __init__(self, way: Way, witness: Witness) -> None:
        self.way = way
        self.witness = witness

    async def ask(self, kind: str, url: str, fields: dict[str, str], method: str = "GET", body: bytes = b"") -> Got:
        loop = asyncio.get_running_loop()
        asked = loop.time()
        got = await self.way.ask(method, url, fields, body)
        self.witness.saw(kind, method, url, got, loop.time() - asked)
        return got

    async def config(self) -> dict[str, str]:
        """What config.json says: `dl` and `api`. Nothing where it cannot be had."""
        got = await self.persistent("config", self.way.index + "config.json", CARGO)
        return dict(json.loads(got.body)) if got.status == 200 else {}

    async def persistent(self, kind: str, url: str, fields: dict[str, str]) -> Got:
        """As cargo asks for index files and tarballs: three more times, where that may help."""
        for pause in RETRIES:
            got = await self.ask(kind, url, fields)
            if got.status not in (0, 429) and got.status < 500:
                return got
            told = got.fields.get("retry-after", "")
            await asyncio.sleep(min(10.0, float(told)) if told.isdigit() else pause)
        return await self.ask(kind, url, fields)

    async def careful(self, kind: str, url: str) -> Got:
        """As a tool with manners reads the API: it comes again when it was told to."""
        for _ in range(ATTEMPTS):
            got = await self.ask(kind, url, TOOL)
            if got.status not in (0, 403, 429) and got.status < 500:
                break
            told = got.fields.get("retry-after", "")
            await asyncio.sleep(float(told) if told.isdigit() else COME_AGAIN)
        return got


@dataclass
class Home:
    """A CARGO_HOME: index files with their tags, and tarballs."""

    files: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    tarballs: set[tuple[str, str]] = field(default_factory=set)


@dataclass
class Project:
    """`lock`: the version of each crate that its Cargo.lock names; empty after `cargo update`."""

    crates: Sequence[str]
    lock: dict[str, str] = field(default_factory=dict)


async def build(visitor: Visitor, project: Project, home: Home) -> None:
    """What a CI job asks for. A job that cannot get something goes on to the next, to see all there is to see."""
    config = await visitor.config()
    if not config:
        return
    await each(project.crates, AT_ONCE, lambda name: _index(visitor, name, home))
    wanted: list[tuple[str, dict[str, Any]]] = []
    for name in project.crates:
        line = _locked(project, name, home)
        if line is not None and (name, line["vers"]) not in home.tarballs:
            wanted.append((name, line))
    await each(wanted, AT_ONCE, lambda one: _tarball(visitor, config["dl"], *one, home))


async def _index(visitor: Visitor, name: str, home: Home) -> None:
    known = home.files.get(name)
    condition = {"if-none-match": known[0]} if known else {}
    got = await visitor.persistent("index", visitor.way.index + index.path(name).lstrip("/"), CARGO | condition)
    if got.status == 200:
        home.files[name] = known = (got.fields["etag"], plain(got))
    elif got.status != 304:
        return
    assert known is not None, "304 for a file that is not there"
    visitor.witness.read("index", name, got, known[1].count(b"\n"))


def _locked(project: Project, name: str, home: Home) -> dict[str, Any] | None:
    """The line of the version that the project has locked; it locks the newest where it has none."""
    if name not in home.files:
        return None
    lines = home.files[name][1].splitlines()
    if name not in project.lock:
        newest = next((line for line in reversed(lines) if b'"yanked":false' in line), lines[-1])
        project.lock[name] = json.loads(newest)["vers"]
    wanted = f'"vers":"{project.lock[name]}"'.encode()
    return next((json.loads(line) for line in lines if wanted in line), None)


async def _tarball(visitor: Visitor, dl: str, name: str, line: dict[str, Any], home: Home) -> None:
    marks = {"{crate}": name, "{version}": line["vers"], "{sha256-checksum}": line["cksum"]}
    url = dl if any(mark in dl for mark in marks) else dl + "/{crate}/{version}/download"
    for mark, value in marks.items():
        url = url.replace(mark, value)
    got = await visitor.persistent("tarball", url, {"user-agent": CARGO["user-agent"], "accept": "*/*"})
    if got.status == 200:
        if hashlib.sha256(got.body).hexdigest() == line["cksum"]:
            home.tarballs.add((name, line["vers"]))
        else:
            visitor.witness.failures.append(f"{url}: a complete answer with the wrong bytes")


async def survey(visitor: Visitor, names: Sequence[str], lanes: int) -> None:
    """A tool: the JSON of each crate, and of every tenth its versions too."""
    if not (config := await visitor.config()):
        return

    async def one(numbered: tuple[int, str]) -> None:
        number, name = numbered
        await page(visitor, config["api"], name)
        if number % 10 == 0:
            await visitor.careful("json", f"{config['api']}/api/v1/crates/{name}/versions")

    await each(enumerate(names), lanes, one)


async def page(visitor: Visitor, base: str, name: str) -> None:
    """A crate's own JSON."""
    got = await visitor.careful("json", f"{base}/api/v1/crates/{name}")
    if got.status == 200:
        visitor.witness.read("json", name, got, len(json.loads(plain(got))["versions"]))


async def search(visitor: Visitor, dice: random.Random) -> None:
    """`cargo search`: once, since cargo does not try again."""
    if config := await visitor.config():
        word = dice.choice(("mi", "so", "tra", "ser", "hy", "cing", "sys", "core"))
        await visitor.ask("search", f"{config['api']}/api/v1/crates?q={word}&per_page=10", TOOL)


def plain(got: Got) -> bytes:
    """The body without its coding."""
    if got.fields.get("content-encoding") == "gzip":
        return gzip.decompress(got.body)
    return got.body
