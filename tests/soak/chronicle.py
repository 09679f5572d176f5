"""A registry that keeps every version of every object that is watched, and since when each was the right one.

What it knows is what the small crates.io would answer, asked in the same breath in which something changed.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.upstream import Registry, Source, api, index, samples, static
from tests.upstream.packages import Release
from tests.upstream.routes import Site
from tests.upstream.wire import Request

CRATES = 40
SIZES = (0, 0, 2_000, 40_000, 200_000, 900_000)
"""Bytes of tarballs, about: those that are held in memory and those that are not."""
AGENT = (("user-agent", "soak"),)
GLOBAL = ("/api/v1/summary", "/api/v1/crates?q=soak", "/api/v1/keywords", "/api/v1/categories")


@dataclass(frozen=True, slots=True)
class Object:
    """host: where crates.io has it; target: how it is asked for there; path: how the proxy is asked for it."""

    kind: str
    host: str
    target: str
    path: str
    crate: str = ""
    born: float = 0.0


@dataclass(frozen=True, slots=True)
class Version:
    body: bytes
    since: float


class Chronicle(Registry):
    """`objects`: everything that exists, by its path at the proxy."""

    def __init__(self, dice: random.Random) -> None:
        super().__init__()
        self._site: Site | None = None
        self.objects: dict[str, Object] = {}
        self.versions: dict[str, list[Version]] = {}
        for login, token in ((samples.OWNER, samples.TOKEN), (samples.OTHER, samples.OTHER_TOKEN)):
            self.user(login, token=token, session=login)
        for number in range(CRATES):
            name = f"soak-{number:02}"
            for version in range(3):
                size = SIZES[(number + version) % len(SIZES)]
                padding = size + dice.randrange(1000)
                self.add(Source(name, f"1.{version}.0", keywords=("soak",), padding=padding), samples.OWNER)

    def begin(self, site: Site) -> None:
        """From now on all is noted, as `site` would tell it."""
        self._site = site
        with self.lock:
            for package in list(self.packages.values()):
                for release in package.releases:
                    self._released(package.name, release)
                self._note(package.name)

    def publish(self, login: str, metadata: dict[str, Any], tarball: bytes, *, at: float | None = None) -> Release:
        with self.lock:
            release = super().publish(login, metadata, tarball, at=at)
            if self._site is not None:
                self._released(metadata["name"], release)
                self._note(metadata["name"])
            return release

    def yank(self, name: str, num: str, *, yanked: bool = True, message: str | None = None) -> None:
        with self.lock:
            super().yank(name, num, yanked=yanked, message=message)
            if self._site is not None:
                self._note(name)

    def right(self, path: str, start: float, end: float) -> list[bytes]:
        """What was right at some time between the two, or (start at minus infinity) before."""
        with self.lock:
            versions = self.versions[path]
            ends = [version.since for version in versions[1:]] + [float("inf")]
            return [
                each.body for each, until in zip(versions, ends, strict=True) if each.since <= end and until >= start
            ]

    def of(self, kind: str) -> list[Object]:
        with self.lock:
            return [each for each in self.objects.values() if each.kind == kind]

    def _released(self, name: str, release: Release) -> None:
        """What never changes again."""
        num = release.num
        sha256 = hashlib.sha256(release.tarball).hexdigest()
        born = time.monotonic()
        target = f"/crates/{name}/{name}-{num}.crate"
        by_sum = Object("tarball", "static", target, f"/files/crates/{name}/{num}/{sha256}/download", name, born)
        plain = Object("tarball", "static", target, f"/files/crates/{name}/{name}-{num}.crate", name, born)
        readme = f"/readmes/{name}/{name}-{num}.html"
        html = Object("html", "static", readme, f"/files{readme}", name, born)
        for each, body in ((by_sum, release.tarball), (plain, release.tarball), (html, static.readme(release))):
            self.objects[each.path] = each
            self.versions[each.path] = [Version(body, 0.0)]
        dependencies = f"/api/v1/crates/{name}/{num}/dependencies"
        told = self.objects[dependencies] = Object("json", "api", dependencies, dependencies, name, born)
        self.versions[dependencies] = [Version(self._told(told), 0.0)]

    def _note(self, name: str) -> None:
        now = time.monotonic()
        for each in self._changing(name):
            self.objects.setdefault(each.path, each)
            known = self.versions.setdefault(each.path, [])
            body = self._told(each)
            if not known or known[-1].body != body:
                known.append(Version(body, now if known else 0.0))

    def _changing(self, name: str) -> Iterator[Object]:
        path = index.path(name)
        yield Object("index", "index", path, f"/index{path}", name)
        paths = [f"/api/v1/crates/{name}", f"/api/v1/crates/{name}/versions", f"/api/v1/crates/{name}/owners"]
        releases = self.package(name).releases[:3]
        paths += [f"/api/v1/crates/{name}/{release.num}" for release in releases]
        for path in (*paths, *GLOBAL):
            yield Object("json", "api", path, path, name if path not in GLOBAL else "")

    def _told(self, each: Object) -> bytes:
        assert self._site is not None
        request = Request(each.host, "GET", each.target, AGENT)
        reply = (api.respond if each.host == "api" else index.respond)(self._site, request)
        assert reply.status == 200, each
        return reply.body
