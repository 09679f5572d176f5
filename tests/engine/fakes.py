"""Small honest objects at the seams of the engine."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

from proxy.fleet.base import Lease, Told, deaf
from proxy.model import Head, Health, Invalidation, Selection, State
from proxy.upstream.base import Ask


class FakeAnswer:
    def __init__(self, body: bytes) -> None:
        length = (b"content-length", b"%d" % len(body))
        self.head = Head(200, ((b"content-type", b"application/json"), length))
        self._body = body
        self.distrusted = False

    async def body(self) -> AsyncGenerator[bytes]:
        yield self._body

    def distrust(self) -> None:
        self.distrusted = True

    async def aclose(self) -> None:
        pass


class FakeUpstream:
    """Answers everything with 200 and the same body, and counts."""

    def __init__(self, body: bytes) -> None:
        self.answer = FakeAnswer(body)
        self.asked = 0

    async def send(self, ask: Ask) -> FakeAnswer:
        self.asked += 1
        return self.answer

    async def aclose(self) -> None:
        pass


class DictStore:
    """A store in memory."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}

    async def get(self, key: str) -> bytes | None:
        return self.values.get(key)

    async def put(self, key: str, value: bytes, *, tag: str, keep: float | None) -> None:
        self.values[key] = value

    async def delete(self, key: str) -> None:
        self.values.pop(key, None)

    async def purge(self, selection: Selection) -> int:
        return 0

    async def count(self, selection: Selection) -> int:
        return 0

    async def keys(self) -> AsyncIterator[str]:
        for key in sorted(self.values):
            yield key

    async def health(self) -> Health:
        return Health("dict", State.OK)

    async def aclose(self) -> None:
        pass


class FakeLease:
    def __init__(self, alone: bool) -> None:
        self.alone = alone

    def done(self) -> None:
        pass

    def tell(self, word: str) -> None:
        pass


class FakeFleet:
    """It is always its member's turn. `alone`: it says that there is no other."""

    def __init__(self, *, alone: bool = False) -> None:
        self._alone = alone

    async def announce(self, invalidation: Invalidation) -> None:
        pass

    @asynccontextmanager
    async def lease(self, key: str, patience: float, told: Told = deaf) -> AsyncIterator[Lease]:
        yield FakeLease(self._alone)

    async def health(self) -> Health:
        return Health("fleet", State.OK)

    async def aclose(self) -> None:
        pass
