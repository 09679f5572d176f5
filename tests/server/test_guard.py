"""The guard at the parser, met over real sockets: by clients that send too much, too slowly, or never read."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from proxy.rules.clients import Networks
from proxy.server import serving, sockets
from proxy.server.guard import Limits
from proxy.server.turns import SLICE, Turns
from tests.server.raw import answers, echo, one_answer, talk
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("nothing_to_report")

HOST = b"Host: h\r\n"
GET = b"GET /a HTTP/1.1\r\n" + HOST
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
LAST = b"GET /last HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
HUGE = 16 * 1024 * 1024
TAKEN = [0]
"""Bytes of the last huge answer that the server has taken."""


async def app(scope: Any, receive: Any, send: Any) -> None:
    """`echo`, and at /huge an answer of many bytes, which it writes as they are taken."""
    if scope["type"] == "http" and scope["path"] == "/huge":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % HUGE)]})
        for number in range(HUGE // 65536):
            TAKEN[0] = number * 65536
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        return
    await echo(scope, receive, send)


class Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self.ready.set()

    @property
    def connections(self) -> int:
        return len(self.server_state.connections)


@contextlib.contextmanager
def guarded(limits: Limits | None = None) -> Iterator[tuple[tuple[str, int], Server]]:
    groups = sockets.tcp("127.0.0.1", 0)
    server = Server(serving.configured(app, drain_timeout=2, limits=limits))
    thread = threading.Thread(target=server.run, args=(groups[0],))
    thread.start()
    try:
        assert server.ready.wait(10)
        yield groups[0][0].getsockname(), server
    finally:
        server.should_exit = True
        thread.join(15)
        sockets.close(groups)
    assert not thread.is_alive()


@pytest.fixture(scope="module")
def address() -> Iterator[tuple[str, int]]:
    """A server with the limits that are the defaults."""
    with guarded() as (found, _):
        yield found


def detail(answer: tuple[int, dict[str, str], Any]) -> str:
    assert answer[1]["connection"] == "close"
    return str(answer[2]["errors"][0]["detail"])


# What is sent, the status, a word of the detail.
HEADS: dict[str, tuple[bytes, int, str]] = {
    "no host": (b"GET /a HTTP/1.1\r\n\r\n", 400, "one Host"),
    "two hosts": (GET + HOST + b"\r\n", 400, "one Host"),
    "a host with a path": (b"GET /a HTTP/1.1\r\nHost: a/b\r\n\r\n", 400, "HOST:PORT"),
    "a host with a user": (b"GET /a HTTP/1.1\r\nHost: u@h\r\n\r\n", 400, "HOST:PORT"),
    "another authority": (b"GET http://evil/a HTTP/1.1\r\n" + HOST + b"\r\n", 421, "itself only"),
    "another scheme": (b"GET ftp://h/a HTTP/1.1\r\n" + HOST + b"\r\n", 421, "itself only"),
    "an authority with a user": (b"GET http://u@h/a HTTP/1.1\r\n" + HOST + b"\r\n", 421, "itself only"),
    "connect": (b"CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\n", 400, "CONNECT"),
    "no version": (b"GET /a\r\n\r\n", 400, "HTTP/1"),
    "another version": (b"GET /a HTTP/2.0\r\n" + HOST + b"\r\n", 400, "HTTP/1"),
    "bare line feeds": (b"GET /a HTTP/1.1\nHost: h\n\n", 400, "valid"),
    "a folded field": (GET + b"X: a\r\n b\r\n\r\n", 400, "valid"),
    "a control character": (GET + b"X: a\x01b\r\n\r\n", 400, "valid"),
    "a delete character": (GET + b"X: a\x7f\r\n\r\n", 400, "valid"),
    "a NUL": (GET + b"X: a\x00b\r\n\r\n", 400, "valid"),
    "white space before the colon": (GET + b"X : a\r\n\r\n", 400, "valid"),
    "length and chunks": (GET + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400, ""),
    "two lengths": (GET + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", 400, "valid"),
    "a length with a sign": (GET + b"Content-Length: +1\r\n\r\n", 400, "valid"),
    "a length with an underscore": (GET + b"Content-Length: 1_0\r\n\r\n", 400, "valid"),
    "another coding": (GET + b"Transfer-Encoding: xchunked\r\n\r\n", 400, ""),
    "chunks of an old client": (
        b"POST /a HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
        "Transfer-Encoding",
    ),
    "a coding before the chunks": (GET + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400, "chunked"),
    "a coding that is none": (GET + b"Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n", 400, "chunked"),
    "chunks twice": (GET + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400, ""),
    "chunks in a list": (GET + b"Transfer-Encoding: chunked, chunked\r\n\r\n", 400, ""),
    "a coding behind a control character": (GET + b"Transfer-Encoding: \x0bchunked\r\n\r\n", 400, ""),
    "white space before the colon of the coding": (GET + b"Transfer-Encoding : chunked\r\n\r\n", 400, "valid"),
    "a coding behind a bare line feed": (GET + b"X: a\nTransfer-Encoding: chunked\r\n\r\n", 400, ""),
    "the same length twice": (GET + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\na", 400, "valid"),
    "lengths in a list": (GET + b"Content-Length: 1, 1\r\n\r\na", 400, "valid"),
    "no length": (GET + b"Content-Length:\r\n\r\n", 400, "valid"),
    "a length beyond all": (GET + b"Content-Length: 99999999999999999999999\r\n\r\n", 400, "valid"),
    "a chunk with a prefix": (GET + CHUNKED + b"0x1\r\na\r\n0\r\n\r\n", 400, "valid"),
    "a chunk below none": (GET + CHUNKED + b"-1\r\na\r\n0\r\n\r\n", 400, "valid"),
    "a chunk behind white space": (GET + CHUNKED + b" 1\r\na\r\n0\r\n\r\n", 400, "valid"),
    "a chunk beyond all": (GET + CHUNKED + b"10000000000000001\r\na\r\n0\r\n\r\n", 400, "valid"),
    "a chunk longer than it says": (GET + CHUNKED + b"1\r\nab\r\n0\r\n\r\n", 400, "valid"),
    "a chunk that ends in a line feed": (GET + CHUNKED + b"1\na\r\n0\r\n\r\n", 400, "valid"),
    "a line feed in a chunk's extension": (GET + CHUNKED + b"1;a\nb\r\na\r\n0\r\n\r\n", 400, "valid"),
    "a carriage return in a chunk's extension": (GET + CHUNKED + b"1;a\rb\r\na\r\n0\r\n\r\n", 400, "valid"),
    "a carriage return in a field": (GET + b"X: a\rb\r\n\r\n", 400, "valid"),
    "a field without a name": (GET + b": a\r\n\r\n", 400, "valid"),
    "a field without a colon": (GET + b"abc\r\n\r\n", 400, "valid"),
    "hosts in a list": (b"GET /a HTTP/1.1\r\nHost: h, h\r\n\r\n", 400, "HOST:PORT"),
    "a connection without a host": (GET + b"Connection: close, Host\r\n\r\n", 400, "Connection"),
    "a connection without a length": (GET + b"Connection: content-length\r\n\r\n", 400, "Connection"),
    "a connection without a token": (
        GET + b"Connection: close\r\nConnection: ,AUTHORIZATION\r\n\r\n",
        400,
        "Connection",
    ),
    "a fragment": (b"GET /a#b HTTP/1.1\r\n" + HOST + b"\r\n", 400, "fragment"),
    "a control character in the target": (b"GET /a\x01 HTTP/1.1\r\n" + HOST + b"\r\n", 400, "valid"),
    "a NUL in the target": (b"GET /a\x00 HTTP/1.1\r\n" + HOST + b"\r\n", 400, "valid"),
    "a target with bytes beyond ASCII": (b"GET /\xc3\xa9 HTTP/1.1\r\n" + HOST + b"\r\n", 400, "valid"),
    "white space before the method": (b" GET /a HTTP/1.1\r\n" + HOST + b"\r\n", 400, "valid"),
    "a tab for a blank": (b"GET\t/a\tHTTP/1.1\r\n" + HOST + b"\r\n", 400, "valid"),
    "a method in lower case": (b"get /a HTTP/1.1\r\n" + HOST + b"\r\n", 400, "valid"),
    "a long target": (b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414, "max_header_bytes"),
    "a long field": (GET + b"X: " + b"a" * 40_000 + b"\r\n\r\n", 431, "max_header_bytes"),
    "a long name": (GET + b"a" * 40_000 + b": 1\r\n\r\n", 431, "max_header_bytes"),
    "long fields": (GET + b"X: " + b"a" * 9000 + b"\r\nY: " + b"b" * 25_000 + b"\r\n\r\n", 431, "max_header_bytes"),
    "many fields": (GET + b"X: a\r\n" * 100 + b"\r\n", 431, "max_headers"),
    "endless trailers": (GET + CHUNKED + b"0\r\n" + b"X: a\r\n" * 200, 431, "max_headers"),
    "a long trailer": (GET + CHUNKED + b"0\r\nX: " + b"a" * 400_000, 431, ""),
}


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("pieces", [1, 3])
def test_a_head_that_is_too_much_or_could_mean_two_things_is_refused(
    address: tuple[str, int], name: str, pieces: int
) -> None:
    sent, status, words = HEADS[name]
    size = -(-len(sent) // pieces)
    (only,) = talk(address, *(sent[at : at + size] for at in range(0, len(sent), size)))
    assert only[0] == status
    assert words in detail(only)


@pytest.mark.parametrize("fault", [b"X: a\x01\r\n\r\n", b"Host: i\r\n\r\n", b"X: " + b"a" * 40_000])
def test_a_refused_head_is_told_without_a_body(address: tuple[str, int], fault: bytes) -> None:
    with socket.create_connection(address, timeout=10) as client, client.makefile("rb") as wire:
        client.sendall(b"HEAD /a HTTP/1.1\r\nHost: h\r\n" + fault)
        whole = wire.read()
    head, _, body = whole.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 4") and b"\r\ncontent-length: " in head
    assert body == b""


def test_what_is_refused_behind_a_head_is_told_in_words(address: tuple[str, int]) -> None:
    with socket.create_connection(address, timeout=10) as client, client.makefile("rb") as wire:
        client.sendall(b"HEAD /a HTTP/1.1\r\nHost: h\r\n\r\n\x16\x03\x01")
        whole = wire.read()
    answered, refused = whole.split(b"HTTP/1.1 400 ")
    assert answered.startswith(b"HTTP/1.1 200 ")
    assert refused.endswith(b'"}]}')


ACCEPTED = {
    "the default port": b"GET /a HTTP/1.1\r\nHost: h:80\r\n\r\n",
    "an address": b"GET /a HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n",
    "no name": b"GET /a HTTP/1.1\r\nHost:\r\n\r\n",
    "its own authority": b"GET http://h:8080/a HTTP/1.1\r\nHost: h:8080\r\n\r\n",
    "an old client": b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    "as many fields as may be": GET + b"X: a\r\n" * 99 + b"\r\n",
    "nearly too long": GET + b"X: " + b"a" * 32_000 + b"\r\n\r\n",
    "a tab": GET + b"X: a\tb\r\n\r\n",
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_is_right_is_served(address: tuple[str, int], name: str) -> None:
    first, *_ = talk(address, ACCEPTED[name] + LAST)
    assert (first[0], first[2]["target"]) == (200, "/a")


def test_what_went_before_a_refused_request_is_answered(address: tuple[str, int]) -> None:
    first, second = talk(address, GET + b"\r\n" + HEADS["two hosts"][0])
    assert (first[0], second[0]) == (200, 400)


def test_a_head_without_end_is_refused_long_before_it_fills_the_memory(address: tuple[str, int]) -> None:
    with socket.create_connection(address, timeout=10) as client:
        sent = 0
        client.sendall(GET + b"X: ")
        with contextlib.suppress(OSError):
            while sent < 64 * 1024 * 1024:
                sent += client.send(b"a" * 65536)
                client.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    assert client.recv(9) == b"HTTP/1.1 "
                    break
                client.setblocking(True)
        assert sent < 16 * 1024 * 1024


def test_who_is_refused_in_the_middle_of_an_upload_reads_why(address: tuple[str, int]) -> None:
    with socket.create_connection(address, timeout=10) as client, client.makefile("rb") as wire:
        client.sendall(GET + b"Content-Length: 4000000\r\nX: a\x01\r\n\r\n" + b"x" * 4_000_000)
        answer = one_answer(wire)
        assert answer is not None and answer[0] == 400


QUICK = Limits(header_timeout=0.4, write_timeout=1.0, body_min_rate=1000)


def test_a_head_has_a_deadline_however_it_drips() -> None:
    with guarded(QUICK) as (address, _), socket.create_connection(address, timeout=10) as client:
        began = time.monotonic()
        with client.makefile("rb") as wire, contextlib.suppress(OSError):
            client.sendall(GET)
            client.settimeout(0.1)
            answer: bytes = b""
            while not answer and time.monotonic() - began < 5:
                client.sendall(b"X: a\r\n")
                with contextlib.suppress(TimeoutError):
                    answer = client.recv(4096)
            assert answer.startswith(b"HTTP/1.1 408 ")
            assert b"server.header_timeout" in answer
            del wire
        assert 0.3 < time.monotonic() - began < 3


def test_a_silent_connection_is_closed_without_a_word() -> None:
    with guarded(QUICK) as (address, _), socket.create_connection(address, timeout=5) as client:
        assert client.recv(1) == b""


@pytest.mark.parametrize("line", [b"\r\n", b"\r"], ids=["whole", "half"])
def test_an_empty_line_keeps_no_connection_open(line: bytes) -> None:
    with guarded(QUICK) as (address, _), socket.create_connection(address, timeout=3) as client:
        client.sendall(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n")
        with client.makefile("rb") as wire:
            assert one_answer(wire) is not None
        client.sendall(line)
        assert client.recv(1) == b""


def test_no_number_of_empty_lines_keeps_a_connection_open() -> None:
    with guarded(QUICK) as (address, _), socket.create_connection(address, timeout=5) as client:
        client.sendall(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n")
        with client.makefile("rb") as wire:
            assert one_answer(wire) is not None
        with pytest.raises(OSError):
            for _ in range(30):
                client.sendall(b"\r\n")
                time.sleep(0.1)  # the time that passes is what is tested


def test_a_body_has_a_floor_under_its_rate() -> None:
    with guarded(QUICK) as (address, _), socket.create_connection(address, timeout=0.1) as client:
        client.sendall(GET + b"Content-Length: 100000\r\n\r\n")
        answer = b""
        for _ in range(60):
            with contextlib.suppress(TimeoutError):
                client.sendall(b"x")
                answer = client.recv(4096)
                break
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"server.body_min_rate" in answer


def test_a_body_that_is_fast_enough_is_taken() -> None:
    with guarded(QUICK) as (address, _), socket.create_connection(address, timeout=5) as client:
        client.sendall(GET + b"Content-Length: 6000\r\n\r\n")
        for _ in range(6):
            client.sendall(b"x" * 1000)
            time.sleep(0.2)  # the time that passes is what is tested
        with client.makefile("rb") as wire:
            answer = one_answer(wire)
        assert answer is not None and len(answer[2]["body"]) == 6000


def test_a_body_that_goes_on_after_its_answer_ends_the_connection() -> None:
    with guarded(QUICK) as (address, _), socket.create_connection(address, timeout=5) as client:
        client.sendall(b"GET /unread HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
        began = time.monotonic()
        with pytest.raises(OSError):
            while time.monotonic() - began < 10:
                client.sendall(b"400\r\n" + b"x" * 1024 + b"\r\n")
                time.sleep(0.01)


def test_who_reads_nothing_is_put_out() -> None:
    with guarded(QUICK) as (address, server), socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(address)
        client.sendall(b"GET /huge HTTP/1.1\r\nHost: h\r\n\r\n")
        until(lambda: server.connections == 1)
        until(lambda: server.connections == 0)  # it was put out


def test_who_reads_nothing_makes_nobody_hold_much_for_him(address: tuple[str, int]) -> None:
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(address)
        client.sendall(b"GET /huge HTTP/1.1\r\nHost: h\r\n\r\n")
        assert client.recv(12) == b"HTTP/1.1 200"
        until(lambda: TAKEN[0] > 0)
        taken = -1
        while taken != TAKEN[0]:  # until nothing moves any more
            taken = TAKEN[0]
            time.sleep(0.3)
        assert taken < 1024 * 1024, "the kernel's buffer would hold four times as much"


def test_who_sends_requests_and_reads_no_answers_fills_no_memory() -> None:
    """Each request that waits costs a hundred times the bytes that it was sent as."""
    many = (b"GET /a HTTP/1.1\r\n" + HOST + b"\r\n") * 1000
    with guarded() as (address, server), socket.create_connection(address, timeout=1) as client:
        most = 0
        with contextlib.suppress(TimeoutError):
            while True:
                client.sendall(many)
                for connection in list(server.server_state.connections):
                    most = max(most, len(connection.pipeline))  # type: ignore[union-attr]
        assert 0 < most < 200


def test_who_leaves_takes_his_requests_along() -> None:
    many = (b"GET /a HTTP/1.1\r\n" + HOST + b"\r\n") * 1000
    with guarded() as (address, server):
        with socket.create_connection(address, timeout=1) as client:
            client.sendall(b"GET /huge HTTP/1.1\r\nHost: h\r\n\r\n" + many)
            until(lambda: any(each.pipeline for each in server.server_state.connections))  # type: ignore[union-attr]
            (connection,) = server.server_state.connections
        until(lambda: server.connections == 0)
        assert isinstance(connection, Turns)
        assert not connection.waiting


def test_however_many_requests_are_sent_at_once_each_has_its_answer() -> None:
    count = 3000
    many = b"".join(b"GET /%d HTTP/1.1\r\n%b\r\n" % (number, HOST) for number in range(count))
    put = b"PUT /put HTTP/1.1\r\n" + HOST + b"Content-Length: 100000\r\n\r\n" + b"x" * 100_000
    with guarded() as (address, _), socket.create_connection(address, timeout=20) as client:
        sending = threading.Thread(target=client.sendall, args=(many + put + many + LAST,))
        sending.start()
        with client.makefile("rb") as wire:
            found = answers(wire)
        sending.join()
    numbers = [f"/{number}" for number in range(count)]
    assert [answer[2]["target"] for answer in found] == [*numbers, "/put", *numbers, "/last"]
    assert len(found[count][2]["body"]) == 100_000


def test_who_reads_slowly_but_steadily_is_served() -> None:
    with guarded(QUICK) as (address, _), socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.settimeout(5)
        client.connect(address)
        client.sendall(b"GET /huge HTTP/1.1\r\nHost: h\r\n\r\n")
        read, began = 0, time.monotonic()
        while read < HUGE:
            piece = client.recv(65536)
            assert piece, f"put out after {read} bytes"
            read += len(piece)
            time.sleep(0.01)
        assert time.monotonic() - began > 2 * QUICK.write_timeout


def test_connections_have_a_cap_and_who_comes_too_late_is_told() -> None:
    with guarded(Limits(connections=4)) as (address, _), contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.create_connection(address, timeout=5)) for _ in range(4)]
        for client in held:
            client.sendall(GET + b"\r\n")
            assert client.recv(12) == b"HTTP/1.1 200"
        (refused,) = talk(address, GET + b"\r\n")
        assert (refused[0], refused[1]["retry-after"]) == (503, "1")
        assert "server.max_connections" in detail(refused)
        with socket.create_connection(address, timeout=5) as client, client.makefile("rb") as wire:
            client.sendall(b"HEAD /a HTTP/1.1\r\nHost: h\r\n\r\n")
            assert wire.read().endswith(b"\r\n\r\n")
        held[0].close()
        until(lambda: talk(address, LAST)[0][0] == 200)


def test_who_comes_too_late_is_told_once_however_many_pieces_the_request_comes_in() -> None:
    with guarded(Limits(connections=4)) as (address, _), contextlib.ExitStack() as stack:
        for client in [stack.enter_context(socket.create_connection(address, timeout=5)) for _ in range(4)]:
            client.sendall(GET + b"\r\n")
            assert client.recv(12) == b"HTTP/1.1 200"
        with socket.create_connection(address, timeout=5) as late, late.makefile("rb") as wire:
            late.sendall(GET)
            answer = one_answer(wire)
            assert answer is not None and answer[0] == 503
            late.sendall(b"A: %b\r\n" % (b"a" * 3 * SLICE))  # parsed piece by piece
            late.sendall(b"\r\n")
            assert wire.read() == b""


def test_far_too_many_connections_are_not_even_told() -> None:
    with guarded(Limits(connections=4)) as (address, server), contextlib.ExitStack() as stack:
        clients = [stack.enter_context(socket.create_connection(address, timeout=5)) for _ in range(12)]
        until(lambda: server.connections == 5)
        del clients


@pytest.mark.parametrize(("trusted", "status"), [((), 503), (("127.0.0.0/8",), 200)])
def test_one_client_may_have_a_cap_of_its_own_but_a_trusted_front_server_has_none(
    trusted: tuple[str, ...], status: int
) -> None:
    limits = Limits(connections_per_client=1, trusted=Networks.of(trusted))
    with guarded(limits) as (address, _), socket.create_connection(address, timeout=5) as held:
        held.sendall(GET + b"\r\n")
        assert held.recv(12) == b"HTTP/1.1 200"
        (only,) = talk(address, LAST)
        assert only[0] == status
        with socket.socket() as other:
            other.bind(("127.0.0.2", 0))
            other.connect(address)
            other.sendall(LAST)
            with other.makefile("rb") as wire:
                assert [answer[0] for answer in answers(wire)] == [200], "another client has its own"


def test_who_was_refused_because_of_all_the_others_has_no_more_connections_of_his_own_afterwards() -> None:
    limits = Limits(connections=4, connections_per_client=1, trusted=Networks.of(["127.0.0.2"]))
    with guarded(limits) as (address, server), contextlib.ExitStack() as stack:
        held = stack.enter_context(socket.create_connection(address, timeout=5))
        held.sendall(GET + b"\r\n")
        assert held.recv(12) == b"HTTP/1.1 200"
        with contextlib.ExitStack() as others:
            for _ in range(3):
                other = others.enter_context(socket.socket())
                other.bind(("127.0.0.2", 0))
                other.connect(address)
            until(lambda: server.connections == 4)
            (refused,) = talk(address, LAST)
            assert "server.max_connections)" in detail(refused)
        until(lambda: server.connections == 1)
        (refused,) = talk(address, LAST)
        assert "server.max_connections_per_client" in detail(refused)
