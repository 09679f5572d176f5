"""Caches of any size, made in minutes: the stores' own formats, written by their own adapters in few transactions."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import Any

from proxy.model import Crate, Entry, Head
from proxy.rules import freshness, keys, routes, sparse
from proxy.rules.keys import Read
from proxy.stores import codec, envelope
from proxy.stores.database import Database
from proxy.stores.files import Files
from proxy.stores.ledger import Ledger, Record

VERSION = "1.0.0"
_BATCH = 5000
_TARBALL = 1024
"""Bytes of a tarball: what grows with their number does not grow with their size."""


def name(number: int) -> str:
    return f"grown-{number:07}"


def index_read(number: int) -> Read:
    return keys.index_read(sparse.path(name(number)))


def page_read(number: int) -> Read:
    return keys.read(routes.match("GET", f"/api/v1/crates/{name(number)}", ()), keys.index_read("").policy)


def entry(read: Read, number: int, now: float) -> Entry:
    """A small answer, as it would have been stored."""
    line = b'{"name":"%b","vers":"1.0.0","deps":[],"cksum":"%b","features":{},"yanked":false}\n'
    body = line % (name(number).encode(), b"0" * 64) * 3
    return replace(_first(read.endpoint.name, now), key=read.key, body=body, etag=f'"{number:07}"')


@lru_cache
def _first(endpoint: str, now: float) -> Entry:
    """What all of an endpoint have in common, made as the engine makes it."""
    kind = b"text/plain" if endpoint == "index" else b"application/json"
    head = Head(200, ((b"content-type", kind), (b"etag", b'"0000000"')))
    return freshness.stored("", head, b"", requested_at=now, responded_at=now)


def tarball(number: int) -> tuple[str, bytes]:
    """The SHA-256 and the bytes of a crate's only file."""
    content = (b"%07d" % number) * (_TARBALL // 7)
    return hashlib.sha256(content).hexdigest(), content


def filled(directory: Path, entries: int, tarballs: int) -> None:
    """Fill a `cache.dir` with so many values, half of them index files, half pages, and so many tarballs."""
    now = time.time()
    for part, read in (("index", index_read), ("json", page_read)):
        database = Database(directory / part, envelope.VERSION, print)
        values = ((made, entry(made, number, now)) for number in range(entries // 2) for made in (read(number),))
        while batch := list(islice(values, _BATCH)):
            database.attempt(partial(_put, batch))
        database.close()
    files = Files(directory / "tarballs", 0)
    ledger = Ledger(files.directory / "ledger", print, files.remove)
    numbers = iter(range(tarballs))
    while some := list(islice(numbers, _BATCH)):
        ledger._transact(partial(_published, files, ledger, some, now))
    ledger.close()


def _published(files: Files, ledger: Ledger, numbers: list[int], now: float, cache: Any) -> None:
    for number in numbers:
        sha256, content = tarball(number)
        record = Record(Crate(name(number), VERSION), len(content), now)
        ledger._added(cache, sha256, record, now, partial(_write, files.path(sha256), content))


def _put(batch: list[tuple[Read, Entry]], cache: Any) -> None:
    with cache.transact():
        for read, value in batch:
            cache.set(read.key, envelope.framed(read.key, codec.encoded(value)), tag=read.tag)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.write_bytes(content)
    path.chmod(0o600)


def reads(entries: int) -> Iterator[Read]:
    """Every read that `filled` stored an answer to."""
    for number in range(entries // 2):
        yield index_read(number)
        yield page_read(number)
