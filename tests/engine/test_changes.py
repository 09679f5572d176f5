"""The marks: what is known of them while some are read, and forgotten meanwhile."""

from __future__ import annotations

import pytest

from proxy.engine.changes import Changes
from proxy.model import Invalidation, Selection
from proxy.rules import keys, sparse
from tests.engine.fakes import DictStore

pytestmark = pytest.mark.anyio

EVERYTHING = Invalidation(Selection(), soft=True, at=1000.0)


class LostMeanwhile(DictStore):
    """The fleet is lost while a mark of `about` is read."""

    def __init__(self, about: str) -> None:
        super().__init__()
        self.about = about
        self.changes: list[Changes] = []

    async def get(self, key: str) -> bytes | None:
        if key.endswith(self.about):
            self.changes[0].forget()
        return await super().get(key)


async def test_a_mark_that_is_known_counts_though_it_is_forgotten_while_others_are_read() -> None:
    store = LostMeanwhile("crate/second")
    changes = Changes(store, keep=1.0, tiers=())
    store.changes.append(changes)
    await changes.record(EVERYTHING)
    first, second = (keys.index_read(sparse.path(name)) for name in ("first", "second"))
    assert (await changes.of(first)).changed == 1000.0
    assert (await changes.of(second)).changed == 1000.0
