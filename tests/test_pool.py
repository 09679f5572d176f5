"""The connections to one host: how many there are, which is taken, and what becomes of each."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import httpcore
import httpx
import pytest

from proxy.upstream.connecting import Tls, Way
from proxy.upstream.exchange import Sending
from proxy.upstream.pool import Pool
from tests.other_end import certified
from tests.waiting import happened

pytestmark = pytest.mark.anyio
KEPT = 3


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """The loop of the standard library, and the one that serves."""
    return "asyncio", {"use_uvloop": request.param}


class Plain(asyncio.Protocol):
    """A server of HTTP/1.1 that says "ok" as soon as it `may`. `taken`: requests of each connection."""

    def __init__(self, taken: list[int], may: asyncio.Event) -> None:
        self._taken = taken
        self._may = may
        self._number = len(taken)
        taken.append(0)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._taken[self._number] += data.count(b"\r\n\r\n")
        self._answering = asyncio.ensure_future(self._answer())

    async def _answer(self) -> None:
        await self._may.wait()
        self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")


class Multiplexed(asyncio.Protocol):
    """The same of HTTP/2, as far as a reader needs it. It says farewell after `most` requests."""

    def __init__(self, taken: list[int], may: asyncio.Event, most: int) -> None:
        self._taken = taken
        self._may = may
        self._left = most
        self._number = len(taken)
        taken.append(0)
        self._state = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        self._answering: set[asyncio.Future[None]] = set()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        self._state.initiate_connection()
        transport.write(self._state.data_to_send())

    def data_received(self, data: bytes) -> None:
        for event in self._state.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                self._taken[self._number] += 1
                self._answering.add(asyncio.ensure_future(self._answer(event.stream_id)))
        self._transport.write(self._state.data_to_send())

    async def _answer(self, stream: int) -> None:
        await self._may.wait()
        with contextlib.suppress(h2.exceptions.ProtocolError):
            self._state.send_headers(stream, [(":status", "200")])
            self._state.send_data(stream, b"ok", end_stream=True)
            self._left -= 1
            if self._left == 0:
                self._state.close_connection()
        self._transport.write(self._state.data_to_send())


async def passed_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
    writer.close()


@contextlib.asynccontextmanager
async def tunnelling() -> AsyncIterator[tuple[str, list[bytes]]]:
    """A proxy that knows CONNECT, and what it was asked for."""
    asked: list[bytes] = []
    passing: set[asyncio.Future[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[0])
        port = int(asked[-1].split()[1].rpartition(b":")[2])
        far = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"HTTP/1.1 200 Established\r\n\r\n")
        passing.add(asyncio.ensure_future(passed_on(reader, far[1])))
        passing.add(asyncio.ensure_future(passed_on(far[0], writer)))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked
    server.close()
    await asyncio.wait(passing, timeout=20)


def pooled(origin: str, ca_file: str = "", proxy: str | None = None, idle: float = 60) -> Pool:
    through = None if proxy is None else httpx.Proxy(proxy)
    way = Way(httpx.URL(origin), Tls.believing(ca_file), offering=True, within=5, proxy=through)
    return Pool(way, kept=KEPT, idle=idle)


@contextlib.asynccontextmanager
async def listening(
    made: Callable[[], asyncio.Protocol],
    tls: tuple[ssl.SSLContext, str] | None = None,
    proxy: str | None = None,
    idle: float = 60,
) -> AsyncIterator[Pool]:
    """A pool before a server of such connections."""
    server = await asyncio.get_running_loop().create_server(made, "127.0.0.1", 0, ssl=tls and tls[0])
    port = server.sockets[0].getsockname()[1]
    pool = pooled(f"{'https' if tls else 'http'}://localhost:{port}", tls[1] if tls else "", proxy, idle)
    try:
        yield pool
    finally:
        await pool.aclose()
        server.close()


async def said(pool: Pool) -> tuple[bytes, bool]:
    """What the host says, and whether over a connection that had served."""
    sending = Sending(b"GET", b"/", pool.way.fields, 5)
    reply = await pool.send(sending)
    body = b""
    while piece := await reply.piece():
        body += piece
    await reply.aclose()
    return body, sending.reused


async def crowd(pool: Pool, may: asyncio.Event, many: int, arrived: Callable[[], Awaitable[None]]) -> list[bool]:
    """So many at a time, all of which wait for their answers; over which of them others had been before."""
    may.clear()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(said(pool)) for _ in range(many)]
        await arrived()
        may.set()
    assert {body for body, _ in map(asyncio.Task.result, tasks)} == {b"ok"}
    return [reused for _, reused in map(asyncio.Task.result, tasks)]


async def passed(seconds: float) -> None:
    end = asyncio.get_running_loop().time() + seconds
    await happened(lambda: asyncio.get_running_loop().time() > end)


def reached(taken: list[int], total: int) -> Callable[[], Awaitable[None]]:
    return lambda: happened(lambda: sum(taken) >= total)


async def test_each_has_a_connection_to_itself_and_the_last_ones_are_kept() -> None:
    taken, may = list[int](), asyncio.Event()
    async with listening(lambda: Plain(taken, may)) as pool:
        assert not any(await crowd(pool, may, 5, reached(taken, 5)))
        assert taken == [1] * 5
        assert (await crowd(pool, may, 5, reached(taken, 10))).count(True) == KEPT
        assert len(taken) == 5 + 5 - KEPT


async def test_one_after_the_other_shares_one() -> None:
    taken, may = list[int](), asyncio.Event()
    may.set()
    async with listening(lambda: Plain(taken, may)) as pool:
        assert [await said(pool) for _ in range(4)] == [(b"ok", reused) for reused in (False, True, True, True)]
    assert taken == [4]


@pytest.mark.parametrize("protocol", ["http/1.1", "h2"])
async def test_one_that_has_been_idle_for_longer_than_told_is_not_taken(protocol: str, tmp_path: Path) -> None:
    taken, may = list[int](), asyncio.Event()
    may.set()
    server, client = certified(tmp_path)
    server.set_alpn_protocols([protocol])

    def made() -> asyncio.Protocol:
        return Multiplexed(taken, may, 100) if protocol == "h2" else Plain(taken, may)

    async with listening(made, (server, client), idle=0.05) as pool:
        for number in range(1, 3):
            await said(pool)
            assert taken == [1] * number
            await passed(0.1)
        assert len(pool._open) == 1


async def test_who_gives_one_back_closes_the_one_that_has_been_idle_for_too_long() -> None:
    taken, may = list[int](), asyncio.Event()
    async with listening(lambda: Plain(taken, may)) as pool:
        await crowd(pool, may, KEPT, reached(taken, KEPT))
        pool._idle[0].rested -= 100
        assert await said(pool) == (b"ok", True)
        assert len(pool._open) == len(pool._idle) == KEPT - 1


async def test_a_pool_that_is_closed_keeps_nothing_open() -> None:
    taken, may = list[int](), asyncio.Event()
    may.set()
    async with listening(lambda: Plain(taken, may)) as pool:
        reply = await pool.send(Sending(b"GET", b"/", pool.way.fields, 5))
        await pool.aclose()
        await reply.aclose()
        assert not pool._open and not pool._idle


async def test_who_is_cancelled_takes_his_connection_along_and_no_other() -> None:
    taken, may = list[int](), asyncio.Event()
    async with listening(lambda: Plain(taken, may)) as pool:
        leaving, staying = asyncio.ensure_future(said(pool)), asyncio.ensure_future(said(pool))
        await reached(taken, 2)()
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        may.set()
        assert await staying == (b"ok", False)
        assert await said(pool) == (b"ok", True)
    assert sorted(taken) == [1, 2]


async def test_over_http2_all_share_one_from_the_first_on(tmp_path: Path) -> None:
    taken, may = list[int](), asyncio.Event()
    server, client = certified(tmp_path)
    server.set_alpn_protocols(["h2"])
    async with listening(lambda: Multiplexed(taken, may, 100), (server, client)) as pool:
        may.set()
        await said(pool)
        assert all(await crowd(pool, may, 8, reached(taken, 9)))
        leaving, staying = asyncio.ensure_future(said(pool)), asyncio.ensure_future(said(pool))
        may.clear()
        await reached(taken, 11)()
        leaving.cancel()
        may.set()
        assert await staying == (b"ok", True)
    assert taken == [11]


async def test_a_crowd_waits_for_the_first_connection_over_http2(tmp_path: Path) -> None:
    taken, may = list[int](), asyncio.Event()
    may.set()
    server, client = certified(tmp_path)
    server.set_alpn_protocols(["h2"])
    async with listening(lambda: Multiplexed(taken, may, 100), (server, client)) as pool:
        found = await asyncio.gather(*(said(pool) for _ in range(8)))
    assert {body for body, _ in found} == {b"ok"}
    assert taken == [8]


async def test_after_a_farewell_there_is_another_connection(tmp_path: Path) -> None:
    taken, may = list[int](), asyncio.Event()
    may.set()
    server, client = certified(tmp_path)
    server.set_alpn_protocols(["h2"])
    async with listening(lambda: Multiplexed(taken, may, 2), (server, client)) as pool:
        bodies = list[bytes]()
        while len(bodies) < 5:
            with contextlib.suppress(httpcore.RemoteProtocolError):  # it came while the request was on its way
                bodies.append((await said(pool))[0])
    assert bodies == [b"ok"] * 5
    assert len(taken) == 3


async def test_where_http2_is_offered_and_not_taken_each_gets_one(tmp_path: Path) -> None:
    taken, may = list[int](), asyncio.Event()
    server, client = certified(tmp_path)
    server.set_alpn_protocols(["http/1.1"])
    async with listening(lambda: Plain(taken, may), (server, client)) as pool:
        assert not any(await crowd(pool, may, 3, reached(taken, 3)))
        assert all(await crowd(pool, may, 3, reached(taken, 6)))
    assert taken == [2, 2, 2]


async def test_a_host_that_cannot_be_reached_leaves_nothing_behind() -> None:
    taken, may = list[int](), asyncio.Event()
    may.set()
    async with listening(lambda: Plain(taken, may)) as pool:
        nowhere = pooled("http://127.0.0.1:1")
        for _ in range(3):
            with pytest.raises(httpcore.ConnectError):
                await said(nowhere)
        assert not nowhere._open
        await nowhere.aclose()
        assert await said(pool) == (b"ok", False)


@pytest.mark.parametrize("protocol", ["http/1.1", "h2"])
async def test_all_of_this_holds_behind_a_proxy(protocol: str, tmp_path: Path) -> None:
    taken, may = list[int](), asyncio.Event()
    may.set()
    server, client = certified(tmp_path)
    async with tunnelling() as (proxy, asked):
        server.set_alpn_protocols([protocol])

        def made() -> asyncio.Protocol:
            return Multiplexed(taken, may, 100) if protocol == "h2" else Plain(taken, may)

        async with listening(made, (server, client), proxy) as pool:
            assert [await said(pool) for _ in range(3)] == [(b"ok", reused) for reused in (False, True, True)]
    assert taken == [3]
    assert len(asked) == 1 and asked[0].startswith(b"CONNECT localhost:")
