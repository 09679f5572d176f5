"""Five hundred clients and one cold object: upstream is asked once, by however many processes; twice if one dies."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.e2e import harness
from tests.e2e.harness import Proxy
from tests.e2e.herd import Got, connected, herd
from tests.redis_server import redis_server
from tests.upstream import Source, Upstream, faults, samples
from tests.waiting import until

CLIENTS = 500
JSON, INDEX, TARBALL = "/api/v1/crates/leaf", "/index/le/af/leaf", "/api/v1/crates/big/1.0.0/download"
HOSTS = {JSON: "api", INDEX: "index", TARBALL: "static"}
SIZE = 400_000
SLOW = 300_000
"""Bytes a second."""


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """With a tarball of several pieces, which does not compress."""
    registry = samples.registry()
    noise = "".join(f"// {os.urandom(60).hex()}\n" for _ in range(SIZE // 62))
    registry.add(Source("big", "1.0.0", code=noise), samples.OWNER)
    with Upstream.running(registry) as running:
        yield running


@contextmanager
def running(shape: tuple[int, int], upstream: Upstream, directory: Path) -> Iterator[list[Proxy]]:
    """So many replicas, each with a cache of its own and so many workers; several share one Redis."""
    replicas, workers = shape
    settings = {**upstream.settings_env(), "CRATES_PROXY_SERVER__WORKERS": str(workers)}
    with ExitStack() as stack:
        if replicas > 1:
            server = stack.enter_context(redis_server())
            settings |= {"CRATES_PROXY_REDIS__URL": server.url, "CRATES_PROXY_REDIS__PREFIX": "herd:"}
        yield [
            stack.enter_context(harness.proxy(directory / f"replica-{number}", settings)) for number in range(replicas)
        ]


def expected(upstream: Upstream, path: str) -> bytes | None:
    return upstream.registry.release("big", "1.0.0").tarball if path == TARBALL else None


def right(found: list[Got], body: bytes | None) -> bool:
    """All have the same, and the whole of it."""
    return {got.status for got in found} == {200} and {got.body for got in found} == {body or found[0].body}


@pytest.mark.parametrize("path", [JSON, INDEX, TARBALL])
@pytest.mark.parametrize("shape", [(1, 1), (1, 3), (2, 2)], ids=["1-worker", "3-workers", "2-replicas"])
def test_upstream_is_asked_once(path: str, shape: tuple[int, int], upstream: Upstream, tmp_path: Path) -> None:
    host = HOSTS[path]
    upstream.hold(host)
    if path == TARBALL:
        upstream.fault(host, faults.Slow(SLOW))
    with running(shape, upstream, tmp_path) as proxies:
        found = asyncio.run(herd([proxy.url for proxy in proxies], path, CLIENTS, asked=upstream.release))
    assert right(found, expected(upstream, path))
    assert len(upstream.asked(host=host)) == (len(proxies) if path == TARBALL else 1)
    assert len(upstream.asked(host="index")) <= 1
    asking = [got for got in found if "hit" not in got.cache_status and "collapsed" not in got.cache_status]
    assert len(asking) == len(upstream.asked(host=host))


@pytest.mark.parametrize("path", [JSON, INDEX])
@pytest.mark.parametrize("shape", [(1, 3), (2, 2)], ids=["3-workers", "2-replicas"])
def test_upstream_is_asked_twice_if_the_worker_dies_that_asked(
    path: str, shape: tuple[int, int], upstream: Upstream, tmp_path: Path
) -> None:
    host, url = HOSTS[path], getattr(upstream, HOSTS[path])
    upstream.hold(host)

    def kill() -> None:
        upstream.wait_for(1, host=host)
        (pid,) = connected([pid for proxy in proxies for pid in proxy.pids], url)
        os.kill(pid, signal.SIGKILL)
        upstream.wait_for(2, host=host, within=10.0)
        upstream.release()

    with running(shape, upstream, tmp_path) as proxies:
        found = asyncio.run(_with(kill, [proxy.url for proxy in proxies], path))
    assert right(found, None)
    assert len(upstream.asked(host=host)) == 2


@pytest.mark.parametrize("shape", [(1, 3), (2, 2)], ids=["3-workers", "2-replicas"])
def test_a_tarball_is_fetched_twice_if_the_worker_dies_half_way(
    shape: tuple[int, int], upstream: Upstream, tmp_path: Path
) -> None:
    upstream.fault("static", faults.Slow(SLOW // 2))

    def filling() -> list[Path]:
        """The files that workers of the first replica fill, half way."""
        return [file for file in (proxies[0].cache / "tarballs/tmp").iterdir() if file.stat().st_size > SIZE // 3]

    def kill() -> None:
        def half_way() -> bool:
            with contextlib.suppress(FileNotFoundError):
                return bool(filling())
            return False

        until(half_way)
        (file,) = filling()
        os.kill(int(file.name.partition("-")[0]), signal.SIGKILL)

    with running(shape, upstream, tmp_path) as proxies:
        found = asyncio.run(_with(kill, [proxy.url for proxy in proxies], TARBALL))
    assert right(found, expected(upstream, TARBALL))
    assert any(got.attempts > 1 for got in found)  # those of the worker that died
    assert any(got.attempts == 1 for got in found)  # those who read along elsewhere
    assert len(upstream.asked(host="static")) == len(proxies) + 1


async def _with(disturb: Callable[[], None], urls: list[str], path: str) -> list[Got]:
    """The herd, and what is done to the proxy meanwhile."""
    loop = asyncio.get_running_loop()
    all_sent = asyncio.Event()
    crowd = asyncio.create_task(herd(urls, path, CLIENTS, asked=all_sent.set))
    if path != TARBALL:
        await all_sent.wait()
    await loop.run_in_executor(None, disturb)
    return await crowd
