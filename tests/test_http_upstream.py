"""The adapter to crates.io's hosts: what it sends, what it repeats, and what becomes of every fault."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import anyio
import h2.config
import h2.connection
import h2.events
import pytest

from proxy.errors import Busy, Dropped, Error, Faulty, Late
from proxy.model import Host
from proxy.upstream.base import Answer, Ask
from proxy.upstream.http import CONNECTIONS, STRAIGHT, HttpUpstream
from tests.other_end import certified
from tests.upstream import Upstream, faults

pytestmark = pytest.mark.anyio
LEAF = Ask(Host.INDEX, "GET", "/le/af/leaf")


@pytest.fixture
def crates() -> Iterator[Upstream]:
    with Upstream.running() as running:
        yield running


@contextlib.asynccontextmanager
async def adapter(crates: Upstream, patience: float = 5.0) -> AsyncIterator[HttpUpstream]:
    upstream = HttpUpstream(
        {Host.API: crates.api, Host.INDEX: crates.index, Host.STATIC: crates.static},
        user_agent="crates-proxy/0 (tests@example.org)",
        connect_timeout=2,
        patience=patience,
    )
    try:
        yield upstream
    finally:
        await upstream.aclose()


async def read(answer: Answer) -> bytes:
    try:
        return b"".join([piece async for piece in answer.body()])
    finally:
        await answer.aclose()


async def test_a_request_carries_what_it_was_given_and_who_we_are(crates: Upstream) -> None:
    async with adapter(crates) as upstream:
        ask = Ask(Host.INDEX, "GET", "/le/af/leaf", ((b"accept", b"*/*"),))
        assert await read(await upstream.send(ask)) == crates.registry.index_file("leaf")
    (asked,) = crates.asked()
    assert {name for name, _ in asked.headers} == {"host", "accept", "via", "user-agent"}
    assert asked.header("via") == "1.1 crates-proxy"
    assert asked.header("user-agent") == "crates-proxy/0 (tests@example.org)"


async def test_cookies_are_not_kept_and_redirects_not_followed(crates: Upstream) -> None:
    crates.fault("index", faults.Status(302, (("set-cookie", "a=b"), ("location", crates.static)), b""))
    async with adapter(crates) as upstream:
        for _ in range(2):
            answer = await upstream.send(LEAF)
            assert answer.head.status == 302
            await answer.aclose()
    assert [asked.header("cookie") for asked in crates.asked()] == ["", ""]
    assert not crates.asked(host="static")


async def test_a_read_on_a_connection_that_upstream_had_closed_may_be_repeated(crates: Upstream) -> None:
    async with adapter(crates) as upstream:
        await read(await upstream.send(LEAF))
        crates.fault("index", faults.Reset(), times=1)
        with pytest.raises(Dropped):
            await upstream.send(LEAF)
        assert await read(await upstream.send(LEAF)) == crates.registry.index_file("leaf")
    assert len(crates.asked()) == 3


async def test_who_asks_again_gets_a_new_connection_where_upstream_has_closed_others_with_it(crates: Upstream) -> None:
    async with adapter(crates) as upstream:
        together = [await upstream.send(LEAF) for _ in range(4)]
        for answer in together:
            await read(answer)
        crates.fault("index", faults.Reset(), times=2)
        with pytest.raises(Dropped):
            await upstream.send(LEAF)
        with pytest.raises(Faulty) as raised:
            await upstream.send(LEAF)
        assert not isinstance(raised.value, Dropped), "this one was new"


async def test_a_read_that_fails_on_a_new_connection_may_not(crates: Upstream) -> None:
    crates.fault("index", faults.Reset())
    async with adapter(crates) as upstream:
        with pytest.raises(Faulty) as raised:
            await upstream.send(LEAF)
    assert not isinstance(raised.value, Dropped) and len(crates.asked()) == 1


async def test_a_change_is_never_repeated(crates: Upstream) -> None:
    change = Ask(Host.API, "DELETE", "/api/v1/crates/leaf/1.0.0/yank")
    async with adapter(crates) as upstream:
        await read(await upstream.send(Ask(Host.API, "GET", "/api/v1/summary")))
        crates.fault("api DELETE", faults.Reset())
        with pytest.raises(Faulty) as raised:
            await upstream.send(change)
        assert not isinstance(raised.value, Dropped)
    assert len(crates.asked(method="DELETE")) == 1


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (faults.Reset(), Faulty),
        (faults.Garbage(), Faulty),
        (faults.Truncate(faults.At.HEAD), Faulty),
        (faults.Truncate(faults.At.MIDDLE), Faulty),
        (faults.Truncate(faults.At.LAST_CHUNK), Faulty),
        (faults.Length(1), Faulty),
        (faults.Reset(after=10), Faulty),
        (faults.Stall(), Late),
        (faults.Stall(head=True), Late),
    ],
    ids=repr,
)
async def test_every_fault_is_told_without_foreign_words_and_gives_its_connection_back(
    fault: faults.Fault, error: type[Error], crates: Upstream
) -> None:
    crates.fault("index", fault)
    async with adapter(crates, patience=0.2 if error is Late else 5.0) as upstream:
        for _ in range(CONNECTIONS + 1 if error is Faulty else 2):
            with pytest.raises(error) as raised:
                await read(await upstream.send(LEAF))
            assert "/le/af/leaf" in raised.value.detail
            assert "Error" not in raised.value.detail and "httpx" not in raised.value.detail
        crates.heal()
        assert await read(await upstream.send(LEAF)) == crates.registry.index_file("leaf")


async def test_nobody_listening_is_told_as_such(crates: Upstream) -> None:
    crates.stop()
    async with adapter(crates) as upstream:
        with pytest.raises(Faulty, match="cannot be reached"):
            await upstream.send(LEAF)


async def test_a_target_on_the_api_may_hold_a_secret_and_is_not_told(crates: Upstream) -> None:
    crates.stop()
    async with adapter(crates) as upstream:
        with pytest.raises(Faulty) as raised:
            await upstream.send(Ask(Host.API, "PUT", "/api/v1/confirm/secret-token"))
    assert "secret-token" not in raised.value.detail


async def test_who_finds_every_connection_busy_waits_and_then_is_told(crates: Upstream) -> None:
    async with adapter(crates, patience=0.2) as upstream:
        held = [await upstream.send(LEAF) for _ in range(CONNECTIONS)]
        with pytest.raises(Late):
            await upstream.send(LEAF)
        for answer in held:
            await answer.aclose()
        await read(await upstream.send(LEAF))


async def test_reads_that_go_straight_through_are_not_without_number_and_changes_always_go(crates: Upstream) -> None:
    me = Ask(Host.API, "GET", "/api/v1/me", straight=True, patience=0.2)
    async with adapter(crates) as upstream:
        held = [await upstream.send(replace(me, patience=5.0)) for _ in range(STRAIGHT)]
        with pytest.raises(Busy):
            await upstream.send(me)
        await read(await upstream.send(replace(me, method="DELETE", target="/api/v1/crates/leaf/follow")))
        await held.pop().aclose()
        await read(await upstream.send(me))
        for answer in held:
            await answer.aclose()


@pytest.mark.parametrize("straight", [False, True])
@pytest.mark.parametrize(
    "fault", [*(faults.Surplus(code) for code in (200, 204, 304, 404)), faults.Surplus(pause=0.01)]
)
async def test_bytes_behind_an_answer_are_never_the_answer_to_the_next_request(
    fault: faults.Surplus, straight: bool, crates: Upstream
) -> None:
    question = Ask(Host.API, "GET", "/api/v1/summary", straight=straight)
    change = Ask(Host.API, "DELETE", "/api/v1/crates/leaf/1.0.0/yank", straight=straight)
    crates.fault("api", fault)
    async with adapter(crates) as upstream:
        for ask in (question, change) * 3:
            fault.sent.clear()
            assert b"evil" not in await read(await upstream.send(ask))
            await anyio.to_thread.run_sync(fault.sent.wait, 10)
    assert len(crates.asked()) == 6  # each once: nothing had to be repeated


HEADS = {
    "a length and chunks": b"content-length: 9\r\ntransfer-encoding: chunked\r\n",
    "two lengths": b"content-length: 2\r\ncontent-length: 3\r\n",
    "a length that is none": b"content-length: +2\r\n",
    "a coding that is none": b"transfer-encoding: gzip, chunked\r\n",
    "a control character": b"content-length: 2\r\nx-a: \x7f\r\n",
    "a carriage return": b"content-length: 2\r\nx-a: b\rset-cookie: a\r\n",
    "a NUL": b"content-length: 2\r\nx-a: \0\r\n",
    "white space before the colon": b"content-length : 2\r\n",
}


@pytest.mark.parametrize("straight", [False, True])
@pytest.mark.parametrize("fields", HEADS.values(), ids=HEADS)
async def test_a_head_that_could_mean_two_things_is_no_answer(fields: bytes, straight: bool, crates: Upstream) -> None:
    crates.fault("api", faults.Garbage(b"HTTP/1.1 200 OK\r\n" + fields + b"\r\n2\r\n{}\r\n0\r\n\r\n"))
    async with adapter(crates) as upstream:
        with pytest.raises(Faulty, match="not HTTP"):
            await read(await upstream.send(Ask(Host.API, "GET", "/api/v1/summary", straight=straight)))


EARLY = b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\nX-A:  1 \r\n\r\n"
HEARD = (103, ((b"link", b"</a>; rel=preload"), (b"x-a", b"1")))


@pytest.mark.parametrize(
    ("pieces", "heard"),
    [
        ((EARLY,), [HEARD]),
        ((EARLY[:5], EARLY[5:60], EARLY[60:]), [HEARD]),
        ((EARLY + EARLY, b"HTTP/1.1 102 Processing\r\n\r\n"), [HEARD, HEARD, (102, ())]),
        ((b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 199\r\n\r\n"), [(199, ())]),
        ((b"HTTP/1.1 103 x\r\nX-A: 1\r\n\r\n",), [(103, ((b"x-a", b"1"),))]),
        ((EARLY * 20,), [HEARD] * 16),
    ],
)
async def test_interim_answers_are_heard_by_the_one_who_listens(
    pieces: tuple[bytes, ...], heard: list[object], crates: Upstream
) -> None:
    told: list[object] = []
    crates.fault("api", faults.Interim(pieces))
    ask = Ask(Host.API, "GET", "/api/v1/summary", straight=True, interim=lambda *each: told.append(each))
    async with adapter(crates) as upstream:
        for _ in range(2):  # over the same connection
            assert await read(await upstream.send(ask))
            assert told == heard
            told.clear()
        assert await read(await upstream.send(replace(ask, interim=None)))
        assert not told


@contextlib.asynccontextmanager
async def over(server: asyncio.Server, cert: str, patience: float = 5.0) -> AsyncIterator[HttpUpstream]:
    """The adapter before a server with this certificate."""
    origin = f"https://localhost:{server.sockets[0].getsockname()[1]}"
    upstream = HttpUpstream(
        dict.fromkeys(Host, origin), user_agent="x/0", connect_timeout=2, patience=patience, ca_file=cert
    )
    try:
        yield upstream
    finally:
        await upstream.aclose()
        server.close()


@contextlib.asynccontextmanager
async def over_tls(directory: Path, *answers: bytes) -> AsyncIterator[tuple[HttpUpstream, list[int]]]:
    """The adapter before a host with a certificate, which gives these answers, and how many each connection took."""
    context, cert = certified(directory)
    left, taken = list(answers), list[int]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        taken.append(0)
        number = len(taken) - 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                taken[number] += 1
                writer.write(left.pop(0))
        writer.close()

    async with over(await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context), cert) as upstream:
        yield upstream, taken


@pytest.mark.parametrize("straight", [False, True])
async def test_all_of_this_holds_over_tls(straight: bool, tmp_path: Path) -> None:
    plain = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
    told: list[object] = []
    ask = Ask(Host.API, "GET", "/", straight=straight, interim=lambda *each: told.append(each))
    async with over_tls(tmp_path, EARLY + plain, plain, plain + plain, plain) as (upstream, taken):
        for _ in range(4):
            assert await read(await upstream.send(ask)) == b"ok"
    assert taken == ([1] * 4 if straight else [3, 1])
    assert told == ([HEARD] if straight else [])


class Stalling(asyncio.Protocol):
    """HTTP/2 that answers at once, but on `/head` not at all, and on `/body` never to the end."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        self._state = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        self._state.initiate_connection()
        transport.write(self._state.data_to_send())

    def data_received(self, data: bytes) -> None:
        for event in self._state.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                path = dict(event.headers)[b":path"]
                if path != b"/head":
                    self._state.send_headers(event.stream_id, [(":status", "200")])
                    self._state.send_data(event.stream_id, b"ok", end_stream=path != b"/body")
        self._transport.write(self._state.data_to_send())


@pytest.mark.parametrize("stalls", ["/head", "/body"])
async def test_who_waits_on_a_connection_on_which_others_are_answered_does_not_wait_for_ever(
    stalls: str, tmp_path: Path
) -> None:
    context, cert = certified(tmp_path)
    context.set_alpn_protocols(["h2"])
    server = await asyncio.get_running_loop().create_server(Stalling, "127.0.0.1", 0, ssl=context)
    async with over(server, cert, patience=0.5) as upstream:

        async def answered(target: str) -> bytes:
            return await read(await upstream.send(Ask(Host.INDEX, "GET", target)))

        assert await answered("/") == b"ok"
        waiting = asyncio.create_task(answered(stalls))
        async with asyncio.timeout(30):
            while not waiting.done():
                assert await answered("/") == b"ok"
                await asyncio.sleep(0.05)
        with pytest.raises(Late):
            await waiting


class Strange(asyncio.Protocol):
    """HTTP/2 that answers with these fields."""

    def __init__(self, fields: list[tuple[str, str]]) -> None:
        self._fields = fields
        free = h2.config.H2Configuration(
            client_side=False, validate_outbound_headers=False, normalize_outbound_headers=False
        )
        self._state = h2.connection.H2Connection(free)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        self._state.initiate_connection()
        transport.write(self._state.data_to_send())

    def data_received(self, data: bytes) -> None:
        for event in self._state.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                self._state.send_headers(event.stream_id, self._fields)
                self._state.send_data(event.stream_id, b"ok", end_stream=True)
        self._transport.write(self._state.data_to_send())


@pytest.mark.parametrize(
    ("fields", "sound"),
    [
        ([(":status", "200"), ("X-A", "b")], True),
        ([(":status", "200"), ("x-a", "b\r\nset-cookie: a")], False),
        ([(":status", "200"), ("x-a", "\0")], False),
        ([(":status", "200"), ("content-length", "2"), ("transfer-encoding", "chunked")], False),
        ([(":status", "600")], False),
    ],
)
async def test_over_http2_too_a_head_is_one_of_http(fields: list[tuple[str, str]], sound: bool, tmp_path: Path) -> None:
    context, cert = certified(tmp_path)
    context.set_alpn_protocols(["h2"])
    server = await asyncio.get_running_loop().create_server(lambda: Strange(fields), "127.0.0.1", 0, ssl=context)
    async with over(server, cert) as upstream:
        for _ in range(2):
            if sound:
                answer = await upstream.send(Ask(Host.INDEX, "GET", "/"))
                assert (answer.head.headers, answer.head.framed, await read(answer)) == (((b"x-a", b"b"),), True, b"ok")
            else:
                with pytest.raises(Faulty, match="not HTTP"):
                    await upstream.send(Ask(Host.INDEX, "GET", "/"))


OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


async def test_what_goes_straight_through_has_a_connection_of_its_own(tmp_path: Path) -> None:
    ask = Ask(Host.API, "GET", "/", straight=True)
    async with over_tls(tmp_path, *[OK] * 4) as (upstream, taken):
        for method in ("GET", "PUT", "GET", "DELETE"):
            assert await read(await upstream.send(replace(ask, method=method))) == b"ok"
    assert taken == [1] * 4


async def test_nobody_is_answered_over_the_connection_of_an_answer_that_was_not_believed(tmp_path: Path) -> None:
    async with over_tls(tmp_path, *[OK] * 4) as (upstream, taken):
        for believed in (True, False, True, True):
            answer = await upstream.send(Ask(Host.STATIC, "GET", "/"))
            assert b"".join([piece async for piece in answer.body()]) == b"ok"
            if not believed:
                answer.distrust()
            await answer.aclose()
    assert taken == [2, 2]


async def whole(*given: bytes) -> AsyncIterator[bytes]:
    for piece in given:
        yield piece


@pytest.mark.parametrize(
    ("ask", "framing"),
    [
        (Ask(Host.API, "GET", "/api/v1/me"), {}),
        (Ask(Host.API, "DELETE", "/api/v1/crates/leaf/follow"), {}),
        (Ask(Host.API, "PUT", "/api/v1/crates/leaf/follow"), {"content-length": "0"}),
        (Ask(Host.API, "PUT", "/api/v1/a", ((b"content-length", b"0"),)), {"content-length": "0"}),
        (Ask(Host.API, "PUT", "/api/v1/a", body=whole(b"a", b"bc")), {"transfer-encoding": "chunked"}),
        (Ask(Host.API, "PUT", "/api/v1/a", ((b"content-length", b"3"),), whole(b"abc")), {"content-length": "3"}),
        (Ask(Host.API, "DELETE", "/api/v1/a", ((b"content-length", b"3"),), whole(b"abc")), {"content-length": "3"}),
    ],
)
async def test_a_request_says_once_how_long_its_body_is(ask: Ask, framing: dict[str, str], crates: Upstream) -> None:
    async with adapter(crates) as upstream:
        await read(await upstream.send(replace(ask, straight=True)))
    (asked,) = crates.asked()
    names = [name.lower() for name, _ in asked.headers]
    assert {name: asked.header(name) for name in names if name in ("content-length", "transfer-encoding")} == framing
    assert len(names) == len(set(names)) and asked.body_length == (3 if ask.body else 0)


async def test_a_refusal_before_the_body_is_read_reaches_the_one_who_sends_it(tmp_path: Path) -> None:
    refusal = b"HTTP/1.1 413 Payload Too Large\r\ncontent-length: 2\r\n\r\nno"
    sent = 0

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(refusal)
        await writer.drain()
        gone.set()
        await over_now.wait()
        writer.close()

    async def upload() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(100):
            yield b"x" * 2**20
            sent += 1
            if sent == 1:
                await gone.wait()

    gone, over_now = asyncio.Event(), asyncio.Event()
    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    origin = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    upstream = HttpUpstream(dict.fromkeys(Host, origin), user_agent="x/0", connect_timeout=2, patience=20)
    ask = Ask(Host.API, "PUT", "/api/v1/crates/new", ((b"content-length", b"104857600"),), upload(), straight=True)
    answer = await upstream.send(ask)
    assert (answer.head.status, await read(answer)) == (413, b"no")
    assert sent < 100
    over_now.set()
    await upstream.aclose()
    server.close()
