"""`cargo search`, `publish`, `yank` and `owner` through the mirror; the user's token stays the user's."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.e2e import harness
from tests.e2e.harness import Cargo, Proxy, Ran
from tests.e2e.packages import library
from tests.e2e.toolchains import Toolchain
from tests.e2e.traces import redis_holds
from tests.upstream import Upstream, faults, samples
from tests.upstream.index import path as index_path
from tests.upstream.wire import Request

WRONG = "cioWrongTokenThatNobodyEverHad00"
TO_MIRROR = ("--registry", "mirror")


@dataclass(frozen=True, slots=True)
class Mirror:
    upstream: Upstream
    proxy: Proxy
    store: dict[str, str]

    def yanked(self, name: str, version: str) -> bool:
        """As the mirror's index tells it."""
        lines = httpx.get(self.proxy.url + "/index" + index_path(name), trust_env=False).text.splitlines()
        return any(line["yanked"] for line in map(json.loads, lines) if line["vers"] == version)


@pytest.fixture(scope="module")
def mirror(store: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mirror]:
    directory = tmp_path_factory.mktemp("mirror")
    with (
        Upstream.running() as upstream,
        harness.proxy(directory / "proxy", {**upstream.settings_env(), **store}) as proxy,
    ):
        yield Mirror(upstream, proxy, store)


@pytest.fixture
def cargo(mirror: Mirror, toolchain: Toolchain, new_cargo: Callable[[Toolchain, str], Cargo]) -> Cargo:
    return new_cargo(toolchain, mirror.proxy.url + "/index")


@pytest.fixture
def name(toolchain: Toolchain) -> str:
    """A crate that nobody has published yet."""
    return f"fresh-{toolchain.version[1]}-{toolchain.version[2]}"


def publish(cargo: Cargo, package: Path, token: str) -> Ran:
    return cargo.run("publish", "--allow-dirty", "--no-verify", *TO_MIRROR, cwd=package, token=token)


def test_search_finds_and_asks_once(mirror: Mirror, cargo: Cargo, tmp_path: Path) -> None:
    found = cargo.must("search", "branch", *TO_MIRROR, cwd=tmp_path)
    assert 'branch = "0.5.0"' in found.output
    before = len(mirror.upstream.asked(host="api"))
    assert cargo.must("search", "branch", *TO_MIRROR, cwd=tmp_path).output == found.output
    assert mirror.upstream.asked(host="api")[before:] == []


def test_a_published_crate_is_seen_although_it_was_just_missing(
    mirror: Mirror, cargo: Cargo, name: str, tmp_path: Path, new_cargo: Callable[[Toolchain, str], Cargo]
) -> None:
    package = library(tmp_path / "package", name)
    missing = httpx.get(mirror.proxy.url + "/index" + index_path(name), trust_env=False)
    assert missing.status_code == 404

    def not_yet(request: Request) -> bool:
        """crates.io's index is a little behind its API."""
        published = any(one.method == "PUT" for one in mirror.upstream.asked(host="api", contains="/crates/new"))
        return published and request.host == "index" and name in request.target

    mirror.upstream.forget()
    mirror.upstream.fault(not_yet, faults.Status(404, body=b""), times=2)
    done = publish(cargo, package, samples.TOKEN)
    assert done.code == 0, done.text
    assert f"Published {name} v0.1.0" in done.text
    assert mirror.upstream.registry.release(name, "0.1.0").published_by == samples.OWNER

    program = library(tmp_path / "program", "program")
    with (program / "Cargo.toml").open("a") as manifest:
        manifest.write(f'[dependencies]\n{name} = "0.1"\n')
    new_cargo(cargo.toolchain, cargo.index).must("fetch", cwd=program)
    assert_no_trace(mirror, samples.TOKEN)


def test_a_large_crate_arrives_whole(mirror: Mirror, cargo: Cargo, name: str, tmp_path: Path) -> None:
    """Over a megabyte cargo asks `Expect: 100-continue` first."""
    package = library(tmp_path / "package", "large-" + name, padding=3_000_000)
    done = publish(cargo, package, samples.TOKEN)
    assert done.code == 0, done.text
    release = mirror.upstream.registry.release("large-" + name, "0.1.0")
    with tarfile.open(fileobj=io.BytesIO(release.tarball)) as archive:
        padding = archive.extractfile(f"large-{name}-0.1.0/padding.bin")
        assert padding is not None
        assert padding.read() == (package / "padding.bin").read_bytes()


def test_a_wrong_token_is_refused_in_upstreams_words(mirror: Mirror, cargo: Cargo, name: str, tmp_path: Path) -> None:
    package = library(tmp_path / "package", "not-" + name)
    tries = {
        "publish": publish(cargo, package, WRONG),
        "yank": cargo.run("yank", "leaf@1.0.0", *TO_MIRROR, cwd=tmp_path, token=WRONG),
        "owner": cargo.run("owner", "--add", "github:crew:all", "leaf", *TO_MIRROR, cwd=tmp_path, token=WRONG),
    }
    for command, ran in tries.items():
        assert ran.code != 0, command
        assert "authentication failed" in ran.text, ran.text
        assert "403" in ran.text, ran.text
    assert httpx.get(mirror.proxy.url + "/index" + index_path("not-" + name), trust_env=False).status_code == 404
    assert not mirror.yanked("leaf", "1.0.0")
    assert_no_trace(mirror, WRONG)


def test_a_yank_shows_at_once_and_so_does_its_end(mirror: Mirror, cargo: Cargo, tmp_path: Path) -> None:
    assert not mirror.yanked("leaf", "1.0.0")
    cargo.must("yank", "leaf@1.0.0", *TO_MIRROR, cwd=tmp_path, token=samples.TOKEN)
    assert mirror.yanked("leaf", "1.0.0")
    cargo.must("yank", "--undo", "leaf@1.0.0", *TO_MIRROR, cwd=tmp_path, token=samples.TOKEN)
    assert not mirror.yanked("leaf", "1.0.0")
    assert_no_trace(mirror, samples.TOKEN)


def test_owners_come_and_go(mirror: Mirror, cargo: Cargo, tmp_path: Path) -> None:
    def owner(*args: str) -> Ran:
        return cargo.must("owner", *args, "abc", *TO_MIRROR, cwd=tmp_path, token=samples.TOKEN)

    assert "github:crew:all" not in owner("--list").output
    added = owner("--add", "github:crew:all")
    assert "team github:crew:all has been added as an owner of crate abc" in added.text
    assert "github:crew:all" in owner("--list").output
    owner("--remove", "github:crew:all")
    assert "github:crew:all" not in owner("--list").output
    assert_no_trace(mirror, samples.TOKEN)


def assert_no_trace(mirror: Mirror, token: str) -> None:
    """The token is in no log line, no file of the cache, and not in Redis."""
    assert token not in mirror.proxy.log
    assert mirror.proxy.files_holding(token.encode()) == []
    assert not redis_holds(mirror.store.get("CRATES_PROXY_REDIS__URL", ""), token.encode())
