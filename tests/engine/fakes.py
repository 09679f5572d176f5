"""Small honest objects at the seams of the engine."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from proxy.model import Head
from proxy.upstream.base import Ask


class FakeAnswer:
    def __init__(self, body: bytes) -> None:
        length = (b"content-length", b"%d" % len(body))
        self.head = Head(200, ((b"content-type", b"application/json"), length))
        self._body = body

    async def body(self) -> AsyncGenerator[bytes]:
        yield self._body

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
