"""A tarball that arrives damaged is never kept and never passes for a good one; the next try is as good as new."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.harness import Cargo, Proxy
from tests.e2e.toolchains import Toolchain
from tests.upstream import Upstream, faults, samples
from tests.upstream.faults import At, Fault

DAMAGE = {
    "one byte is wrong": faults.Corrupt(),
    "the end is missing": faults.Truncate(At.MIDDLE),
    "the last byte is missing and nobody says so": faults.Length(-1),
    "it is an error page": faults.Status(200, body=b"<html>sorry</html>"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_damage_ends_the_fetch_or_is_mended_but_is_never_kept(
    tmp_path: Path,
    upstream: Upstream,
    proxy: Proxy,
    newest: Toolchain,
    new_cargo: Callable[[Toolchain, str], Cargo],
    damage: Fault,
) -> None:
    program = samples.project(tmp_path / "program")
    upstream.fault("static GET /crates/leaf/", damage)
    cargo = new_cargo(newest, proxy.url + "/index")
    spoilt = cargo.run("fetch", cwd=program)
    assert spoilt.code != 0
    assert "leaf" in spoilt.text
    good = upstream.registry.release("leaf", "1.1.0").tarball
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 0xFF
    for wrong in (bytes(flipped), b"<html>sorry</html>", good[: len(good) // 2]):
        assert [path for path in proxy.cache.rglob("*") if path.is_file() and path.read_bytes() == wrong] == []

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
