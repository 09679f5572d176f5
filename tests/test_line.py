"""A connection of HTTP/1.1: what goes out, what is waited for and how long, and when it is over."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import httpcore
import pytest

from proxy.model import Headers
from proxy.upstream.exchange import Sending
from proxy.upstream.line import FULL, Answered, Line
from proxy.upstream.wire import dialled
from tests import virtual_time
from tests.other_end import Other, certified, connected
from tests.waiting import happened

pytestmark = pytest.mark.anyio
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
HOST = (b"Host", b"a")
MUCH = b"0123456789abcdef" * 2**16


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """The loop of the standard library, and the one that serves."""
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, str]:
    return certified(tmp_path_factory.mktemp("tls"))


@pytest.fixture(params=[False, True], ids=["plain", "tls"])
def tls(request: pytest.FixtureRequest, certificate: tuple[ssl.SSLContext, str]) -> tuple[ssl.SSLContext, str] | None:
    return certificate if request.param else None


Tls = tuple[ssl.SSLContext, str] | None


@contextlib.asynccontextmanager
async def lined(tls: Tls = None) -> AsyncIterator[tuple[Line, Other]]:
    async with connected(tls) as (wire, other):
        yield Line(wire), other


def get(method: bytes = b"GET", *fields: tuple[bytes, bytes], **more: Any) -> Sending:
    return Sending(method, b"/a?b", (HOST, *fields), **{"patience": 20, **more})


async def answered(line: Line, other: Other, said: bytes, sending: Sending | None = None) -> Answered:
    """The answer to a request, which is said when the head of that has been heard."""
    asking = asyncio.ensure_future(line.ask(sending or get()))
    await happened(lambda: asking.done() or b"\r\n\r\n" in other.heard)
    other.transport.write(said)
    return await asking


async def read(answer: Answered) -> bytes:
    body = b""
    while piece := await answer.piece():
        body += piece
    return body


async def pieces(*given: bytes) -> AsyncIterator[bytes]:
    for piece in given:
        yield piece


async def test_one_request_after_the_other_goes_over_it(tls: Tls) -> None:
    async with lined(tls) as (line, other):
        for number in range(3):
            assert line.served is (number > 0)
            answer = await answered(line, other, OK, get(b"GET", (b"accept", b"*/*"), (b"via", b"x")))
            assert (answer.status, answer.fields) == (200, ((b"content-length", b"2"),))
            assert await read(answer) == b"ok"
            assert line.rest() and line.usable()
            assert other.heard == b"GET /a?b HTTP/1.1\r\nHost: a\r\naccept: */*\r\nvia: x\r\n\r\n"
            other.heard.clear()


async def test_a_head_in_many_pieces_and_a_body_that_comes_later(tls: Tls) -> None:
    async with lined(tls) as (line, other):
        asking = asyncio.ensure_future(line.ask(get()))
        await happened(lambda: b"\r\n\r\n" in other.heard)
        for byte in OK[:-1]:
            other.transport.write(bytes([byte]))
            await asyncio.sleep(0)
        answer = await asking
        assert await answer.piece() == b"o"
        reading = asyncio.ensure_future(answer.piece())
        await asyncio.sleep(0)
        other.transport.write(b"k")
        assert await reading == b"k"
        assert await answer.piece() == b""


def resetting(other: Other) -> None:
    """The other end leaves without an end."""
    sock = other.transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    other.transport.abort()


def _heard(other: Other, size: int) -> bool:
    return len(other.heard) >= size


STRANGE: dict[str, Sending] = {
    "a line break in a value": get(b"GET", (b"a", b"b\r\nc: d")),
    "a line feed in a value": get(b"GET", (b"a", b"b\nc: d")),
    "a carriage return in a value": get(b"GET", (b"a", b"b\rc")),
    "a NUL in a value": get(b"GET", (b"a", b"\0")),
    "a line break in a name": get(b"GET", (b"a\r\nb", b"c")),
    "a colon in a name": get(b"GET", (b"a:b", b"c")),
    "a blank line": get(b"GET", (b"", b"")),
    "a space in the target": Sending(b"GET", b"/ HTTP/1.1\r\nx: y", (HOST,), 20),
    "a line break in the target": Sending(b"GET", b"/\r\nx:y", (HOST,), 20),
    "no target": Sending(b"GET", b"", (HOST,), 20),
    "a space in the method": Sending(b"GET /", b"/", (HOST,), 20),
    "a body that there is not": get(b"PUT", (b"content-length", b"5")),
}


@pytest.mark.parametrize("sending", STRANGE.values(), ids=STRANGE)
async def test_what_would_be_read_as_something_else_never_leaves(sending: Sending) -> None:
    async with lined() as (line, other):
        with pytest.raises(httpcore.LocalProtocolError):
            await line.ask(sending)
        await other.lost.wait()
        assert not other.heard and not line.usable()


@pytest.mark.parametrize("given", [(b"he", b"", b"llo"), (b"hello",), (MUCH, b"x" * 5)])
async def test_a_body_goes_with_its_length_or_in_chunks(given: tuple[bytes, ...], tls: Tls) -> None:
    whole = b"".join(given)
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in given if each) + b"0\r\n\r\n"
    for field, sent in (((b"content-length", b"%d" % len(whole)), whole), ((b"transfer-encoding", b"chunked"), chunks)):
        async with lined(tls) as (line, other):
            asking = asyncio.ensure_future(line.ask(get(b"PUT", field, body=pieces(*given))))
            expected = b"PUT /a?b HTTP/1.1\r\nHost: a\r\n%b: %b\r\n\r\n%b" % (*field, sent)
            await happened(partial(_heard, other, len(expected)))
            other.transport.write(OK)
            assert await read(await asking) == b"ok"
            assert other.heard == expected and line.rest()


@pytest.mark.parametrize("length", [b"4", b"6"])
async def test_a_body_of_another_length_than_announced_ends_the_connection(length: bytes) -> None:
    async with lined() as (line, other):
        with pytest.raises(httpcore.LocalProtocolError):
            await line.ask(get(b"PUT", (b"content-length", length), body=pieces(b"he", b"llo")))
        await other.lost.wait()
        assert len(other.heard.partition(b"\r\n\r\n")[2]) <= int(length)


async def test_what_goes_wrong_with_the_body_is_told_and_the_connection_ends(tls: Tls) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"he"
        raise KeyError("its client has gone")

    async with lined(tls) as (line, other):
        with pytest.raises(KeyError):
            await line.ask(get(b"PUT", (b"content-length", b"5"), body=broken()))
        await other.lost.wait()
        assert not line.rest()


@pytest.mark.parametrize("reading", [False, True], ids=["the other end reads no more", "it reads on"])
async def test_a_refusal_before_the_body_is_there_is_the_answer(reading: bool, tls: Tls) -> None:
    refusal = b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno"
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            yield MUCH
            await asyncio.sleep(0)

    async with lined(tls) as (line, other):
        asking = asyncio.ensure_future(line.ask(get(b"PUT", (b"transfer-encoding", b"chunked"), body=endless())))
        await happened(lambda: b"\r\n\r\n" in other.heard)
        if not reading:
            other.transport.pause_reading()
        other.transport.write(refusal)
        answer = await asking
        assert (answer.status, await read(answer)) == (413, b"no")
        assert not line.rest(), "who would know where the next request begins?"


async def test_a_refusal_counts_even_where_the_connection_dies_with_it() -> None:
    more = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"he"
        await more.wait()
        yield b"llo"

    async with lined() as (line, other):
        asking = asyncio.ensure_future(line.ask(get(b"PUT", (b"content-length", b"5"), body=slow())))
        await happened(lambda: b"\r\n\r\n" in other.heard)
        other.transport.write(b"HTTP/1.1 401 No\r\ncontent-length: 2\r\n\r\nno")
        other.transport.close()
        await happened(lambda: line._ended)
        more.set()
        answer = await asking
        assert (answer.status, await read(answer)) == (401, b"no")


async def test_an_early_answer_that_refuses_nothing_does_not_stop_the_body(tls: Tls) -> None:
    more = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"he"
        await more.wait()
        yield b"llo"

    async with lined(tls) as (line, other):
        asking = asyncio.ensure_future(line.ask(get(b"PUT", (b"content-length", b"5"), body=slow())))
        await happened(lambda: b"\r\n\r\n" in other.heard)
        other.transport.write(OK)
        await happened(lambda: line._reading is not None and line._reading.done)
        more.set()
        assert await read(await asking) == b"ok"
        await happened(lambda: other.heard.endswith(b"hello"))
        assert line.rest()


async def test_an_other_end_that_reads_no_body_is_not_waited_for_longer_than_told(tls: Tls) -> None:
    async with lined(tls) as (line, other):
        other.transport.pause_reading()
        body = pieces(*[MUCH] * 64)
        with pytest.raises(httpcore.WriteTimeout):
            await line.ask(get(b"PUT", (b"transfer-encoding", b"chunked"), body=body, patience=0.1))


async def test_an_other_end_that_goes_while_it_is_sent_to_is_told() -> None:
    async with lined() as (line, other):

        async def endless() -> AsyncIterator[bytes]:
            while True:
                yield MUCH
                other.transport.abort()

        with pytest.raises((httpcore.ReadError, httpcore.RemoteProtocolError)):
            await line.ask(get(b"PUT", (b"transfer-encoding", b"chunked"), body=endless()))


@pytest.mark.parametrize("said", [b"", OK[:20], OK[:-1]])
@pytest.mark.parametrize("how", ["an end", "a reset", "garbage", "silence"])
async def test_an_answer_that_is_not_whole_is_an_error_wherever_it_breaks(said: bytes, how: str, tls: Tls) -> None:
    if how == "garbage" and said == OK[:-1]:
        return  # any byte does for a body
    async with lined(tls) as (line, other):
        asking = asyncio.ensure_future(line.ask(get(patience=0.2 if how == "silence" else 20)))
        await happened(lambda: b"\r\n\r\n" in other.heard)
        other.transport.write(said)
        match how:
            case "an end":
                other.transport.close()
            case "a reset":
                resetting(other)
            case "garbage":
                other.transport.write(b"\0\n\0\n")
        expected: tuple[type[Exception], ...] = (httpcore.RemoteProtocolError,)
        if how == "silence":
            expected = (httpcore.ReadTimeout,)
        elif how == "a reset":
            expected = (httpcore.ReadError, httpcore.RemoteProtocolError)
        with pytest.raises(expected):
            await read(await asking)
        assert not line.rest()


async def test_where_the_connection_ends_the_body_it_may_end_but_not_break(tls: Tls) -> None:
    for reset in (False, True):
        async with lined(tls) as (line, other):
            answer = await answered(line, other, b"HTTP/1.1 200 OK\r\n\r\nhel")
            assert not answer.framed
            assert await answer.piece() == b"hel"
            if not reset:
                other.transport.write(b"lo")
                other.transport.close()
                assert await read(answer) == b"lo"
            elif tls is None:
                resetting(other)
                with pytest.raises(httpcore.ReadError):
                    await read(answer)
            assert not line.rest()


async def test_who_does_not_read_holds_the_other_end_up(tls: Tls) -> None:
    async with lined(tls) as (line, other):
        answer = await answered(line, other, b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (32 * len(MUCH)))
        for _ in range(32):
            other.transport.write(MUCH)
        await happened(lambda: line._stopped)
        for _ in range(100):
            await asyncio.sleep(0)
        assert line._reading is not None and line._reading.size < FULL + 2**19
        got = 0
        while piece := await answer.piece():
            assert len(piece) <= FULL
            got += len(piece)
        assert got == 32 * len(MUCH) and line.rest()


@pytest.mark.parametrize("said", [b"", OK[:-1]])
async def test_who_is_cancelled_takes_the_connection_along(said: bytes, tls: Tls) -> None:
    async with lined(tls) as (line, other):

        async def asked() -> None:
            await read(await line.ask(get()))

        asking = asyncio.ensure_future(asked())
        await happened(lambda: b"\r\n\r\n" in other.heard)
        other.transport.write(said)
        await happened(lambda: not said or (line._reading is not None and line._reading.begun))
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert not line.rest()
        await line.aclose()
        await other.lost.wait()


async def test_who_is_cancelled_while_he_sends_takes_the_connection_along(tls: Tls) -> None:
    async with lined(tls) as (line, other):
        other.transport.pause_reading()
        body = pieces(*[MUCH] * 64)
        asking = asyncio.ensure_future(line.ask(get(b"PUT", (b"transfer-encoding", b"chunked"), body=body)))
        await happened(lambda: line._full)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        other.transport.resume_reading()
        await other.lost.wait()
        assert not line.usable()


@pytest.mark.parametrize("more", [b"H", b"\r\n", OK])
@pytest.mark.parametrize("when", ["with it", "before it is given back", "after that"])
async def test_what_nobody_has_asked_for_ends_the_connection(when: str, more: bytes, tls: Tls) -> None:
    async with lined(tls) as (line, other):
        answer = await answered(line, other, OK + more if when == "with it" else OK)
        assert await read(answer) == b"ok"
        if when == "before it is given back":
            other.transport.write(more)
            await happened(lambda: line._ended)
        assert line.rest() is (when == "after that")
        if when == "after that":
            other.transport.write(more)
            await happened(lambda: line._ended)
            assert not line.usable()
        else:
            await other.lost.wait()
        with pytest.raises(httpcore.RemoteProtocolError):
            await line.ask(get())


@pytest.mark.parametrize("said", [b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil", b""])
async def test_it_is_not_used_where_only_the_kernel_knows_what_has_come(said: bytes) -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    listening.settimeout(20)
    with listening:
        wire = await dialled("127.0.0.1", listening.getsockname()[1], 20)
        line, (other, _) = Line(wire), listening.accept()
        with other:
            other.sendall(OK)
            assert await read(await line.ask(get())) == b"ok"
            assert line.rest() and line.usable()
            if said:
                other.sendall(said)
            else:
                other.shutdown(socket.SHUT_WR)
            assert not line.usable()  # the loop has had no turn since
        await line.aclose()


async def test_an_idle_connection_that_the_other_end_closes_is_not_used(tls: Tls) -> None:
    async with lined(tls) as (line, other):
        await read(await answered(line, other, OK))
        assert line.rest()
        other.transport.close()
        await happened(lambda: line._ended)
        assert not line.usable()


@pytest.mark.parametrize("field", [b"connection: close", b"Connection: a, close"])
async def test_it_is_not_kept_where_the_other_end_says_so(field: bytes, tls: Tls) -> None:
    async with lined(tls) as (line, other):
        answer = await answered(line, other, b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n" + field + b"\r\n\r\nok")
        assert await read(answer) == b"ok" and not line.rest()


async def test_a_body_that_nobody_has_read_to_the_end_is_in_the_way(tls: Tls) -> None:
    async with lined(tls) as (line, other):
        answer = await answered(line, other, OK[:-1])
        assert await answer.piece() == b"o" and not line.rest()


async def test_after_it_is_closed_nobody_waits_on(tls: Tls) -> None:
    async with lined(tls) as (line, other):
        answer = await answered(line, other, OK[:-1])
        assert await answer.piece() == b"o"
        reading = asyncio.ensure_future(answer.piece())
        await asyncio.sleep(0)
        await line.aclose()
        with pytest.raises(httpcore.ReadError):
            await reading


async def test_interim_answers_are_told_as_they_come_and_who_cannot_bear_them_fails(tls: Tls) -> None:
    told: list[tuple[int, Headers]] = []
    async with lined(tls) as (line, other):
        sending = get(interim=lambda *each: told.append(each))
        asking = asyncio.ensure_future(line.ask(sending))
        await happened(lambda: b"\r\n\r\n" in other.heard)
        other.transport.write(b"HTTP/1.1 103 Early\r\nLink: </a>\r\n\r\n")
        await happened(lambda: told == [(103, ((b"link", b"</a>"),))])
        assert not asking.done()
        other.transport.write(OK)
        assert await read(await asking) == b"ok" and line.rest()

        other.heard.clear()

        def failing(status: int, fields: Headers) -> None:
            raise KeyError(status)

        with pytest.raises(KeyError):
            await answered(line, other, b"HTTP/1.1 103 x\r\n\r\n", get(interim=failing))


# Time: in a loop where it passes when nothing else happens.


def test_who_is_told_something_now_and_then_waits_on_and_for_the_head_not_for_ever() -> None:
    async def dripping(until: float, said: bytes) -> float:
        """After how long an end comes of it where a byte comes every 15 s."""
        loop = asyncio.get_running_loop()
        async with lined() as (line, other):

            async def drip() -> None:
                for byte in said:
                    other.transport.write(bytes([byte]))
                    await asyncio.sleep(15)

            dripped, begun = asyncio.ensure_future(drip()), loop.time()
            try:
                assert await read(await line.ask(get(until=until))) == b"ok"
            except httpcore.ReadTimeout:
                return loop.time() - begun
            finally:
                dripped.cancel()
            return 0.0

    with virtual_time.running() as runner:
        assert runner.run(dripping(float("inf"), OK)) == 0
        assert runner.run(dripping(float("inf"), OK[:-1])) == pytest.approx(15 * (len(OK) - 2) + 20, abs=0.1)
        now = runner.get_loop().time()
        assert runner.run(dripping(now + 100, OK)) == pytest.approx(100, abs=0.1)
        assert runner.run(dripping(now + 1e6, b"")) == pytest.approx(20, abs=0.1)


def test_its_descriptor_is_free_when_it_is_closed(tmp_path: Path) -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    async def main() -> None:
        before = descriptors()
        for said in (OK, OK[:-1], b"garbage\n", OK + OK):
            async with lined() as (line, other):
                with contextlib.suppress(httpcore.RemoteProtocolError):
                    await answered(line, other, said)
                await line.aclose()
                await other.lost.wait()
        await happened(lambda: descriptors() <= before)

    asyncio.run(main())
