"""What a server does for its stores behind what it answers: what a crash has left and what is past its time."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from proxy import settings, wiring
from proxy.rules.endpoints import TIMED
from proxy.stores.disk import DiskStore
from tests.waiting import happened

pytestmark = pytest.mark.anyio

CONTENT = b"a file that was published, and its record was not"


def keys(database: Path) -> list[str]:
    with closing(sqlite3.connect(database / "v1" / "cache.db")) as connection:
        return sorted(key for (key,) in connection.execute("SELECT key FROM Cache"))


async def test_what_a_crash_has_left_and_what_is_past_its_time_is_seen_to_while_it_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wiring, "TIDY_EVERY", 0.05)
    store = DiskStore.opened(tmp_path / "json", "json", lambda name, what: None, reserve=0)
    await store.put("crate past", b"1", tag="past", keep=0.001)
    await store.put("crate kept", b"1", tag="kept", keep=None)
    await store.aclose()
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    published, partial = tmp_path / "tarballs" / sha256[:2] / sha256[2:], tmp_path / "json" / "v1" / "ab" / "cd"
    published.parent.mkdir(parents=True)
    published.write_bytes(CONTENT)
    partial.mkdir(parents=True)
    orphan = partial / f"{'e' * 28}.val"
    orphan.write_bytes(b"partial")
    os.utime(orphan, (0, 0))
    loaded = settings.load({"upstream.offline": True, "cache.min_free": 0}, None, {}, endpoints=TIMED)
    async with wiring.opened(loaded.settings, tmp_path, serving=True):
        await happened(lambda: not orphan.exists())
        await happened(lambda: keys(tmp_path / "json") == ["crate kept"])
        await happened(lambda: f"blob {sha256}" in keys(tmp_path / "tarballs" / "ledger"))
