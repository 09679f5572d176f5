"""What is on the disk before what, and what a store makes of all that a power cut may leave of it.

content, then name    a tarball is synced before it is published: whatever has its name has its bytes
row and name          either may be lost: a file without a row is hashed before its use, a row without a file dropped
values                are not synced, and tell by a checksum whether they are whole
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proxy.model import Crate
from proxy.stores.base import Observer
from proxy.stores.blobs import DiskBlobs
from proxy.stores.disk import DiskStore

pytestmark = pytest.mark.anyio

SERDE = Crate("serde", "1.0.0")
CONTENT = os.urandom(200_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
LARGE = os.urandom(100_000)


async def stored(directory: Path, observer: Observer) -> None:
    blobs = DiskBlobs.opened(directory, 0, observer)
    spool = await blobs.spool(SERDE, SHA256)
    for start in range(0, len(CONTENT), 65536):
        await spool.write(CONTENT[start : start + 65536])
    (await spool.commit()).close()
    await blobs.aclose()


async def test_a_tarball_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, observer: Observer, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[tuple[str, int]] = []

    def noting(name: str, inode: Callable[[Any], int]) -> None:
        real = getattr(os, name)

        def noted(first: Any, *args: Any) -> Any:
            done.append((name, inode(first)))
            return real(first, *args)

        monkeypatch.setattr(os, name, noted)

    for name in ("pwrite", "fdatasync"):
        noting(name, lambda number: os.fstat(number).st_ino)
    noting("replace", lambda path: os.stat(path).st_ino)
    await stored(tmp_path / "blobs", observer)
    inode = (tmp_path / "blobs" / SHA256[:2] / SHA256[2:]).stat().st_ino
    of_it = [name for name, each in done if each == inode]
    assert of_it[-2:] == ["fdatasync", "replace"] and set(of_it[:-2]) == {"pwrite"}


@pytest.mark.parametrize("lost", ["row", "file", "row and half of the file", "row and content", "nothing"])
async def test_whatever_a_power_cut_leaves_is_whole_or_absent(tmp_path: Path, observer: Observer, lost: str) -> None:
    directory = tmp_path / "blobs"
    await stored(directory, observer)
    file = directory / SHA256[:2] / SHA256[2:]
    if "row" in lost:
        shutil.rmtree(directory / "ledger")
    match lost:
        case "file":
            file.unlink()
        case "row and half of the file":
            os.truncate(file, len(CONTENT) // 2)
        case "row and content":  # its length is known, its blocks are not
            file.write_bytes(bytes(len(CONTENT)))
    blobs = DiskBlobs.opened(directory, 0, observer)
    await blobs.reconcile()
    blob = await blobs.open(SERDE, SHA256)
    assert (blob is not None) == (lost in ("row", "nothing"))
    if blob is not None:
        assert await blob.read(0, len(CONTENT)) == CONTENT
        blob.close()
    await blobs.aclose()
    await stored(directory, observer)
    blobs = DiskBlobs.opened(directory, 0, observer)
    blob = await blobs.open(SERDE, SHA256)
    assert blob is not None and await blob.read(0, len(CONTENT)) == CONTENT
    blob.close()
    await blobs.aclose()


@pytest.mark.parametrize("left", [None, b"", LARGE[:50_000], bytes(len(LARGE)), LARGE + b"x"])
async def test_a_value_whose_file_was_not_synced_is_whole_or_absent(
    tmp_path: Path, observer: Observer, left: bytes | None
) -> None:
    store = DiskStore.opened(tmp_path / "store", "disk", observer)
    await store.put("crate serde", LARGE, tag="serde", keep=None)
    await store.put("crate small", b"small", tag="small", keep=None)
    await store.aclose()
    (file,) = (tmp_path / "store").rglob("*.val")
    content = file.read_bytes()
    assert LARGE in content
    if left is None:
        file.unlink()
    else:
        file.write_bytes(content.replace(LARGE, left))
    store = DiskStore.opened(tmp_path / "store", "disk", observer)
    assert await store.get("crate serde") is None
    assert await store.get("crate small") == b"small"
    await store.put("crate serde", LARGE, tag="serde", keep=None)
    assert await store.get("crate serde") == LARGE
    await store.aclose()
