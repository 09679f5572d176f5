"""Many users at once, several workers, a crash: no worker asks upstream twice, and nothing is lost."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.e2e import harness
from tests.e2e.harness import Cargo
from tests.e2e.toolchains import Toolchain
from tests.upstream import Upstream, samples


@pytest.mark.parametrize("workers", [1, 2])
def test_a_crowd_asks_upstream_once_a_worker_and_a_crash_loses_nothing(
    tmp_path: Path,
    upstream: Upstream,
    store: dict[str, str],
    newest: Toolchain,
    new_cargo: Callable[[Toolchain, str], Cargo],
    workers: int,
) -> None:
    program = samples.project(tmp_path / "program")
    settings = {**upstream.settings_env(), **store, "CRATES_PROXY_SERVER__WORKERS": str(workers)}

    def fetch(cargo: Cargo) -> None:
        own = cargo.home / "program"
        shutil.copytree(program, own)
        cargo.must("fetch", cwd=own)

    with harness.proxy(tmp_path / "proxy", settings) as proxy, ThreadPoolExecutor(6) as pool:
        list(pool.map(fetch, [new_cargo(newest, proxy.url + "/index") for _ in range(6)]))
        asked = Counter((one.host, one.target) for one in upstream.asked())
        assert len(asked) == 2 * len(samples.LOCKED)
        assert max(asked.values()) <= workers, [what for what, times in asked.items() if times > workers]

        proxy.kill()
        upstream.stop()
        proxy.start()
        fetch(new_cargo(newest, proxy.url + "/index"))
