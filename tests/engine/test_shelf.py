"""Where answers that upstream's own headers govern are kept: what does not exist has bounds of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.engine.changes import Changes
from proxy.engine.copies import Hot
from proxy.engine.shelf import Shelf
from proxy.model import Entry, Head, Selection
from proxy.rules import endpoints, keys, routes, storing
from proxy.rules.keys import Read
from proxy.stores.disk import DiskStore
from proxy.stores.memory import Memory

pytestmark = pytest.mark.anyio

NOW = 1000.0
BOUND = 64 * 1024


def read(name: str) -> Read:
    return keys.read(routes.match("GET", f"/api/v1/other/{name}", ()), endpoints.Policy())


def answered(of: Read, status: int) -> Entry:
    head = Head(status, ((b"cache-control", b"max-age=60"),))
    return storing.stored(of.key, head, b"body", requested_at=NOW, responded_at=NOW)


async def test_a_flood_of_what_does_not_exist_pushes_nothing_out_and_fills_no_store(tmp_path: Path) -> None:
    memory, negatives = Memory[Hot](BOUND), Memory[Hot](BOUND)
    store = DiskStore.opened(tmp_path, "json", lambda what, happened: None)
    changes = Changes(store, keep=1.0, tiers=(memory, negatives))
    shelf = Shelf(memory=memory, negatives=negatives, store=store, changes=changes, keep=None, clock=lambda: NOW)

    async def status(of: Read) -> int | None:
        entry = (await shelf.find(of, ())).entry
        return None if entry is None else entry.status

    good = read("good")
    assert (await shelf.put(good, await shelf.find(good, ()), answered(good, 200)))[0]
    for number in range(100):
        absent = read(str(number))
        assert (await shelf.put(absent, await shelf.find(absent, ()), answered(absent, 404)))[0]
    assert [await status(read(name)) for name in ("99", "0")] == [404, None]
    assert negatives.bytes <= BOUND
    assert await store.count(Selection(endpoint="other")) == 1
    assert await status(good) == 200

    # One replaces the other, both ways.
    for code in (404, 200, 410):
        assert (await shelf.put(good, await shelf.find(good, ()), answered(good, code)))[0]
        assert await status(good) == code
    assert await store.count(Selection(endpoint="other")) == 0
    await shelf.forget(good, await shelf.find(good, ()))
    assert await status(good) is None
    await store.aclose()
