"""The bytes of a connection: in order, bounded, and each wait for as long as it was told."""

from __future__ import annotations

import asyncio
import contextlib

import httpcore
import pytest

from proxy.upstream.wire import Wire, dialled
from tests.other_end import Other, connected
from tests.waiting import happened

pytestmark = pytest.mark.anyio
MUCH = b"0123456789abcdef" * 2**20


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """The loop of the standard library, and the one that serves."""
    return "asyncio", {"use_uvloop": request.param}


async def until_readable(wire: Wire) -> None:
    await happened(lambda: wire._received.there_is())


async def test_all_arrives_in_order_and_then_the_end() -> None:
    async with connected() as (wire, other):
        other.transport.write(MUCH)
        other.transport.write_eof()
        got = bytearray()
        while data := await wire.read(65536, timeout=20):
            got += data
        assert got == MUCH
        assert await wire.read(65536, timeout=20) == b""


async def test_who_does_not_read_holds_the_other_end_up() -> None:
    async with connected() as (wire, other):
        for _ in range(8):
            other.transport.write(MUCH)
        await happened(lambda: wire._received._stopped)
        for _ in range(100):
            await asyncio.sleep(0)
        assert wire._received._size < 2**20
        got = 0
        while got < 8 * len(MUCH):
            got += len(await wire.read(65536, timeout=20))


async def test_a_silent_other_end_is_not_waited_for_longer_than_told() -> None:
    async with connected() as (wire, other):
        with pytest.raises(httpcore.ReadTimeout):
            await wire.read(65536, timeout=0.01)
        other.transport.write(b"late")
        assert await wire.read(65536, timeout=20) == b"late"


async def test_an_other_end_that_does_not_read_is_not_waited_for_longer_than_told() -> None:
    async with connected() as (wire, other):
        other.transport.pause_reading()
        with pytest.raises(httpcore.WriteTimeout):
            for _ in range(8):
                await wire.write(MUCH, timeout=0.05)
        other.transport.resume_reading()
        await wire.write(b"end", timeout=20)


async def test_who_is_cancelled_loses_nothing() -> None:
    async with connected() as (wire, other):
        reading = asyncio.ensure_future(wire.read(65536, timeout=20))
        await asyncio.sleep(0)
        reading.cancel()
        other.transport.write(b"for the next")
        await until_readable(wire)
        assert await wire.read(65536, timeout=20) == b"for the next"


@pytest.mark.parametrize("words", [b"nobody asked", b""])
async def test_what_somebody_has_spoken_into_already_is_lent_to_nobody(words: bytes) -> None:
    async with connected() as (wire, other):
        if words:
            other.transport.write(words)
        else:
            other.transport.close()
        await until_readable(wire)
        with pytest.raises(httpcore.RemoteProtocolError):
            wire.lend(Other())
        async with asyncio.timeout(20):
            await other.lost.wait()


async def test_what_is_lent_comes_back_whole() -> None:
    async with connected() as (wire, other):
        borrower = Other()
        wire.lend(borrower)
        other.transport.write(b"yours")
        await happened(lambda: borrower.heard == b"yours")
        wire.take_back()
        other.transport.write(b"mine")
        assert await wire.read(65536, timeout=20) == b"mine"


async def test_after_a_reset_reads_and_writes_say_so() -> None:
    async with connected() as (wire, other):
        other.transport.abort()
        await until_readable(wire)
        with contextlib.suppress(httpcore.ReadError):
            assert await wire.read(65536, timeout=20) == b""
        async with asyncio.timeout(20):
            with pytest.raises(httpcore.WriteError):
                while True:
                    await wire.write(b"x", timeout=20)
                    await asyncio.sleep(0.001)


async def test_closed_is_closed_at_once_for_the_other_end_too() -> None:
    async with connected() as (wire, other):
        await wire.write(b"farewell", timeout=20)
        await wire.aclose()
        async with asyncio.timeout(20):
            await other.lost.wait()
        assert other.heard == b"farewell"


async def test_nobody_there_is_a_connect_error() -> None:
    with pytest.raises(httpcore.ConnectError):
        await dialled("127.0.0.1", 1, 5)
