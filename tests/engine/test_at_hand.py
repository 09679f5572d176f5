from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from proxy.engine.at_hand import AtHand, Held
from proxy.model import Crate
from proxy.stores.blobs import DiskBlobs
from proxy.stores.memory import Memory

CRATE, CONTENT = Crate("serde", "1.0.0"), b"bytes of a tarball" * 100
SHA256 = hashlib.sha256(CONTENT).hexdigest()


async def stored(blobs: DiskBlobs) -> None:
    spool = await blobs.spool(CRATE, SHA256)
    await spool.write(CONTENT)
    (await spool.commit()).close()


def at_hand(blobs: DiskBlobs) -> AtHand:
    return AtHand(blobs=blobs, small=Memory(1 << 20), files=Memory(1 << 20))


@pytest.mark.anyio
async def test_a_small_file_comes_into_memory_with_its_first_reader(tmp_path: Path) -> None:
    blobs = DiskBlobs.opened(tmp_path, 0, lambda what, why: None, lambda: 1.0)
    await stored(blobs)
    found = at_hand(blobs)
    blob = await found.open(CRATE, SHA256)
    assert isinstance(blob, Held) and blob.data == CONTENT
    assert await found.open(CRATE, SHA256) is blob
    await blobs.aclose()


@pytest.mark.anyio
async def test_a_small_file_that_can_no_longer_be_read_is_absent_and_set_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = DiskBlobs.opened(tmp_path, 0, lambda what, why: None, lambda: 1.0)
    await stored(blobs)  # and known to be right, so that nobody reads it before it is opened

    def fails(*args: Any) -> Any:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as disk:
        disk.setattr(os, "pread", fails)
        disk.setattr(os, "preadv", fails)
        assert await at_hand(blobs).open(CRATE, SHA256) is None
    assert [file.name for file in tmp_path.glob("corrupt/*")]
    assert await at_hand(blobs).open(CRATE, SHA256) is None
    await blobs.aclose()
