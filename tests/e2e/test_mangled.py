"""A tarball that arrives damaged is never kept and never passes for a good one; the next try is as good as new."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx

from tests.e2e.harness import Cargo, Proxy
from tests.e2e.toolchains import Toolchain
from tests.upstream import Upstream, faults, samples
from tests.upstream.faults import At, Fault

DAMAGE: dict[str, Fault] = {
    "leaf": faults.Corrupt(),
    "abc": faults.Truncate(At.MIDDLE),
    "a": faults.Length(-1),  # the last byte is missing, and nobody says so
    "ok": faults.Status(200, body=b"<html>sorry</html>"),
}


def test_what_is_damaged_is_never_kept_and_never_taken(
    tmp_path: Path,
    upstream: Upstream,
    proxy: Proxy,
    newest: Toolchain,
    new_cargo: Callable[[Toolchain, str], Cargo],
) -> None:
    for name, damage in DAMAGE.items():
        upstream.fault(f"static GET /crates/{name}/", damage)
    program = samples.project(tmp_path / "program")
    cargo = new_cargo(newest, proxy.url + "/index")
    spoilt = cargo.run("fetch", cwd=program)
    assert spoilt.code != 0
    assert "failed to download" in spoilt.text

    for name in DAMAGE:
        version = samples.LOCKED[name]
        release = upstream.registry.release(name, version)
        url = f"{proxy.url}/files/crates/{name}/{version}/{release.line['cksum']}/download"
        try:
            assert httpx.get(url, trust_env=False).status_code == 502
        except httpx.RemoteProtocolError:
            pass  # begun before the damage was known, and broken off
        flipped = bytearray(release.tarball)
        flipped[len(flipped) // 2] ^= 0xFF
        wrong = {bytes(flipped), release.tarball[:-1], release.tarball[: len(flipped) // 2], b"<html>sorry</html>"}
        assert [path for path in proxy.cache.rglob("*") if path.is_file() and path.read_bytes() in wrong] == []

    upstream.heal()
    cargo.must("fetch", cwd=program)
    before = len(upstream.asked())
    new_cargo(newest, proxy.url + "/index").must("fetch", cwd=program)
    assert upstream.asked()[before:] == []


def test_damage_that_passes_is_mended_by_the_next_try(
    tmp_path: Path,
    upstream: Upstream,
    proxy: Proxy,
    newest: Toolchain,
    new_cargo: Callable[[Toolchain, str], Cargo],
) -> None:
    program = samples.project(tmp_path / "program")
    upstream.fault("static GET /crates/leaf/", faults.Corrupt(), times=1)
    cargo = new_cargo(newest, proxy.url + "/index")
    first = cargo.run("fetch", cwd=program)
    # cargo retries when the connection breaks or a 5xx comes, not when a complete tarball is wrong.
    assert first.code == 0 or "checksum" in first.text, first.text
    cargo.must("fetch", cwd=program)
