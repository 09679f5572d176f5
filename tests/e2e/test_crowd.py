"""Many users at once, several workers, a restart and a crash: no worker asks twice, and nothing is lost."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.e2e import harness
from tests.e2e.harness import Cargo
from tests.e2e.toolchains import Toolchain
from tests.upstream import Upstream, samples
from tests.waiting import until


@pytest.mark.parametrize("workers", [1, 2])
def test_no_worker_asks_twice_and_a_crash_loses_nothing(
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
        assert set(asked.values()) == {1}, [what for what, times in asked.items() if times > 1]

        proxy.kill()
        upstream.stop()
        proxy.start()
        fetch(new_cargo(newest, proxy.url + "/index"))


def test_after_a_restart_without_upstream_stale_index_files_are_good_enough(
    tmp_path: Path,
    upstream: Upstream,
    store: dict[str, str],
    newest: Toolchain,
    new_cargo: Callable[[Toolchain, str], Cargo],
) -> None:
    program = samples.project(tmp_path / "program")
    settings = {**upstream.settings_env(), **store, "CRATES_PROXY_ENDPOINTS__INDEX__TTL": "1s"}
    with harness.proxy(tmp_path / "proxy", settings) as proxy:
        new_cargo(newest, proxy.url + "/index").must("fetch", cwd=program)
        upstream.stop()
        assert proxy.stop() == 0
        proxy.start()
        leaf = proxy.url + "/index/le/af/leaf"
        until(lambda: httpx.get(leaf, trust_env=False).headers.get("x-cache") == "STALE")
        again = new_cargo(newest, proxy.url + "/index")
        again.must("fetch", cwd=program)
        again.must("build", cwd=program)
        assert again.says() == samples.SAYS
