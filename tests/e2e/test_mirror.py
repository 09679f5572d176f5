"""What a mirror is for: cargo gets everything through it, upstream is asked once, and then not needed."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import httpx
import pytest

from tests.e2e import harness
from tests.e2e.harness import Cargo, Proxy
from tests.e2e.toolchains import Toolchain
from tests.upstream import Asked, Upstream, samples
from tests.upstream.index import path as index_path


@dataclass(frozen=True, slots=True)
class Mirrored:
    """A proxy through which one user has fetched the sample program; `cold` is what that asked upstream."""

    upstream: Upstream
    proxy: Proxy
    toolchain: Toolchain
    first: Cargo
    program: Path
    cold: list[Asked]
    log: str


@pytest.fixture(scope="module")
def mirrored(
    store: dict[str, str], toolchain: Toolchain, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mirrored]:
    directory = tmp_path_factory.mktemp("mirrored")
    program = samples.project(directory / "program")
    with (
        Upstream.running() as upstream,
        harness.proxy(directory / "proxy", {**upstream.settings_env(), **store}) as proxy,
    ):
        first = Cargo(toolchain, directory / "first", proxy.url + "/index")
        first.must("fetch", cwd=program)
        yield Mirrored(upstream, proxy, toolchain, first, program, upstream.asked(), proxy.log)


def test_a_cold_fetch_asks_upstream_once_for_each_thing(mirrored: Mirrored) -> None:
    tarballs = {f"/crates/{name}/{name}-{version}.crate" for name, version in samples.LOCKED.items()}
    files = {index_path(name) for name in samples.LOCKED}
    assert Counter(unquote(one.target) for one in mirrored.cold if one.host == "static") == Counter(tarballs)
    assert Counter(one.target for one in mirrored.cold if one.host == "index") == Counter(files)
    assert [one.target for one in mirrored.cold if one.host == "api"] == []


def test_upstream_is_told_who_asks(mirrored: Mirrored) -> None:
    agents = {one.header("user-agent") for one in mirrored.cold}
    assert len(agents) == 1
    assert "e2e@example.com" in agents.pop()
    assert not [one for one in mirrored.cold if one.header("upgrade") or one.header("http2-settings")]


def test_offers_of_http2_are_no_warnings(mirrored: Mirrored) -> None:
    assert "warn" not in mirrored.log.lower()


def test_a_second_user_costs_upstream_nothing(mirrored: Mirrored, new_cargo: Callable[[Toolchain, str], Cargo]) -> None:
    before = len(mirrored.upstream.asked())
    (mirrored.program / "Cargo.lock").unlink()
    new_cargo(mirrored.toolchain, mirrored.proxy.url + "/index").must("fetch", cwd=mirrored.program)
    assert mirrored.upstream.asked()[before:] == []


def test_the_lock_file_knows_nothing_of_the_mirror(mirrored: Mirrored) -> None:
    lock = (mirrored.program / "Cargo.lock").read_text()
    assert lock.count("registry+https://github.com/rust-lang/crates.io-index") == len(samples.LOCKED)
    assert "127.0.0.1" not in lock


def test_tarballs_come_by_their_checksum_and_can_be_kept_for_ever(mirrored: Mirrored) -> None:
    config = httpx.get(mirrored.proxy.url + "/index/config.json", trust_env=False)
    assert config.json() == {
        "dl": mirrored.proxy.url + "/files/crates/{crate}/{version}/{sha256-checksum}/download",
        "api": mirrored.proxy.url,
    }
    before = len(mirrored.upstream.asked())
    for name, version in samples.LOCKED.items():
        checksum = mirrored.upstream.registry.release(name, version).line["cksum"]
        url = f"{mirrored.proxy.url}/files/crates/{name}/{version}/{checksum}/download"
        got = httpx.get(url, trust_env=False)
        assert hashlib.sha256(got.content).hexdigest() == checksum
        assert got.headers["x-cache"] == "HIT"
        assert got.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert mirrored.upstream.asked()[before:] == []


def test_index_files_are_upstreams_byte_for_byte(mirrored: Mirrored) -> None:
    for name in samples.LOCKED:
        theirs = httpx.get(mirrored.upstream.index + index_path(name), trust_env=False)
        ours = httpx.get(mirrored.proxy.url + "/index" + index_path(name), trust_env=False)
        assert (ours.content, ours.headers["etag"]) == (theirs.content, theirs.headers["etag"])


def test_the_program_builds_and_runs_when_upstream_is_gone(
    mirrored: Mirrored, new_cargo: Callable[[Toolchain, str], Cargo]
) -> None:
    cargo = new_cargo(mirrored.toolchain, mirrored.proxy.url + "/index")
    mirrored.upstream.stop()
    try:
        cargo.must("fetch", cwd=mirrored.program)
        cargo.must("build", cwd=mirrored.program)
    finally:
        mirrored.upstream.start()
    assert cargo.says() == samples.SAYS
