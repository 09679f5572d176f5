"""`cargo fetch` of a real project, the proxy warm and the user's cargo home empty: how long that takes."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from tests.bench import objects
from tests.bench.cores import Unfit
from tests.bench.load import Failed
from tests.bench.measuring import Told, turn
from tests.bench.samples import Rounds, Sample
from tests.bench.stage import NGINX, OURS, TUNED, VARNISH, Server, Stage
from tests.e2e import toolchains
from tests.e2e.harness import Cargo
from tests.e2e.toolchains import Toolchain

NAME, UNIT = "fetch", "ms"
TITLE = f"cargo fetch of {len(objects.PROJECT)} crates, warm"


def measured(stage: Stage, rounds: int, told: Told) -> Rounds:
    """The samples of each server. Raises `Unfit` where there is no cargo that knows sparse registries."""
    found = toolchains.found()
    if not found:
        raise Unfit("there is no cargo from 1.68 on here; install one: https://rustup.rs (or set CARGO_BINARIES)")
    program = _program(stage.directory / "program")
    servers = [stage.server(name) for name in (OURS, NGINX, TUNED, VARNISH)]
    samples: dict[str, list[Sample]] = {server.name: [] for server in servers}
    for server in servers:
        _fetched(stage, server, found[-1], program)
    upstream = stage.asked()
    for number in range(rounds):
        for server in turn(servers, number):
            sample = _fetched(stage, server, found[-1], program)
            samples[server.name].append(sample)
            told(f"{NAME} {number + 1}/{rounds} {server.name}: {sample.value:,.0f} {UNIT}")
    if stage.asked() - upstream > rounds * len(servers) * len(objects.PROJECT):
        raise Failed("the servers were not warm: upstream was asked for tarballs")
    return samples


def _fetched(stage: Stage, server: Server, toolchain: Toolchain, program: Path) -> Sample:
    home = stage.directory / "cargo-home"
    (program / "Cargo.lock").unlink(missing_ok=True)
    cargo = Cargo(toolchain, home, f"http://{server.host}/index")
    try:
        before, begun = server.spent(), time.monotonic()
        ran = cargo.run("fetch", cwd=program)
        took = time.monotonic() - begun
        spent = server.spent() - before
        if ran.code != 0:
            raise Failed(f"cargo fetch through {server.name} ended with {ran.code}: {ran.text[-1000:]}")
        count = len(list(home.glob("registry/cache/*/*.crate")))
        if count != len(objects.PROJECT):
            raise Failed(f"cargo fetched {count} crates through {server.name}")
    finally:
        shutil.rmtree(home)
    requests = 2 * len(objects.PROJECT) + 1
    return Sample(took * 1000, spent / requests * 1e6, spent / took, 0.0, 0.0)


def _program(path: Path) -> Path:
    (path / "src").mkdir(parents=True)
    (path / "src/main.rs").write_text("fn main() {}\n")
    (path / "Cargo.toml").write_text(
        '[package]\nname = "program"\nversion = "0.1.0"\nedition = "2021"\n\n'
        f'[dependencies]\n{objects.PROJECT[0]} = "1"\n\n[workspace]\n'
    )
    return path
