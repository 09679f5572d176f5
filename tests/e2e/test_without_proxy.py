"""The harness and the small crates.io on their own: what fails here is not the proxy's fault."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.e2e.harness import Cargo
from tests.e2e.packages import library
from tests.e2e.toolchains import Toolchain
from tests.upstream import Upstream, samples


def test_cargo_fetches_and_builds_from_the_small_crates_io(
    tmp_path: Path, upstream: Upstream, toolchain: Toolchain, new_cargo: Callable[[Toolchain, str], Cargo]
) -> None:
    program = samples.project(tmp_path / "program")
    cargo = new_cargo(toolchain, upstream.index)
    cargo.must("fetch", cwd=program)
    tarballs = Counter(asked.target for asked in upstream.asked(host="static"))
    assert tarballs == {f"/crates/{name}/{version}/download": 1 for name, version in samples.LOCKED.items()}
    cargo.must("build", "--offline", cwd=program)
    assert cargo.says() == samples.SAYS


def test_cargo_publishes_to_the_small_crates_io(
    tmp_path: Path, upstream: Upstream, toolchain: Toolchain, new_cargo: Callable[[Toolchain, str], Cargo]
) -> None:
    package = library(tmp_path / "package", "fresh-thing")
    cargo = new_cargo(toolchain, upstream.index)
    cargo.must("publish", "--registry", "mirror", "--allow-dirty", "--no-verify", cwd=package, token=samples.TOKEN)
    assert upstream.registry.release("fresh-thing", "0.1.0").published_by == samples.OWNER
    found = cargo.must("search", "fresh", "--registry", "mirror", cwd=package)
    assert 'fresh-thing = "0.1.0"' in found.output
