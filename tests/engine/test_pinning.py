"""Lock files in `cache.pinned`: nothing of what they need is evicted, all of it is fetched and kept fresh."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from anyio import to_thread

from proxy import settings, wiring
from proxy.engine.inventory import Wanted
from proxy.model import State
from proxy.rules.endpoints import TIMED
from tests.e2e.test_commands import lock
from tests.proxied import ManualClock
from tests.upstream import Source, Upstream, samples

pytestmark = pytest.mark.anyio

NEEDED = {"leaf": "1.1.0", "abc": "1.0.0"}


@contextlib.asynccontextmanager
async def pinning(
    directory: Path, upstream: Upstream, clock: ManualClock, *locks: Path, **given: object
) -> AsyncIterator[wiring.Proxy]:
    overrides = {
        "cache.min_free": 0,
        "cache.pinned": [str(each) for each in locks],
        **upstream.settings(),
        **{name.replace("__", "."): value for name, value in given.items()},
    }
    loaded = settings.load(overrides, None, {}, endpoints=TIMED)
    async with wiring.opened(loaded.settings, directory, clock) as proxy:
        yield proxy


@pytest.fixture
async def upstream(anyio_backend: str) -> AsyncIterator[Upstream]:
    running = Upstream.running()
    upstream = await to_thread.run_sync(running.__enter__)
    yield upstream
    await to_thread.run_sync(lambda: running.__exit__(None, None, None))


def written(path: Path, text: str) -> Path:
    """Replaced as cargo does it."""
    new = path.with_suffix(".new")
    new.write_text(text)
    os.replace(new, path)
    return path


async def lacking(proxy: wiring.Proxy, needed: dict[str, str]) -> list[str]:
    found = [lack for name, at in needed.items() for lack in await proxy.ready.inventory.lacks(Wanted(name, at))]
    return [f"{lack.name} {lack.what}" for lack in found]


async def test_what_is_missing_is_fetched_and_what_is_old_is_revalidated(tmp_path: Path, upstream: Upstream) -> None:
    clock = ManualClock()
    file = written(tmp_path / "Cargo.lock", lock(NEEDED, upstream))
    async with pinning(tmp_path / "cache", upstream, clock, file) as proxy:
        await proxy.ready.upkeep.once()
        assert await lacking(proxy, NEEDED) == []
        upstream.forget()
        clock.now += 800
        await proxy.ready.upkeep.once()
        assert upstream.asked() == []
        clock.now += 200
        await proxy.ready.upkeep.once()
        assert sorted(one.target for one in upstream.asked()) == ["/3/a/abc", "/le/af/leaf"]
        assert {one.status for one in upstream.asked()} == {304}
        assert (await proxy.ready.upkeep.health()).state is State.OK


async def test_one_of_two_processes_does_it(tmp_path: Path, upstream: Upstream) -> None:
    clock = ManualClock()
    file = written(tmp_path / "Cargo.lock", lock(NEEDED, upstream))
    async with (
        pinning(tmp_path / "cache", upstream, clock, file) as one,
        pinning(tmp_path / "cache", upstream, clock, file) as two,
    ):
        for _ in range(2):
            await one.ready.upkeep.once()
            await two.ready.upkeep.once()
            assert len(upstream.asked()) == 4
        upstream.forget()
        clock.now += 1000
        await two.ready.upkeep.once()
        await one.ready.upkeep.once()
        assert len(upstream.asked()) == 2


async def test_a_lock_file_that_changes_is_read_again(tmp_path: Path, upstream: Upstream) -> None:
    file = written(tmp_path / "Cargo.lock", lock({"abc": "1.0.0"}, upstream))
    async with pinning(tmp_path / "cache", upstream, ManualClock(), file) as proxy:
        await proxy.ready.upkeep.once()
        assert await lacking(proxy, NEEDED) == ["leaf index", "leaf tarball"]
        written(file, lock(NEEDED, upstream))
        await proxy.ready.upkeep.once()
        assert await lacking(proxy, NEEDED) == []


@pytest.mark.parametrize("broken", [None, "[[package", "version = 9\n", "\udcff"])
async def test_a_lock_file_that_cannot_be_read_is_told_and_what_it_said_last_counts(
    broken: str | None, tmp_path: Path, upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    file = written(tmp_path / "Cargo.lock", lock(NEEDED, upstream))
    missing = tmp_path / "no-such.lock"
    async with pinning(tmp_path / "cache", upstream, ManualClock(), file, missing) as proxy:
        assert "no-such.lock: No such file or directory" in caplog.text, "and it starts all the same"
        await proxy.ready.upkeep.once()
        assert await lacking(proxy, NEEDED) == []
        if broken is None:
            file.unlink()
        else:
            file.write_bytes(broken.encode("utf-8", "surrogateescape"))
        await proxy.ready.upkeep.once()
        told = [record for record in caplog.records if f"{file}:" in record.getMessage()]
        assert len(told) == 1
        await proxy.ready.upkeep.once()
        assert len([record for record in caplog.records if f"{file}:" in record.getMessage()]) == 1
        health = await proxy.ready.upkeep.health()
        assert health.state is State.DEGRADED and "(and 1 more)" in health.detail


@pytest.mark.parametrize("checksums", [True, False], ids=["checksums", "none in the lock file"])
async def test_what_is_pinned_survives_where_everything_else_gives_way(
    checksums: bool, tmp_path: Path, upstream: Upstream
) -> None:
    for n in range(12):
        upstream.registry.add(Source(f"large{n}", "1.0.0", padding=100_000), samples.OWNER, at=1.0)
    text = lock({"large0": "1.0.0", **NEEDED}, upstream)
    lines = [line for line in text.splitlines() if checksums or not line.startswith("checksum")]
    file = written(tmp_path / "Cargo.lock", "\n".join(lines))
    room = {"cache__max_size": 600_000, "cache__max_object": 200_000}
    async with pinning(tmp_path / "cache", upstream, ManualClock(), file, **room) as proxy:
        await proxy.ready.upkeep.once()
        await proxy.ready.upkeep.once()  # the index file tells by now what the lock file does not
        others = [Wanted(f"large{n}", "1.0.0") for n in range(1, 12)]
        ended = await proxy.ready.warming.run(others, lambda each: None)
        assert [each.failure for each in ended] == [None] * 11
        evicted = await proxy.ready.warming.evicted(ended)
        assert evicted and "is cache.max_size large enough?" in str(evicted[0].failure)
        assert await lacking(proxy, {"large0": "1.0.0", **NEEDED}) == []


async def test_what_is_pinned_is_kept_where_it_alone_is_too_much_and_that_is_told(
    tmp_path: Path, upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    names = {f"large{n}": "1.0.0" for n in range(8)}
    for name in names:
        upstream.registry.add(Source(name, "1.0.0", padding=100_000), samples.OWNER, at=1.0)
    file = written(tmp_path / "Cargo.lock", lock(names, upstream))
    room = {"cache__max_size": 600_000, "cache__max_object": 200_000}
    async with pinning(tmp_path / "cache", upstream, ManualClock(), file, **room) as proxy:
        await proxy.ready.upkeep.once()
        await proxy.ready.warming.run([Wanted("leaf")], lambda each: None)
        assert await lacking(proxy, names) == []
    assert "more than cache.max_size: what is pinned is kept all the same" in caplog.text


async def test_what_cannot_be_had_is_told_once_and_tried_again_later(
    tmp_path: Path, upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    clock = ManualClock()
    file = written(tmp_path / "Cargo.lock", lock(NEEDED, upstream).replace("leaf", "leav"))
    async with pinning(tmp_path / "cache", upstream, clock, file) as proxy:
        for seconds in (0, 100, 300, 300):
            clock.now += seconds
            await proxy.ready.upkeep.once()
        told = [record for record in caplog.records if "leav 1.1.0: crate `leav` does not exist" in record.getMessage()]
        assert len(told) == 1
        health = await proxy.ready.upkeep.health()
        assert (health.state, health.detail.partition(":")[0]) == (State.DEGRADED, "leav 1.1.0")
        assert await lacking(proxy, {"abc": "1.0.0"}) == []


async def test_offline_nothing_is_asked_and_what_is_pinned_stays(tmp_path: Path, upstream: Upstream) -> None:
    file = written(tmp_path / "Cargo.lock", lock(NEEDED, upstream))
    async with pinning(tmp_path / "cache", upstream, ManualClock(), file, upstream__offline=True) as proxy:
        await proxy.ready.upkeep.once()
        assert upstream.asked() == []
        assert (await proxy.ready.upkeep.health()).state is State.OK
