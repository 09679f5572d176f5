from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import resource
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import diskcache
import pytest

from proxy.model import Selection, State
from proxy.stores.attempts import Attempts
from proxy.stores.base import Observer
from proxy.stores.disk import DiskStore
from proxy.stores.guarded import GuardedDisk

pytestmark = pytest.mark.anyio

LARGE = os.urandom(100_000)


@pytest.fixture
async def store(anyio_backend: str, tmp_path: Path, observer: Observer) -> AsyncIterator[DiskStore]:
    store = DiskStore.opened(tmp_path / "store", "disk", observer)
    yield store
    await store.aclose()


def database(tmp_path: Path) -> Path:
    return tmp_path / "store" / "v1" / "cache.db"


def files(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "store" / "v1").rglob("*.val"))


def tampered(tmp_path: Path, statement: str, *args: object) -> None:
    with closing(sqlite3.connect(database(tmp_path), isolation_level=None)) as connection:
        connection.execute(statement, args)


class Payload:
    """What a pickle may do."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.path),)


async def test_a_pickle_in_a_row_is_absent_and_never_loaded(store: DiskStore, tmp_path: Path) -> None:
    await store.put("crate serde", b"1", tag="serde", keep=None)
    ran = tmp_path / "ran"
    tampered(tmp_path, "UPDATE Cache SET mode = 4, value = ?", pickle.dumps(Payload(ran)))
    assert await store.get("crate serde") is None
    assert not ran.exists()


async def test_a_pickled_key_is_never_loaded(store: DiskStore, tmp_path: Path) -> None:
    await store.put("crate serde", b"1", tag="serde", keep=None)
    ran = tmp_path / "ran"
    tampered(tmp_path, "UPDATE Cache SET raw = 0, key = ?", pickle.dumps(Payload(ran)))
    assert await store.get("crate serde") is None
    await store.purge(Selection(endpoint="crate"))
    await store.purge(Selection())
    assert not ran.exists()


@pytest.mark.parametrize("value", [None, 1, 1.5, "text"], ids=repr)
async def test_a_row_of_another_type_is_absent(store: DiskStore, tmp_path: Path, value: object) -> None:
    await store.put("crate serde", b"1", tag="serde", keep=None)
    tampered(tmp_path, "UPDATE Cache SET value = ?", value)
    assert await store.get("crate serde") is None


async def test_a_row_that_names_a_file_elsewhere_neither_reads_nor_removes_it(store: DiskStore, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    await store.put("crate serde", LARGE, tag="serde", keep=None)
    tampered(tmp_path, "UPDATE Cache SET filename = '../../victim'")
    assert await store.get("crate serde") is None
    await store.delete("crate serde")
    assert victim.read_bytes() == b"mine"


async def test_a_row_moved_to_another_key_is_absent_there(store: DiskStore, tmp_path: Path) -> None:
    await store.put("crate serde", b"1", tag="serde", keep=None)
    tampered(tmp_path, "UPDATE Cache SET key = 'crate rand'")
    assert await store.get("crate rand") is None


@pytest.mark.parametrize("content", [b"", LARGE[:1000], bytes(len(LARGE) + 60)], ids=["empty", "short", "zeros"])
async def test_a_value_file_that_lost_its_content_is_absent(store: DiskStore, tmp_path: Path, content: bytes) -> None:
    await store.put("crate serde", LARGE, tag="serde", keep=None)
    (file,) = files(tmp_path)
    file.write_bytes(content)
    assert await store.get("crate serde") is None
    file.unlink()
    assert await store.get("crate serde") is None


async def test_the_directory_is_for_this_user_alone(store: DiskStore, tmp_path: Path) -> None:
    assert (tmp_path / "store").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "store" / "v1").stat().st_mode & 0o777 == 0o700


async def test_a_value_outlives_the_process(tmp_path: Path, observer: Observer) -> None:
    for value in (None, LARGE):
        store = DiskStore.opened(tmp_path / "store", "disk", observer)
        assert await store.get("crate serde") == value
        await store.put("crate serde", LARGE, tag="serde", keep=None)
        await store.aclose()


@pytest.mark.parametrize("damage", [b"garbage" * 1000, None], ids=["garbage", "truncated"])
async def test_a_damaged_database_is_set_aside_at_start(
    tmp_path: Path, observer: Observer, told: list[str], damage: bytes | None
) -> None:
    for _ in range(3):
        store = DiskStore.opened(tmp_path / "store", "disk", observer)
        assert await store.get("crate serde") is None
        await store.put("crate serde", LARGE, tag="serde", keep=None)
        assert await store.get("crate serde") == LARGE
        await store.aclose()
        content = database(tmp_path).read_bytes()
        database(tmp_path).write_bytes(content[: len(content) // 2] if damage is None else damage)
        for log in database(tmp_path).parent.glob("cache.db-*"):
            log.unlink()
    assert len(told) == 2
    assert "set aside" in told[0]
    # Only the last one stays, so that a disk that damages databases is not filled with them.
    assert len(list((tmp_path / "store").glob("v1.damaged-*"))) == 1


async def test_a_database_damaged_while_it_is_open_is_replaced(
    store: DiskStore, tmp_path: Path, told: list[str]
) -> None:
    for n in range(100):
        await store.put(f"crate {n}", b"1" * 5000, tag="", keep=None)
    tampered(tmp_path, "PRAGMA wal_checkpoint(TRUNCATE)")
    with database(tmp_path).open("r+b") as file:
        file.seek(0)
        file.write(b"garbage" * 10_000)
    for n in range(100):
        await store.get(f"crate {n}")
    assert any("set aside" in what for what in told)
    await store.put("crate serde", LARGE, tag="serde", keep=None)
    assert await store.get("crate serde") == LARGE


async def test_where_one_process_replaced_the_database_the_others_follow(
    store: DiskStore, tmp_path: Path, observer: Observer
) -> None:
    """Else what the one stores is not there for the other, and what the other stores is lost with its end."""
    other = DiskStore.opened(tmp_path / "store", "other", observer)
    await store.put("crate serde", b"old", tag="serde", keep=None)
    assert await other.get("crate serde") == b"old"
    database(tmp_path).parent.rename(tmp_path / "store" / "v1.damaged-1")  # as a third one does it
    third = DiskStore.opened(tmp_path / "store", "third", observer)
    assert [await each.get("crate serde") for each in (store, other, third)] == [None] * 3
    await other.put("crate serde", b"new", tag="serde", keep=None)
    assert [await each.get("crate serde") for each in (store, other, third)] == [b"new"] * 3
    await other.aclose()
    await third.aclose()


async def test_a_directory_removed_under_it_is_made_anew(store: DiskStore, tmp_path: Path) -> None:
    await store.put("crate serde", LARGE, tag="serde", keep=None)
    subprocess.run(["rm", "-r", tmp_path / "store"], check=True)
    for n in range(20):
        await store.put(f"crate {n}", LARGE, tag="", keep=None)
        await store.get(f"crate {n}")
    other = DiskStore.opened(tmp_path / "store", "other", lambda name, what: None)
    await other.put("crate serde", b"1", tag="serde", keep=None)
    assert await other.get("crate serde") == b"1"
    await other.aclose()


async def test_another_format_starts_fresh_and_the_old_one_is_dropped(tmp_path: Path, observer: Observer) -> None:
    (tmp_path / "store" / "v0").mkdir(parents=True)
    (tmp_path / "store" / "v0" / "cache.db").write_bytes(b"of another format")
    (tmp_path / "store" / "notes").mkdir()
    store = DiskStore.opened(tmp_path / "store", "disk", observer)
    assert await store.count(Selection()) == 0
    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == ["lock", "notes", "v1"]
    await store.aclose()


async def test_a_directory_that_cannot_be_used_is_an_error_at_start(tmp_path: Path, observer: Observer) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError):
        DiskStore.opened(tmp_path / "file", "disk", observer)
    (tmp_path / "store" / "v1" / "cache.db").mkdir(parents=True)
    with pytest.raises(OSError, match="cannot be opened"):
        DiskStore.opened(tmp_path / "store", "disk", observer)


async def test_a_full_disk_is_told_once_and_leaves_no_stale_value(
    store: DiskStore, tmp_path: Path, observer: Observer, told: list[str]
) -> None:
    await store.put("crate serde", b"old", tag="serde", keep=None)
    full = DiskStore.opened(tmp_path / "store", "full", observer, reserve=2**62)
    for _ in range(3):
        await full.put("crate serde", LARGE, tag="serde", keep=None)
    assert len(told) == 1 and "No space left" in told[0]
    assert await full.get("crate serde") is None
    assert (await full.health()).state == State.DEGRADED
    assert (await full.health()).state == State.DEGRADED and len(told) == 1
    assert files(tmp_path) == []
    full._reserve = 0  # there is room again, and nobody has anything to store
    assert (await full.health()).state == State.OK
    assert told[1:] == ["full: put: works again"] and [key async for key in full.keys()] == []
    await full.aclose()


async def test_a_database_that_cannot_be_read_is_absent_until_it_can(
    store: DiskStore, tmp_path: Path, told: list[str]
) -> None:
    await store.put("crate serde", b"1", tag="serde", keep=None)
    tampered(tmp_path, "UPDATE Cache SET store_time = store_time")  # what was read of it before counts no more
    nothing = os.open(os.devnull, os.O_WRONLY)
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{descriptor}") in (f"{database(tmp_path)}{end}" for end in ("", "-wal")):
                os.dup2(nothing, int(descriptor))  # each read of SQLite's fails from here on
    os.close(nothing)
    assert await store.get("crate serde") is None
    assert store.errors == 1 and "disk I/O error" in told[0]
    assert await store.get("crate serde") == b"1"
    assert not list((tmp_path / "store").glob("*.damaged-*")), "it is no reason to throw it away"


async def test_where_no_thread_is_left_for_some_it_is_absent_to_them(
    store: DiskStore, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are started when they are first needed, which may be when a container has all the processes that it may."""

    def refused(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    await store.put("a", b"1", tag="", keep=None)
    with monkeypatch.context() as system:
        system.setattr(threading.Thread, "start", refused)
        await asyncio.gather(*(store.count(Selection()) for _ in range(5)))
        assert store.errors > 0 and "can't start new thread" in told[0]
    assert await store.get("a") == b"1"


async def test_a_write_that_fails_leaves_no_file(store: DiskStore, tmp_path: Path, told: list[str]) -> None:
    tampered(tmp_path, "CREATE TRIGGER full BEFORE INSERT ON Cache BEGIN SELECT RAISE(ABORT, 'full'); END")
    await store.put("crate serde", LARGE, tag="serde", keep=None)
    assert len(told) == 1 and "full" in told[0]
    assert files(tmp_path) == []
    assert (await store.health()).state == State.DEGRADED
    tampered(tmp_path, "DROP TRIGGER full")
    await store.put("crate serde", LARGE, tag="serde", keep=None)
    assert await store.get("crate serde") == LARGE
    assert told[1:] == ["disk: put: works again"]
    assert (await store.health()).state == State.OK


async def put_all(store: DiskStore, *names: str) -> None:
    await asyncio.gather(*(store.put(f"crate {name}", LARGE, tag=name, keep=None) for name in names))


@pytest.fixture
def attempts(store: DiskStore, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What each way to the database came to."""
    outcomes: list[object] = []
    real = store._database.attempt

    def attempt(do: Callable[[Any], Any]) -> Any:
        outcomes.append(None)
        outcomes[-1] = real(do)
        return outcomes[-1]

    monkeypatch.setattr(store._database, "attempt", attempt)
    return outcomes


async def test_what_is_put_at_once_is_one_transaction(store: DiskStore, attempts: list[object]) -> None:
    await put_all(store, "serde", "rand", "libc")
    assert attempts == [True]
    assert [await store.get(f"crate {name}") for name in ("serde", "rand", "libc")] == [LARGE] * 3


async def test_one_that_fails_among_others_fails_alone(store: DiskStore, tmp_path: Path, told: list[str]) -> None:
    await put_all(store, "serde", "rand", "libc")
    tampered(
        tmp_path,
        "CREATE TRIGGER bad BEFORE UPDATE ON Cache WHEN OLD.key = 'crate rand' BEGIN SELECT RAISE(ABORT, 'bad'); END",
    )
    await put_all(store, "serde", "rand", "libc", "log")
    assert [await store.get(f"crate {name}") for name in ("serde", "libc", "log")] == [LARGE] * 3
    assert await store.get("crate rand") is None, "it may not be what was put before"
    assert len(files(tmp_path)) == 3
    assert told == ["disk: put: IntegrityError: bad", "disk: put: works again"]


async def test_for_a_lock_that_is_not_given_back_all_that_is_put_at_once_waits_once(
    store: DiskStore, attempts: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(cache: Any) -> Any:
        raise diskcache.Timeout

    monkeypatch.setattr(store, "_all_put", lambda puts: locked)
    await put_all(store, "serde", "rand", "libc")
    assert len(attempts) == 4, "one for all, and a deletion of each"
    assert store.errors == store.unanswered == 3


async def test_a_file_that_cannot_be_written_whole_is_removed(
    store: DiskStore, tmp_path: Path, told: list[str]
) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        await store.put("crate serde", LARGE, tag="serde", keep=None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "put: OSError" in told[0]
    assert files(tmp_path) == []
    await store.put("crate serde", LARGE, tag="serde", keep=None)
    assert await store.get("crate serde") == LARGE


@pytest.mark.parametrize("key", [1, b"crate serde", ("crate", "serde"), None], ids=repr)
def test_the_database_takes_no_other_keys_and_no_other_values(tmp_path: Path, key: object) -> None:
    disk = GuardedDisk(str(tmp_path), min_file_size=100)
    with pytest.raises(TypeError):
        disk.put(key)
    with pytest.raises(OSError):
        disk.get(key, True)
    for value in ("text", 1.5, None, ["list"], bytearray(5)):
        with pytest.raises(TypeError):
            disk.store(value, False)


async def test_a_disk_that_does_not_answer_is_degraded_and_not_waited_for(observer: Observer) -> None:
    attempts, answer = Attempts("disk", observer), threading.Event()
    health = await attempts.health(answer.wait)
    assert (health.state, health.detail) == (State.DEGRADED, "no answer within 0.5 s")
    answer.set()
    await attempts.threads.aclose(lambda: None)


async def test_a_lock_that_is_never_given_back_makes_it_absent_and_not_wait_for_ever(
    store: DiskStore, tmp_path: Path, told: list[str]
) -> None:
    await store.put("crate serde", b"1", tag="serde", keep=None)
    with closing(sqlite3.connect(database(tmp_path), isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        put = asyncio.ensure_future(store.put("crate rand", b"1", tag="rand", keep=None))
        assert await store.get("crate serde") == b"1"  # readers do not wait for writers
        while not told:
            await asyncio.sleep(0.02)
        connection.execute("ROLLBACK")
        await put
    assert told == ["disk: put: Timeout: the database is locked"]
    await store.put("crate rand", b"1", tag="rand", keep=None)
    assert await store.get("crate rand") == b"1"


async def test_a_sweep_removes_the_files_of_writers_that_were_killed(tmp_path: Path, observer: Observer) -> None:
    store = DiskStore.opened(tmp_path / "store", "disk", observer)
    await store.put("crate serde", LARGE, tag="serde", keep=None)
    (kept,) = files(tmp_path)
    old, new = (kept.parent / f"{name * 28}.val" for name in "ab")
    for file in (old, new):
        file.write_bytes(b"partial")
    for file in (old, kept):
        os.utime(file, (0, 0))
    await store.aclose()
    store = DiskStore.opened(tmp_path / "store", "disk", observer)
    await store.sweep()
    assert files(tmp_path) == sorted([kept, new])
    assert await store.get("crate serde") == LARGE
    await store.aclose()


async def test_trim_drops_what_was_stored_longest_ago_and_says_how_much(store: DiskStore) -> None:
    for n in range(20):
        await store.put(f"crate {n}", LARGE if n % 2 else b"1" * 20_000, tag="", keep=None)
    await store.put("crate 0", b"1" * 20_000, tag="", keep=None)
    before = await store.volume()
    freed = await store.trim(250_000)
    assert 250_000 <= freed < 400_000
    assert before - await store.volume() >= 200_000
    left = [n for n in range(20) if await store.get(f"crate {n}") is not None]
    assert left == [0, *range(20 - len(left) + 1, 20)]
    assert await store.trim(2**40) > 0
    assert await store.count(Selection()) == 0
    assert await store.trim(1) == 0


async def test_volume_counts_large_and_small_values(store: DiskStore) -> None:
    empty = await store.volume()
    await store.put("crate large", b"1" * 1_000_000, tag="", keep=None)
    for n in range(100):
        await store.put(f"crate {n}", b"1" * 10_000, tag="", keep=None)
    assert 2_000_000 <= await store.volume() - empty <= 2_500_000


USE = """
import asyncio, pathlib, sys
from proxy.stores.disk import DiskStore

async def main(directory: pathlib.Path, me: str) -> None:
    store = DiskStore.opened(directory, "disk", lambda name, what: print(name, what, file=sys.stderr))
    for n in range(100):
        await store.put(f"crate {me}-{n}", f"{me}{n}".encode() * 10000, tag=me, keep=None)
    await store.aclose()

asyncio.run(main(pathlib.Path(sys.argv[1]), sys.argv[2]))
"""


async def test_several_processes_open_and_fill_one_directory_at_once(tmp_path: Path, observer: Observer) -> None:
    commands = [[sys.executable, "-c", USE, str(tmp_path / "store"), f"p{n}"] for n in range(4)]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE) for command in commands]
    assert [(process.communicate()[1], process.returncode) for process in processes] == [(b"", 0)] * 4
    store = DiskStore.opened(tmp_path / "store", "disk", observer)
    assert await store.count(Selection()) == 400
    assert await store.get("crate p3-99") == b"p399" * 10000
    assert await store.purge(Selection(crate="p0")) == 100
    await store.aclose()


async def test_a_writer_that_is_killed_leaves_a_store_that_works(tmp_path: Path, observer: Observer) -> None:
    loop = USE.replace("range(100)", "range(10**9)").replace("await store.put", "print(n, flush=True); await store.put")
    command = [sys.executable, "-c", loop, str(tmp_path / "store"), "p"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    for _ in range(20):
        process.stdout.readline()
    process.kill()
    process.communicate()
    store = DiskStore.opened(tmp_path / "store", "disk", observer)
    assert await store.get("crate p-10") == b"p10" * 10000
    await store.put("crate p-10", b"1", tag="p", keep=None)
    assert await store.get("crate p-10") == b"1"
    await store.aclose()
