from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e import harness, toolchains
from tests.e2e.harness import Cargo, Proxy
from tests.e2e.toolchains import Toolchain
from tests.redis_server import redis_server
from tests.upstream import Upstream


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`toolchain` is every cargo there is, `newest` the last of them."""
    if not {"toolchain", "newest"} & set(metafunc.fixturenames):
        return
    found: list[Toolchain | None] = [*toolchains.found()]
    if not found or (os.environ.get("CI") == "true" and toolchains.lacking(toolchains.found())):
        found = [None]
    for name, values in (("toolchain", found), ("newest", found[-1:])):
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, values, ids=str, indirect=True, scope="module")


def _there(toolchain: Toolchain | None) -> Toolchain:
    if toolchain is not None:
        return toolchain
    if os.environ.get("CI") == "true":
        pytest.fail(toolchains.lacking([]))
    pytest.skip(toolchains.lacking([]))


@pytest.fixture(scope="module")
def toolchain(request: pytest.FixtureRequest) -> Toolchain:
    return _there(request.param)


@pytest.fixture(scope="module")
def newest(request: pytest.FixtureRequest) -> Toolchain:
    return _there(request.param)


@pytest.fixture(scope="session", params=["embedded", "redis"])
def store(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """The settings of a store."""
    if request.param == "embedded":
        yield {}
        return
    with redis_server() as server:
        yield {"CRATES_PROXY_REDIS__URL": server.url}


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream.running() as running:
        yield running


@pytest.fixture
def proxy(tmp_path: Path, upstream: Upstream, store: dict[str, str]) -> Iterator[Proxy]:
    """A proxy with nothing in its cache, in front of `upstream`."""
    with harness.proxy(tmp_path / "proxy", {**upstream.settings_env(), **store}) as started:
        yield started


@pytest.fixture
def new_cargo(tmp_path: Path) -> Callable[[Toolchain, str], Cargo]:
    """Makes users, each with an empty cargo home."""
    count = iter(range(1000))
    return lambda toolchain, index: Cargo(toolchain, tmp_path / f"user-{next(count)}", index)
