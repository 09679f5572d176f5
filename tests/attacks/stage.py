"""A proxy with one path for each kind of answer, and what a client gets for them."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

from tests.proxied import Proxied, proxied
from tests.upstream import Upstream, faults

ADMIN = "admin-token-of-these-tests"
OTHER = "/api/v1/something/new"
SAYS = faults.Status(200, (("cache-control", "max-age=600"), ("content-type", "text/plain")), b"as always")
"""What upstream answers on the row where its own headers rule."""
PATHS = (
    "/api/v1/crates/leaf",
    "/api/v1/crates?q=leaf",
    "/api/v1/site_metadata",
    "/index/le/af/leaf",
    "/index/config.json",
    "/files/readmes/leaf/leaf-1.0.0.html",
    "/api/v1/crates/leaf/1.0.0/readme",
    "/api/v1/crates/leaf/1.0.0/download",
    "/files/crates/leaf/leaf-1.0.0.crate",
    OTHER,
)
# What may differ from one answer to the next: when it was given, and how it was come by.
_OF_THE_MOMENT = frozenset(("age", "date", "x-cache", "cache-status", "cache-control", "etag"))

Got = tuple[int, tuple[tuple[str, str], ...], bytes]


@dataclass(frozen=True)
class Stage:
    proxy: Proxied
    upstream: Upstream

    def empty(self) -> None:
        """Forget everything: what is stored, what upstream was asked, what was wrong with it."""
        self.proxy.clock.now += 10
        fields = {"authorization": f"Bearer {ADMIN}"}
        assert self.proxy.client.post(f"{self.proxy.url}/-/purge", json={"all": True}, headers=fields).is_success
        self.proxy.clock.now += 10
        self.upstream.heal()
        self.upstream.fault(f"api GET {OTHER}", SAYS)
        self.upstream.forget()

    def got(self, path: str, fields: Mapping[str, str] | None = None, method: str = "GET") -> Got:
        """What is the same for everybody of an answer."""
        self.proxy.client.cookies.clear()  # this client's own jar
        answer = self.proxy.client.request(method, self.proxy.url + path, headers=dict(fields or {}))
        told = sorted((name, value) for name, value in answer.headers.items() if name not in _OF_THE_MOMENT)
        return answer.status_code, tuple(told), answer.content

    def clean(self) -> dict[str, Got]:
        """What everybody gets, path by path."""
        return {path: self.got(path) for path in PATHS}

    def raw(self, *segments: bytes) -> list[tuple[int, bytes]]:
        """Status and body of all that comes back for these bytes, up to the end of the connection."""
        address = urlsplit(self.proxy.url)
        with socket.create_connection((address.hostname or "", address.port or 0), timeout=30) as client:
            for segment in segments:
                client.sendall(segment)
            with client.makefile("rb") as wire:
                found = []
                while line := wire.readline():
                    found.append((int(line.split(b" ")[1]), _body(wire)))
                return found


def _body(wire: BinaryIO) -> bytes:
    fields = {}
    while (line := wire.readline()) not in (b"\r\n", b""):
        name, _, value = line.partition(b":")
        fields[name.lower()] = value.strip()
    if b"transfer-encoding" not in fields:
        return wire.read(int(fields.get(b"content-length", b"0")))
    body = b""
    while size := int(wire.readline(), 16):
        body += wire.read(size)
        wire.readline()
    wire.readline()
    return body


@contextlib.contextmanager
def staged(directory: Path) -> Iterator[Stage]:
    with Upstream.running() as upstream, proxied(upstream, directory, access__admin_token=ADMIN) as proxy:
        yield Stage(proxy, upstream)
