from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from proxy.stores.database import FAULTS, Database
from tests.soak import census

THREADS = 3


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    """What is closed is closed by who had it, and not by Python's collector of cycles, which comes by seldom."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def open_now() -> int:
    return census.kinds(os.getpid())["databases"]


def damaged(directory: Path) -> None:
    (directory / "v1" / "cache.db").write_bytes(b"no database at all" * 1000)


def used(database: Database, pool: ThreadPoolExecutor) -> None:
    """By each of its threads."""
    barrier = threading.Barrier(THREADS)

    def use(_: int) -> None:
        barrier.wait(10)
        for _ in range(2):  # the first time it may be found damaged
            try:
                database.attempt(lambda cache: cache.set("key", b"value"))
            except FAULTS:
                continue

    assert len(list(pool.map(use, range(THREADS)))) == THREADS


@pytest.mark.parametrize("by", ["itself", "another"])
def test_a_database_that_was_replaced_is_left_open_by_no_thread(by: str, tmp_path: Path) -> None:
    database, other = (Database(tmp_path, 1, lambda _: None) for _ in range(2))
    with ThreadPoolExecutor(THREADS) as pool, ThreadPoolExecutor(THREADS) as others:
        used(database, pool)
        used(other, others)
        before = open_now()
        assert before >= 2 * THREADS
        for _ in range(10):
            damaged(tmp_path)
            used(other if by == "another" else database, others if by == "another" else pool)
            used(database, pool)
            used(other, others)
        assert open_now() <= before
        for each, threads in ((database, pool), (other, others)):
            barrier = threading.Barrier(THREADS)
            list(threads.map(lambda _, each=each, barrier=barrier: (barrier.wait(10), each.close()), range(THREADS)))
    assert open_now() == 0


def test_one_that_is_damaged_when_it_is_opened_is_not_left_open(tmp_path: Path) -> None:
    for _ in range(5):
        Database(tmp_path, 1, lambda _: None).close()
        damaged(tmp_path)
    assert open_now() == 0
