from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import hashlib
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from proxy.model import Crate, Selection, State
from proxy.stores import descriptor, proofs
from proxy.stores.base import MAPPED, Listed, Observer, Spool
from proxy.stores.blobs import DiskBlobs
from proxy.stores.descriptor import Descriptor
from proxy.stores.proofs import LASTS, Proofs
from tests.waiting import happened

pytestmark = pytest.mark.anyio

SERDE = Crate("serde", "1.0.0")
CONTENT = os.urandom(700_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


@pytest.fixture
async def blobs(anyio_backend: str, tmp_path: Path, observer: Observer) -> AsyncIterator[DiskBlobs]:
    blobs = DiskBlobs.opened(tmp_path / "blobs", 0, observer, Clock())
    yield blobs
    await blobs.aclose()


async def filled(blobs: DiskBlobs, content: bytes, crate: Crate = SERDE) -> Spool:
    spool = await blobs.spool(crate, hashlib.sha256(content).hexdigest())
    for start in range(0, len(content), 65536):
        await spool.write(content[start : start + 65536])
    return spool


async def kept(blobs: DiskBlobs, content: bytes = CONTENT, crate: Crate = SERDE) -> str:
    blob = await (await filled(blobs, content, crate)).commit()
    blob.close()
    return hashlib.sha256(content).hexdigest()


async def holds(blobs: DiskBlobs, sha256: str, crate: Crate = SERDE) -> bool:
    blob = await blobs.open(crate, sha256)
    if blob is not None:
        blob.close()
    return blob is not None


def published(tmp_path: Path, sha256: str = SHA256) -> Path:
    return tmp_path / "blobs" / sha256[:2] / sha256[2:]


def temporary(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "blobs" / "tmp").iterdir())


def set_aside(tmp_path: Path) -> list[str]:
    return [path.name.partition("-")[2] for path in (tmp_path / "blobs" / "corrupt").iterdir()]


async def test_what_was_committed_is_read_byte_for_byte(blobs: DiskBlobs, tmp_path: Path) -> None:
    blob = await (await filled(blobs, CONTENT)).commit()
    other = await blobs.open(SERDE, SHA256)
    assert other is not None
    for each in (blob, other):
        assert each.size == len(CONTENT)
        assert await each.read(0, 2**30) == CONTENT
        assert await each.read(5, 10) == CONTENT[5:15]
        assert await each.read(len(CONTENT) - 5, 10) == CONTENT[-5:]
        assert await each.read(len(CONTENT), 10) == b""
        each.close()
        with pytest.raises(OSError):
            await each.read(0, 1)
    assert published(tmp_path).read_bytes() == CONTENT
    assert temporary(tmp_path) == []
    assert await blobs.volume() == len(CONTENT)


async def test_an_empty_file_is_a_file(blobs: DiskBlobs) -> None:
    sha256 = await kept(blobs, b"")
    blob = await blobs.open(SERDE, sha256)
    assert blob is not None and (blob.size, await blob.read(0, 10)) == (0, b"")


async def test_what_is_in_memory_can_be_had_without_a_copy(blobs: DiskBlobs, tmp_path: Path) -> None:
    sha256 = await kept(blobs)
    blob = await blobs.open(SERDE, sha256)
    assert blob is not None
    with open(published(tmp_path), "rb") as file:
        try:
            os.preadv(file.fileno(), [bytearray(1)], 0, os.RWF_NOWAIT)
        except OSError:  # a file system that does not tell, as tmpfs
            assert blob.mapped() is None
            return
        mapped = blob.again().mapped()
        assert mapped is not None and mapped == CONTENT
        assert blob.mapped() is mapped
        os.truncate(published(tmp_path), 300_000)
        assert blob.mapped() is None
        blob.close()
        with pytest.raises(OSError):
            blob.mapped()
        assert mapped[:1000] == CONTENT[:1000]


async def test_what_is_not_in_memory_is_not_waited_for(
    blobs: DiskBlobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(descriptor, "STAYS", 0.0)
    sha256 = await kept(blobs)
    blob = await blobs.open(SERDE, sha256)
    assert blob is not None
    declined, dropped = False, False
    with open(published(tmp_path), "rb") as file:
        for _ in range(20):  # whoever is told that something is not in memory has the kernel read it, behind him
            os.posix_fadvise(file.fileno(), 300_000, 0, os.POSIX_FADV_DONTNEED)
            declined = declined or blob.mapped() is None
            os.posix_fadvise(file.fileno(), 300_000, 0, os.POSIX_FADV_DONTNEED)
            try:
                os.preadv(file.fileno(), [bytearray(1)], len(CONTENT) - 1, os.RWF_NOWAIT)
            except OSError:  # or it is a file system that keeps it in memory whatever it is told
                dropped = True
    assert declined or not dropped
    assert await blob.read(0, len(CONTENT)) == CONTENT


async def test_empty_and_very_large_files_are_read_piece_by_piece(blobs: DiskBlobs) -> None:
    for content in (b"", bytes(MAPPED + 1)):
        blob = await blobs.open(SERDE, await kept(blobs, content))
        assert blob is not None and blob.mapped() is None


async def test_nothing_is_there_before_the_commit(blobs: DiskBlobs, tmp_path: Path) -> None:
    spool = await filled(blobs, CONTENT)
    assert await blobs.open(SERDE, SHA256) is None
    assert await spool.read(0, 100) == CONTENT[:100]
    assert await spool.read(len(CONTENT) - 10, 100) == CONTENT[-10:]
    assert await spool.read(len(CONTENT), 100) == b""
    await spool.discard()
    await spool.discard()
    assert temporary(tmp_path) == []
    assert await blobs.open(SERDE, SHA256) is None
    for spent in (spool.write(b"1"), spool.read(0, 1), spool.commit()):
        with pytest.raises(OSError):
            await spent


async def test_after_the_commit_a_spool_is_spent_and_readable(blobs: DiskBlobs) -> None:
    spool = await filled(blobs, CONTENT)
    blob = await spool.commit()
    await spool.discard()
    blob.close()
    assert await spool.read(0, 100) == CONTENT[:100]
    assert await holds(blobs, SHA256)
    with pytest.raises(OSError):
        await spool.commit()


@pytest.mark.parametrize("end", ["commit", "discard"])
async def test_another_process_reads_what_is_being_filled_to_its_end_and_beyond(
    blobs: DiskBlobs, tmp_path: Path, observer: Observer, end: str
) -> None:
    other = DiskBlobs.opened(tmp_path / "blobs", 0, observer, Clock())
    spool = await blobs.spool(SERDE, SHA256)
    await spool.write(CONTENT[:400_000])
    trail = await other.follow(spool.name)
    assert trail is not None
    assert await trail.read(300_000, 100_000) == CONTENT[300_000:400_000]
    await spool.write(CONTENT[400_000:])
    await (spool.commit() if end == "commit" else spool.discard())
    assert await trail.read(1000, 650_000) == CONTENT[1000:651_000]
    with pytest.raises(OSError):
        await trail.read(len(CONTENT), 1)
    trail.close()
    assert await other.follow(spool.name) is None
    await other.aclose()


@pytest.mark.parametrize("name", ["", "../ledger", "1-0123456789abcdef", "link", "1-0123456789abcdeF/../x"])
async def test_only_files_being_filled_are_followed(blobs: DiskBlobs, tmp_path: Path, name: str) -> None:
    (tmp_path / "blobs/tmp/link").symlink_to("/etc/passwd")
    assert await blobs.follow(name) is None


async def test_a_commit_goes_on_when_its_caller_leaves(blobs: DiskBlobs, tmp_path: Path) -> None:
    spool = await filled(blobs, CONTENT)
    task = asyncio.ensure_future(spool.commit())
    await asyncio.sleep(0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    await spool.discard()
    await blobs.aclose()
    assert temporary(tmp_path) == []
    assert published(tmp_path).exists()


async def test_the_same_file_committed_twice_counts_once(blobs: DiskBlobs) -> None:
    await asyncio.gather(*(kept(blobs) for _ in range(4)))
    assert await blobs.volume() == len(CONTENT)
    assert await blobs.purge(Selection(crate="serde")) == 1


async def test_only_a_checksum_ever_names_a_file(blobs: DiskBlobs) -> None:
    for name in ("", "../../etc/passwd", SHA256.upper(), SHA256[:-1], SHA256 + "0", SHA256 + "\n"):
        assert await blobs.open(SERDE, name) is None
        with pytest.raises(ValueError):
            await blobs.spool(SERDE, name)


@pytest.mark.parametrize("content", [b"", CONTENT[:-1], CONTENT + b"1"], ids=["empty", "short", "long"])
async def test_a_file_of_another_size_is_set_aside_and_told(
    blobs: DiskBlobs, tmp_path: Path, told: list[str], content: bytes
) -> None:
    await kept(blobs)
    published(tmp_path).write_bytes(content)
    assert await blobs.open(SERDE, SHA256) is None
    assert set_aside(tmp_path) == [SHA256]
    assert len(told) == 1 and "serde 1.0.0" in told[0] and "bytes instead of" in told[0]
    assert await blobs.volume() == 0
    await kept(blobs)
    assert await holds(blobs, SHA256)


@pytest.mark.parametrize("crate", [Crate("serde", "1.0.1"), Crate("rand", "1.0.0")], ids=repr)
async def test_a_file_asked_for_as_another_crates_is_absent_and_stays_for_its_own(
    blobs: DiskBlobs, tmp_path: Path, told: list[str], crate: Crate
) -> None:
    await kept(blobs)
    assert await blobs.open(crate, SHA256) is None
    assert (set_aside(tmp_path), told) == ([], [])
    assert await holds(blobs, SHA256)


async def test_only_the_last_few_are_kept_aside(blobs: DiskBlobs, tmp_path: Path) -> None:
    for n in range(12):
        sha256 = await kept(blobs, b"%d" % n)
        published(tmp_path, sha256).write_bytes(b"truncated")
        assert await blobs.open(SERDE, sha256) is None
    assert len(set_aside(tmp_path)) == 8


async def test_a_record_without_a_file_is_absent_and_healed(blobs: DiskBlobs, tmp_path: Path, told: list[str]) -> None:
    await kept(blobs)
    published(tmp_path).unlink()
    assert await blobs.open(SERDE, SHA256) is None
    assert await blobs.volume() == 0
    assert told == []


async def test_a_file_without_a_record_is_never_served(blobs: DiskBlobs, tmp_path: Path) -> None:
    await blobs.reconcile()  # one that was there before may be of a crash
    published(tmp_path).parent.mkdir()
    published(tmp_path).write_bytes(CONTENT)
    assert await blobs.open(SERDE, SHA256) is None


async def test_a_purge_by_crate_takes_all_its_versions_however_it_is_spelt(blobs: DiskBlobs, tmp_path: Path) -> None:
    shas = [await kept(blobs, b"%d" % n, Crate("Serde_Json", f"1.0.{n}")) for n in range(3)]
    await kept(blobs)
    assert await blobs.purge(Selection(endpoint="download")) == 0
    assert await blobs.purge(Selection(crate="serde-json")) == 3
    assert not any(published(tmp_path, sha256).exists() for sha256 in shas)
    assert await blobs.volume() == len(CONTENT)
    assert await blobs.purge(Selection()) == 1
    assert await blobs.volume() == 0
    assert not published(tmp_path).exists()


async def test_a_purge_takes_hundreds(blobs: DiskBlobs) -> None:
    await asyncio.gather(*(kept(blobs, b"%d" % n) for n in range(150)))
    assert await blobs.purge(Selection(crate="serde")) == 150


async def test_an_open_file_stays_readable_when_it_is_evicted(blobs: DiskBlobs, tmp_path: Path) -> None:
    await kept(blobs)
    blob = await blobs.open(SERDE, SHA256)
    assert await blobs.trim(1) == len(CONTENT)
    assert not published(tmp_path).exists()
    assert blob is not None and await blob.read(0, 2**30) == CONTENT
    blob.close()


async def test_a_file_closed_under_a_read_is_read_to_its_end(blobs: DiskBlobs) -> None:
    blob = await (await filled(blobs, CONTENT)).commit()
    reads = [asyncio.ensure_future(blob.read(0, 2**30)) for _ in range(8)]
    await asyncio.sleep(0)
    blob.close()
    assert await asyncio.gather(*reads) == [CONTENT] * 8


async def test_a_file_that_is_not_in_memory_is_read_from_the_disk(blobs: DiskBlobs, tmp_path: Path) -> None:
    await kept(blobs)
    blob = await blobs.open(SERDE, SHA256)
    assert blob is not None
    with published(tmp_path).open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    assert await blob.read(100, 200_000) == CONTENT[100:200_100]
    blob.close()


async def test_a_file_cut_off_while_it_is_open_is_an_error_and_not_its_end(blobs: DiskBlobs, tmp_path: Path) -> None:
    blob = await (await filled(blobs, CONTENT)).commit()
    os.truncate(published(tmp_path), 1000)
    assert await blob.read(0, 1000) == CONTENT[:1000]
    with pytest.raises(OSError, match="shorter"):
        await blob.read(500, 1000)
    blob.close()


async def test_no_descriptor_is_left_open(blobs: DiskBlobs, tmp_path: Path) -> None:
    await kept(blobs)
    for n in range(100):
        opening = asyncio.ensure_future(blobs.open(SERDE, SHA256))
        for _ in range(n % 4):
            await asyncio.sleep(0)
        opening.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await opening
        spool = await filled(blobs, b"1")
        await spool.discard()
    await holds(blobs, SHA256)
    del opening, spool

    def held() -> list[Path]:
        gc.collect()
        paths = []
        for number in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                paths.append(number.readlink())
        # The threads keep their connections to the ledger.
        return [path for path in paths if path.is_relative_to(tmp_path) and "ledger" not in path.parts]

    await happened(lambda: not held())  # a thread that has not had its turn since holds what it did last


async def test_the_least_recently_used_goes_first_and_pinned_never(blobs: DiskBlobs) -> None:
    shas = [await kept(blobs, bytes([n]) * 1000) for n in range(6)]
    assert await holds(blobs, shas[0])
    assert await blobs.trim(1500, lambda sha256: sha256 == shas[2]) == 2000
    assert [n for n in range(6) if await holds(blobs, shas[n])] == [0, 2, 4, 5]
    assert await holds(blobs, shas[2])
    assert await blobs.trim(2**40, {shas[2], shas[4]}.__contains__) == 2000
    assert [n for n in range(6) if await holds(blobs, shas[n])] == [2, 4]
    assert await blobs.volume() == 2000


async def test_all_files_are_told_by_ascending_checksum(blobs: DiskBlobs) -> None:
    kept_ = {await kept(blobs, b"%d" % n, Crate("serde", f"1.0.{n}")): n for n in range(1100)}
    found = [each async for each in blobs.files()]
    assert [each.sha256 for each in found] == sorted(kept_)
    assert all(each.crate == Crate("serde", f"1.0.{kept_[each.sha256]}") for each in found)
    assert all(each.size == len(str(kept_[each.sha256])) for each in found)


async def test_of_a_file_without_a_record_it_is_not_told_whose_it_is(tmp_path: Path, observer: Observer) -> None:
    path = published(tmp_path)
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    blobs = DiskBlobs.opened(tmp_path / "blobs", 0, observer, Clock())
    assert [(each.crate, each.sha256, each.size) async for each in blobs.files()] == [(None, SHA256, len(CONTENT))]
    await blobs.aclose()


async def test_more_pinned_files_than_a_batch_holds_hide_no_other(blobs: DiskBlobs) -> None:
    pinned = {await kept(blobs, b"%d" % n) for n in range(150)}
    loose = await kept(blobs, b"loose")
    assert await blobs.trim(1, pinned.__contains__) == 5
    assert not await holds(blobs, loose)
    assert await blobs.trim(1, pinned.__contains__) == 0


async def test_what_was_used_is_known_to_the_next_process(tmp_path: Path, observer: Observer) -> None:
    clock = Clock()
    blobs = DiskBlobs.opened(tmp_path / "blobs", 0, observer, clock)
    shas = [await kept(blobs, bytes([n]) * 1000) for n in range(3)]
    assert await holds(blobs, shas[0])
    await blobs.aclose()
    blobs = DiskBlobs.opened(tmp_path / "blobs", 0, observer, clock)
    assert await blobs.trim(1) == 1000
    assert [await holds(blobs, sha256) for sha256 in shas] == [True, False, True]
    await blobs.aclose()


async def test_too_little_room_refuses_a_file_before_and_while_it_is_filled(
    blobs: DiskBlobs, tmp_path: Path, observer: Observer
) -> None:
    full = DiskBlobs.opened(tmp_path / "blobs", 2**62, observer)
    with pytest.raises(OSError, match="min_free"):
        await full.spool(SERDE, SHA256)
    assert (await full.health()).state == State.DEGRADED
    assert "min_free" in (await full.health()).detail
    await kept(blobs)
    assert await holds(full, SHA256)
    assert temporary(tmp_path) == []
    await full.aclose()
    assert (await blobs.health()).state == State.OK


async def test_a_commit_that_the_ledger_refuses_leaves_nothing(blobs: DiskBlobs, tmp_path: Path) -> None:
    with closing(
        sqlite3.connect(tmp_path / "blobs" / "ledger" / "v1" / "cache.db", isolation_level=None)
    ) as connection:
        connection.execute("CREATE TRIGGER full BEFORE INSERT ON Cache BEGIN SELECT RAISE(ABORT, 'full'); END")
        spool = await filled(blobs, CONTENT)
        with pytest.raises(OSError, match="full"):
            await spool.commit()
        connection.execute("DROP TRIGGER full")
    assert temporary(tmp_path) == []
    assert not published(tmp_path).exists()
    await kept(blobs)
    assert await holds(blobs, SHA256)


async def test_a_commit_that_cannot_publish_leaves_no_record(blobs: DiskBlobs, tmp_path: Path) -> None:
    published(tmp_path).mkdir(parents=True)
    spool = await filled(blobs, CONTENT)
    with pytest.raises(OSError):
        await spool.commit()
    assert temporary(tmp_path) == []
    assert await blobs.volume() == 0
    assert await blobs.open(SERDE, SHA256) is None


@pytest.mark.parametrize("damage", [b"garbage" * 1000, None], ids=["garbage", "gone"])
async def test_without_its_ledger_a_file_is_hashed_before_it_is_served_again(
    tmp_path: Path, observer: Observer, told: list[str], damage: bytes | None
) -> None:
    blobs = DiskBlobs.opened(tmp_path / "blobs", 0, observer)
    await kept(blobs)
    wrong = await kept(blobs, b"as it was")
    published(tmp_path, wrong).write_bytes(b"as it got")
    await blobs.aclose()
    for file in (tmp_path / "blobs" / "ledger" / "v1").iterdir():
        file.write_bytes(damage) if damage is not None else file.unlink()
    blobs = DiskBlobs.opened(tmp_path / "blobs", 0, observer)
    assert len(told) == (damage is not None)
    assert await holds(blobs, SHA256)  # what is asked for is found even before
    await blobs.reconcile()
    assert await blobs.volume() == len(CONTENT) + len(b"as it got")
    assert await holds(blobs, SHA256)
    assert not await holds(blobs, wrong)
    assert set_aside(tmp_path) == [wrong]
    assert "do not have its checksum" in told[-1]
    assert await blobs.purge(Selection(crate="serde")) == 1
    await blobs.aclose()


async def test_rows_files_and_their_sum_agree_after_a_crash(tmp_path: Path, observer: Observer) -> None:
    blobs = DiskBlobs.opened(tmp_path / "blobs", 0, observer)
    lost, stays = await kept(blobs, b"lost"), await kept(blobs, b"stays")
    await blobs.aclose()
    published(tmp_path, lost).unlink()
    published(tmp_path).parent.mkdir(exist_ok=True)
    published(tmp_path).write_bytes(CONTENT)
    with closing(
        sqlite3.connect(tmp_path / "blobs" / "ledger" / "v1" / "cache.db", isolation_level=None)
    ) as connection:
        connection.execute("UPDATE Cache SET value = 12345 WHERE key = 'total'")
    blobs = DiskBlobs.opened(tmp_path / "blobs", 0, observer)
    await blobs.reconcile()
    assert await blobs.volume() == len(CONTENT) + len(b"stays")
    assert [await holds(blobs, sha256) for sha256 in (lost, stays, SHA256)] == [False, True, True]
    await blobs.aclose()


async def test_a_tampered_record_is_absent(blobs: DiskBlobs, tmp_path: Path) -> None:
    await kept(blobs)
    for value in (b"", b"[]", b"[null,1]", b'[["a"],1,1]', 5, None):
        with closing(sqlite3.connect(tmp_path / "blobs" / "ledger" / "v1" / "cache.db")) as connection:
            connection.execute("UPDATE Cache SET value = ? WHERE key LIKE 'blob %'", (value,))
            connection.commit()
        assert await blobs.open(SERDE, SHA256) is None
    assert await blobs.purge(Selection()) == 1


FILL = """
import asyncio, hashlib, pathlib, sys
from proxy.model import Crate
from proxy.stores import descriptor
from proxy.stores.blobs import DiskBlobs

async def main(directory: pathlib.Path, me: str, count: int) -> None:
    blobs = DiskBlobs.opened(directory, 0, lambda name, what: print(name, what, file=sys.stderr))
    for n in range(count):
        content = f"{me}{n}".encode() * 10000
        spool = await blobs.spool(Crate(me, str(n)), hashlib.sha256(content).hexdigest())
        await spool.write(content)
        print(n, flush=True)
        if count == 1:
            await asyncio.sleep(60)
        (await spool.commit()).close()
    await blobs.aclose()

asyncio.run(main(pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
"""


def filling(tmp_path: Path, me: str, count: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", FILL, str(tmp_path / "blobs"), me, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


async def test_two_processes_fill_one_directory_and_agree_on_its_size(blobs: DiskBlobs, tmp_path: Path) -> None:
    processes = [filling(tmp_path, me, 40) for me in ("a", "b")]
    for process in processes:
        assert (process.communicate()[1], process.returncode) == (b"", 0)
    assert await blobs.volume() == sum(10000 * len(f"a{n}") for n in range(40)) * 2
    assert await blobs.purge(Selection(crate="a")) == 40


async def test_a_file_in_filling_outlives_a_start_beside_it_and_not_its_process(
    tmp_path: Path, observer: Observer
) -> None:
    process = filling(tmp_path, "a", 1)
    assert process.stdout is not None
    process.stdout.readline()
    beside = DiskBlobs.opened(tmp_path / "blobs", 0, observer)
    assert len(temporary(tmp_path)) == 1
    await beside.aclose()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert len(temporary(tmp_path)) == 1
    blobs = DiskBlobs.opened(tmp_path / "blobs", 0, observer)
    assert temporary(tmp_path) == []
    assert await blobs.volume() == 0
    await blobs.aclose()


async def test_a_process_killed_among_commits_leaves_rows_and_files_that_agree(
    tmp_path: Path, observer: Observer, told: list[str]
) -> None:
    process = filling(tmp_path, "a", 10**9)
    assert process.stdout is not None
    for _ in range(30):
        process.stdout.readline()
    process.kill()
    process.communicate()
    blobs = DiskBlobs.opened(tmp_path / "blobs", 0, observer)
    contents = [f"a{n}".encode() * 10000 for n in range(29)]
    assert all(
        [
            await holds(blobs, hashlib.sha256(content).hexdigest(), Crate("a", str(n)))
            for n, content in enumerate(contents)
        ]
    )
    files = [path for path in (tmp_path / "blobs").glob("??/*")]
    assert await blobs.volume() == sum(path.stat().st_size for path in files)
    assert temporary(tmp_path) == []
    assert told == []
    await blobs.aclose()


async def test_a_fault_is_absent_and_told_once(blobs: DiskBlobs, tmp_path: Path, told: list[str]) -> None:
    await kept(blobs)
    published(tmp_path).unlink()
    published(tmp_path).symlink_to("/etc/passwd")  # never followed
    for _ in range(3):
        assert await blobs.open(SERDE, SHA256) is None
    assert len(told) == 1 and told[0].startswith("tarballs: open: OSError")
    assert (await blobs.health()).state == State.DEGRADED


async def test_closed_it_has_nothing(tmp_path: Path, observer: Observer) -> None:
    blobs = DiskBlobs.opened(tmp_path / "blobs", 0, observer)
    await kept(blobs)
    await blobs.aclose()
    await blobs.aclose()
    assert await blobs.open(SERDE, SHA256) is None
    with pytest.raises(OSError):
        await blobs.spool(SERDE, SHA256)


async def listed(blobs: DiskBlobs) -> list[Listed]:
    return [file async for file in blobs.files()]


async def test_what_is_verified_and_right_stays_and_is_not_used_by_that(blobs: DiskBlobs) -> None:
    old, new = await kept(blobs, b"old"), await kept(blobs, b"new", Crate("b", "2.0.0"))
    assert [await blobs.verify(file) for file in await listed(blobs)] == ["", ""]
    assert await blobs.trim(1) == 3
    assert (await holds(blobs, old), await holds(blobs, new, Crate("b", "2.0.0"))) == (False, True)


@pytest.mark.parametrize("content", [b"short", os.urandom(len(CONTENT))])
async def test_a_damaged_file_is_set_aside_when_it_is_verified(
    content: bytes, blobs: DiskBlobs, tmp_path: Path, told: list[str]
) -> None:
    await kept(blobs)
    reader = await blobs.open(SERDE, SHA256)
    assert reader is not None
    published(tmp_path).write_bytes(content)
    (file,) = await listed(blobs)
    assert await blobs.verify(file)
    assert set_aside(tmp_path) == [SHA256] and not await holds(blobs, SHA256)
    assert (blobs.corrupt, await listed(blobs), await blobs.volume()) == (1, [], 0)
    assert any("serde 1.0.0" in what for what in told)
    assert await blobs.verify(file) is None
    reader.close()


async def test_a_file_that_is_gone_is_not_damaged(blobs: DiskBlobs, tmp_path: Path) -> None:
    await kept(blobs)
    (file,) = await listed(blobs)
    published(tmp_path).unlink()
    assert await blobs.verify(file) is None
    assert (await listed(blobs), blobs.corrupt) == ([], 0)


async def test_a_file_that_was_fetched_anew_while_the_damaged_one_was_read_stays(
    blobs: DiskBlobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await kept(blobs)
    published(tmp_path).write_bytes(os.urandom(len(CONTENT)))
    (file,) = await listed(blobs)
    pread = os.pread

    def meanwhile(*args: Any) -> bytes:
        found = pread(*args)
        (tmp_path / "anew").write_bytes(CONTENT)
        os.replace(tmp_path / "anew", published(tmp_path))
        return found

    monkeypatch.setattr(os, "pread", meanwhile)
    assert await blobs.verify(file) is None
    assert await holds(blobs, SHA256) and not set_aside(tmp_path)


async def test_a_file_that_the_disk_cannot_read_is_set_aside_and_other_faults_are_told(
    blobs: DiskBlobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await kept(blobs)
    (file,) = await listed(blobs)
    number = errno.EMFILE

    def fails(*args: Any) -> Any:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "pread", fails)
    assert await blobs.verify(file) is None
    assert await holds(blobs, SHA256) and (await blobs.health()).state is State.DEGRADED
    number = errno.EIO
    assert await blobs.verify(file) == "the disk cannot read it"
    assert set_aside(tmp_path) == [SHA256]


def rot(path: Path) -> None:
    """Turn a byte of a file, as a disk does it: nothing else tells of it."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x01
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


async def test_what_has_rotted_is_found_at_its_first_use_and_set_aside(
    tmp_path: Path, observer: Observer, told: list[str]
) -> None:
    blobs = DiskBlobs.opened(tmp_path / "blobs", 0, observer, Clock())
    await kept(blobs)
    await blobs.aclose()
    rot(published(tmp_path))
    blobs = DiskBlobs.opened(tmp_path / "blobs", 0, observer, Clock())
    assert not await holds(blobs, SHA256)
    assert (blobs.corrupt, set_aside(tmp_path)) == (1, [SHA256])
    assert "do not have its checksum" in told[-1]
    await kept(blobs)
    assert await holds(blobs, SHA256)
    await blobs.aclose()


async def test_what_was_seen_to_be_right_is_read_again_once_it_is_written_to_and_after_a_day(
    tmp_path: Path, observer: Observer, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = 0
    pread = os.pread

    def counted(*args: Any) -> bytes:
        nonlocal read
        found = pread(*args)
        read += len(found)
        return found

    clock = Clock()
    blobs = DiskBlobs.opened(tmp_path / "blobs", 0, observer, clock)
    await kept(blobs)
    monkeypatch.setattr(os, "pread", counted)
    held = await blobs.open(SERDE, SHA256)
    assert held is not None and held.sound() and read == 0  # it was hashed on its way here
    clock.now += LASTS
    assert not held.sound() and await holds(blobs, SHA256) and read == len(CONTENT)
    assert await holds(blobs, SHA256) and read == len(CONTENT)
    clock.now -= 2 * LASTS
    assert await holds(blobs, SHA256) and read == 2 * len(CONTENT)
    held = await blobs.open(SERDE, SHA256)
    assert held is not None and held.sound()
    rot(published(tmp_path))
    assert not held.sound() and not await holds(blobs, SHA256)
    held.close()
    await blobs.aclose()


async def test_a_file_of_which_a_read_fails_is_doubted_by_all_who_have_it_open(
    blobs: DiskBlobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await kept(blobs)
    blob = await blobs.open(SERDE, SHA256)
    assert blob is not None
    other = blob.again()

    def fails(*args: Any) -> Any:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as disk:
        disk.setattr(os, "pread", fails)
        disk.setattr(os, "preadv", fails)
        with pytest.raises(OSError):
            await blob.read(0, 10)
        assert not other.sound()
        assert not await holds(blobs, SHA256)
    assert set_aside(tmp_path) == [SHA256]


async def test_only_so_many_files_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proofs, "MOST", 2)
    known = Proofs(lambda: 1.0)
    number = os.open(tmp_path, os.O_RDONLY)
    held = Descriptor(number)
    for name in ("a", "b"):
        known.proved(name, held)
    assert known.of("a", held)
    known.proved("c", held)
    assert [name for name in "abc" if known.of(name, held)] == ["a", "c"]
