"""A tarball in several processes that share a `cache.dir`: here members of one fleet, each with a store of its own."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from proxy.engine.fill import Fill
from proxy.errors import Faulty
from proxy.fleet.local import LocalFleet
from proxy.model import Crate, Head
from proxy.stores.blobs import DiskBlobs
from proxy.upstream.base import Ask
from tests.waiting import happened

pytestmark = pytest.mark.anyio

PIECE = 1000
BODY = os.urandom(10 * PIECE)
SHA256 = hashlib.sha256(BODY).hexdigest()
CRATE = Crate("big", "1.0.0")
LARGE = 1 << 30  # more than it is


class Answer:
    """A body that comes as far as it is let, and then breaks off where it is told to."""

    def __init__(self, body: bytes) -> None:
        self.head = Head(200, ((b"content-length", b"%d" % len(BODY)),))
        self._body = body
        self._pieces: asyncio.Queue[int | None] = asyncio.Queue()
        self.distrusted = False

    def let(self, count: int) -> None:
        """So many pieces more."""
        self._pieces.put_nowait(count)

    def break_off(self) -> None:
        self._pieces.put_nowait(None)

    async def body(self) -> AsyncGenerator[bytes]:
        offset = 0
        while offset < len(self._body):
            count = await self._pieces.get()
            if count is None:
                raise Faulty("broken off")
            for _ in range(count):
                yield self._body[offset : offset + PIECE]
                offset += PIECE

    def distrust(self) -> None:
        self.distrusted = True

    async def aclose(self) -> None:
        pass


class Upstream:
    """What each request is answered with, in order."""

    def __init__(self, *bodies: bytes) -> None:
        self.answers = [Answer(body) for body in bodies]
        self.asked = 0

    async def send(self, ask: Ask) -> Answer:
        self.asked += 1
        return self.answers[self.asked - 1]

    async def aclose(self) -> None:
        pass


class Process:
    """One of the processes, with a fill and one reader of it."""

    def __init__(self, upstream: Upstream, blobs: DiskBlobs, fleet: LocalFleet, largest: int) -> None:
        self.fill = Fill(CRATE, SHA256, largest=largest)
        self.received = b""
        self.fill.enter()
        self.running = asyncio.create_task(self.fill.run(upstream, blobs, fleet, lambda name, what: None))
        self.reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            async for piece in self.fill.pieces():
                self.received += piece
        finally:
            await self.fill.leave()

    async def has(self, size: int) -> None:
        await happened(lambda: len(self.received) >= size)

    async def is_whole(self) -> bool:
        async with asyncio.timeout(5):
            await self.reading
        return self.received == BODY

    async def dies(self) -> None:
        self.running.cancel()
        await asyncio.gather(self.running, self.reading, return_exceptions=True)


class Machine:
    def __init__(self, directory: Path, upstream: Upstream, stack: AsyncExitStack) -> None:
        self.upstream = upstream
        self._directory = directory
        self._stack = stack

    async def process(self, largest: int = LARGE) -> Process:
        fleet = await LocalFleet.opened(self._directory, lambda _: None, lambda: None)
        self._stack.push_async_callback(fleet.aclose)
        blobs = DiskBlobs.opened(self._directory / "tarballs", 0, lambda name, what: None)
        self._stack.push_async_callback(blobs.aclose)
        process = Process(self.upstream, blobs, fleet, largest)
        self._stack.push_async_callback(process.dies)
        return process

    async def filler(self, pieces: int, largest: int = LARGE) -> Process:
        """One that asks upstream, and has got so many pieces."""
        number = self.upstream.asked
        process = await self.process(largest)
        await happened(lambda: self.upstream.asked > number)
        self.upstream.answers[number].let(pieces)
        await process.has((pieces - 1) * PIECE)
        return process


@asynccontextmanager
async def machine(directory: Path, *bodies: bytes) -> AsyncIterator[Machine]:
    async with AsyncExitStack() as stack:
        yield Machine(directory, Upstream(*bodies), stack)


async def test_others_read_along_and_never_get_the_newest_piece(tmp_path: Path) -> None:
    async with machine(tmp_path, BODY) as here:
        filler = await here.filler(3)
        first, second = await here.process(), await here.process()
        await first.has(2 * PIECE)
        await second.has(2 * PIECE)
        here.upstream.answers[0].let(6)
        await first.has(8 * PIECE)
        assert first.received == filler.received == BODY[: 8 * PIECE]
        assert first.fill.size == len(BODY) and not first.fill.fetched
        here.upstream.answers[0].let(1)
        assert await filler.is_whole() and await first.is_whole() and await second.is_whole()
        assert here.upstream.asked == 1


async def test_who_comes_when_it_is_stored_reads_the_file(tmp_path: Path) -> None:
    async with machine(tmp_path, BODY) as here:
        assert await (await here.filler(10)).is_whole()
        assert await (await here.process()).is_whole()
        assert here.upstream.asked == 1


@pytest.mark.parametrize("way", ["the process dies", "upstream breaks off"])
@pytest.mark.parametrize("behind", [1, 6], ids=["at the first piece", "half way"])
async def test_the_next_one_goes_on_where_the_filler_came_to_its_end(tmp_path: Path, way: str, behind: int) -> None:
    async with machine(tmp_path, BODY, BODY) as here:
        filler = await here.filler(behind)
        first, second = await here.process(), await here.process()
        await first.has((behind - 1) * PIECE)
        await second.has((behind - 1) * PIECE)
        if way == "upstream breaks off":
            here.upstream.answers[0].break_off()
            with pytest.raises(Faulty):
                await filler.is_whole()
        else:
            await filler.dies()
        await happened(lambda: here.upstream.asked == 2)
        here.upstream.answers[1].let(behind + 1)
        await first.has(behind * PIECE)
        await second.has(behind * PIECE)
        here.upstream.answers[1].let(9 - behind)
        assert await first.is_whole() and await second.is_whole()
        assert sorted([first.fill.fetched, second.fill.fetched]) == [False, True]


async def test_bytes_that_come_differently_the_second_time_make_no_answer(tmp_path: Path) -> None:
    wrong = b"?" + BODY[1:]
    async with machine(tmp_path, wrong, BODY, BODY) as here:  # the other may not hear why, and asks himself
        filler = await here.filler(5)
        first, second = await here.process(), await here.process()
        await first.has(4 * PIECE)
        await second.has(4 * PIECE)
        await filler.dies()
        await happened(lambda: here.upstream.asked == 2)
        for answer in here.upstream.answers[1:]:
            answer.let(10)
        for process in (first, second):
            with pytest.raises(Faulty, match="differently"):
                await process.is_whole()
            assert process.received == wrong[: 4 * PIECE]


async def test_a_file_too_large_to_be_stored_is_fetched_once_for_those_who_come_while_it_does(tmp_path: Path) -> None:
    async with machine(tmp_path, BODY, BODY) as here:
        filler = await here.filler(5, largest=100)
        readers = [await here.process(largest=100) for _ in range(3)]
        for reader in readers:
            await reader.has(4 * PIECE)
        here.upstream.answers[0].let(5)
        assert await filler.is_whole()
        assert [await reader.is_whole() for reader in readers] == [True] * 3
        assert here.upstream.asked == 1 and not any(reader.fill.fetched or reader.fill.kept for reader in readers)
        late = await here.process(largest=100)
        await happened(lambda: here.upstream.asked == 2)
        here.upstream.answers[1].let(10)
        assert await late.is_whole()
    assert not list((tmp_path / "tarballs/tmp").iterdir())


async def test_nobody_takes_the_last_byte_of_a_file_that_is_not_right(tmp_path: Path) -> None:
    wrong = BODY[:-1] + bytes([BODY[-1] ^ 1])
    async with machine(tmp_path, wrong, BODY) as here:
        filler = await here.filler(5, largest=100)
        reader = await here.process(largest=100)
        await reader.has(4 * PIECE)
        here.upstream.answers[0].let(5)
        with pytest.raises(Faulty, match="checksum"):
            await filler.is_whole()
        await happened(lambda: here.upstream.asked == 2)
        assert len(reader.received) <= 9 * PIECE
        here.upstream.answers[1].let(10)
        assert await reader.is_whole()
        assert [answer.distrusted for answer in here.upstream.answers] == [True, False]


async def test_words_about_a_file_that_is_gone_are_waited_out(tmp_path: Path) -> None:
    async with machine(tmp_path, BODY) as here:
        filler = await here.filler(5)
        for file in (tmp_path / "tarballs/tmp").iterdir():
            file.rename(tmp_path / file.name)
        reader = await here.process()
        for file in tmp_path.glob("*-*"):
            file.rename(tmp_path / "tarballs/tmp" / file.name)
        here.upstream.answers[0].let(5)
        assert await filler.is_whole() and await reader.is_whole()
        assert here.upstream.asked == 1
