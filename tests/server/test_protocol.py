"""The protocol, fed by hand: every split of the bytes is tried, nothing waits for a network."""

from __future__ import annotations

import asyncio
import io
import itertools
import socket
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest
import uvicorn
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from uvicorn.server import ServerState

from proxy.server.protocol import ABORT, GONE, INTERIM, Protocol
from tests.server.raw import OFFER, Message, Receive, Send, answers, echo
from tests.waiting import WITHIN

pytestmark = pytest.mark.usefixtures("nothing_to_report")

BODY = bytes(range(256)) + b"\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n"
LAST = b"GET /last HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
WEBSOCKET = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    b"Sec-WebSocket-Version: 13\r\n"
)


def sized(body: bytes, fields: bytes = OFFER, method: bytes = b"PUT") -> bytes:
    return b"%b /put HTTP/1.1\r\nHost: h\r\n%bContent-Length: %d\r\n\r\n%b" % (method, fields, len(body), body)


def chunked(body: bytes, fields: bytes = OFFER, trailer: bytes = b"") -> bytes:
    chunks = b"".join(
        b"%x\r\n%b\r\n" % (len(body[at : at + 100]), body[at : at + 100]) for at in range(0, len(body), 100)
    )
    return b"PUT /put HTTP/1.1\r\nHost: h\r\n%bTransfer-Encoding: chunked\r\n\r\n%b0\r\n%b\r\n" % (
        fields,
        chunks,
        trailer,
    )


class Wire(asyncio.Transport):
    """A transport that keeps what is written. It ends like a socket: `connection_lost` comes a turn later."""

    def __init__(self) -> None:
        super().__init__({"peername": ("192.0.2.1", 5), "sockname": ("192.0.2.2", 80)})
        self.written = b""
        self.closed = asyncio.Event()
        self.aborted = False
        self.protocol: Protocol

    def write(self, data: Any) -> None:
        assert not self.closed.is_set(), "written after the end"
        self.written += bytes(data)

    def close(self) -> None:
        if not self.closed.is_set():
            self.closed.set()
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    def abort(self) -> None:
        self.aborted = True
        self.close()

    def is_closing(self) -> bool:
        return self.closed.is_set()

    def can_write_eof(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


def configured(app: Any) -> Protocol:
    config = uvicorn.Config(app, http=Protocol, ws="none", log_config=None, proxy_headers=False)
    config.load()
    return Protocol(config, ServerState(), {})


async def connected(app: Any = echo) -> tuple[Protocol, Wire]:
    wire = Wire()
    wire.protocol = configured(app)
    wire.protocol.connection_made(wire)
    return wire.protocol, wire


async def turns(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def exchanged(segments: Sequence[bytes], app: Any = echo) -> list[tuple[int, dict[str, str], Any]]:
    """What comes back for these segments, in one connection that the server closes."""

    async def main() -> bytes:
        protocol, wire = await connected(app)
        for segment in segments:
            if not wire.is_closing():
                protocol.data_received(segment)
                await turns(3)
        await asyncio.wait_for(wire.closed.wait(), WITHIN)
        await turns()
        return wire.written

    return answers(io.BytesIO(asyncio.run(main())))


def fields(answer: tuple[int, dict[str, str], Any]) -> dict[str, str]:
    return dict(answer[2]["headers"])


OFFERS = {
    "sized": sized(BODY),
    "chunked": chunked(BODY),
    "chunked with a trailer": chunked(BODY, trailer=b"X-Trailer: 1\r\n"),
    "empty": sized(b""),
    "without length": b"DELETE /put HTTP/1.1\r\nHost: h\r\n" + OFFER + b"\r\n",
    "websocket": sized(BODY, WEBSOCKET),
    "with expect": sized(BODY, OFFER + b"Expect: 100-continue\r\n"),
}


@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS)
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_an_offer_is_an_ordinary_request_however_it_is_split(offer: bytes, data: st.DataObject) -> None:
    sent = offer + LAST
    cuts = sorted(data.draw(st.sets(st.integers(1, len(sent) - 1), max_size=8)))
    segments = [sent[start:end] for start, end in itertools.pairwise([0, *cuts, len(sent)])]

    final = [answer for answer in exchanged(segments) if answer[0] != 100]

    first, last = final
    assert first[2]["target"] == "/put"
    assert first[2]["body"].encode("latin-1") == (BODY if b"smuggled" in offer else b"")
    assert last[2]["target"] == "/last" and last[2]["body"] == ""
    assert not fields(first).keys() & {"connection", "upgrade", "http2-settings", "x-trailer"}
    assert fields(first)["host"] == "h"


def test_an_offer_may_come_byte_by_byte() -> None:
    sent = chunked(BODY) + LAST
    first, last = exchanged([sent[at : at + 1] for at in range(len(sent))])
    assert first[2]["body"].encode("latin-1") == BODY and last[2]["target"] == "/last"


def test_pipelined_offers_are_answered_in_turn() -> None:
    found = exchanged([sized(b"a") + chunked(b"b") + sized(b"c", fields=b"") + sized(b"", method=b"GET") + LAST])
    assert [answer[2]["body"] for answer in found] == ["a", "b", "c", "", ""]
    assert [answer[2]["method"] for answer in found] == ["PUT", "PUT", "PUT", "GET", "GET"]


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"POST", b"PATCH", b"DELETE", b"OPTIONS", b"PROPFIND"])
def test_an_offer_of_any_method_is_served(method: bytes) -> None:
    async def only_length(scope: Message, receive: Receive, send: Send) -> None:
        assert scope["method"] == method.decode()
        assert (await receive())["body"] == b"body"
        await send({"type": "http.response.start", "status": 204, "headers": [(b"connection", b"close")]})
        await send({"type": "http.response.body"})

    assert [answer[0] for answer in exchanged([sized(b"body", method=method)], only_length)] == [204]


def test_a_client_that_expects_to_be_told_is_told_once() -> None:
    whole = sized(BODY, OFFER + b"Expect: 100-continue\r\n")
    found = exchanged([whole[: -len(BODY)], BODY, LAST])
    assert [answer[0] for answer in found] == [100, 200, 200]


def test_other_tokens_of_connection_keep_their_meaning() -> None:
    (only,) = exchanged(
        [b"GET / HTTP/1.1\r\nConnection: upgrade ,Close\r\nconnection: HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n"]
    )
    assert only[1]["connection"] == "close"
    assert only[2]["headers"] == [["connection", "Close"]]


def test_fields_of_an_offer_that_is_none_are_left_out_too() -> None:
    (only,) = exchanged([b"GET / HTTP/1.1\r\nUpgrade: h2c\r\nHTTP2-Settings: a\r\nConnection: close\r\n\r\n"])
    assert only[2]["headers"] == [["connection", "close"]]


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_an_old_client_may_offer_too(version: bytes) -> None:
    (only,) = exchanged(
        [b"PUT / HTTP/%b\r\nConnection: upgrade, close\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nhi" % version]
    )
    assert only[2]["body"] == "hi" and only[2]["version"] == version.decode()


def test_an_old_client_gets_one_answer() -> None:
    (only,) = exchanged([b"GET /1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", b"GET /2 HTTP/1.0\r\n\r\n"])
    assert only[1]["connection"] == "close" and only[2]["target"] == "/1"


def test_what_follows_close_is_not_a_request() -> None:
    found = exchanged([LAST + sized(b"a")])
    assert len(found) == 1 and found[0][2]["target"] == "/last"


def test_a_trailer_is_no_field_of_this_request_or_the_next() -> None:
    first, last = exchanged([chunked(b"a", fields=b"", trailer=b"Authorization: secret\r\nHost: other\r\n") + LAST])
    assert fields(first) == {"host": "h", "transfer-encoding": "chunked"}
    assert fields(last) == {"host": "h", "connection": "close"}


def test_values_lose_the_white_space_around_them() -> None:
    (only,) = exchanged([b"GET / HTTP/1.1\r\nX:  a b \t \r\nY:\r\nConnection: close \r\n\r\n"])
    assert only[2]["headers"] == [["x", "a b"], ["y", ""], ["connection", "close"]]


def test_an_ipv4_client_is_written_as_ipv4() -> None:
    async def main() -> Any:
        protocol, wire = await connected()
        wire._extra["peername"] = ("::ffff:192.0.2.9", 5)  # type: ignore[attr-defined]
        protocol.connection_made(wire)
        return protocol.client

    assert asyncio.run(main()) == ("192.0.2.9", 5)


GARBAGE = {
    "no http": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "words": b"hello there\r\n\r\n",
    "http/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "two framings": b"PUT / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    "two framings in an offer": b"PUT / HTTP/1.1\r\n"
    + OFFER
    + b"Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n0\r\n\r\n",
    "strange coding in an offer": b"PUT / HTTP/1.1\r\n" + OFFER + b"Transfer-Encoding: gzip\r\n\r\nabc",
    "two lengths": b"PUT / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    "space before the colon": b"PUT / HTTP/1.1\r\nHost : a\r\n\r\n",
    "bare line feed": b"GET / HTTP/1.1\nHost: a\n\n",
    "folded": b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
    "control character": b"GET / HTTP/1.1\r\nA: \x00\r\n\r\n",
    "no path": b"GET http://host HTTP/1.1\r\n\r\n",
    "connect": b"CONNECT crates.io:443 HTTP/1.1\r\nHost: crates.io\r\n\r\n",
    "connect with an offer": b"CONNECT crates.io:443 HTTP/1.1\r\n" + OFFER + b"\r\n",
}


@pytest.mark.parametrize("sent", GARBAGE.values(), ids=GARBAGE)
def test_what_is_no_request_is_refused_in_words(sent: bytes) -> None:
    (only,) = exchanged([sent])
    status, headers, body = only
    assert status == 400
    assert headers["connection"] == "close" and headers["content-type"] == "application/json" and headers["date"]
    assert list(body) == ["errors"] and [list(error) for error in body["errors"]] == [["detail"]]
    assert body["errors"][0]["detail"].endswith(".")


@pytest.mark.parametrize("sent", GARBAGE.values(), ids=GARBAGE)
def test_a_refusal_waits_for_the_answers_before_it(sent: bytes) -> None:
    found = exchanged([b"GET /1 HTTP/1.1\r\n\r\n" + sized(b"2") + sent, b"more", b"of it"])
    assert [answer[0] for answer in found] == [200, 200, 400]


def test_a_refusal_comes_after_an_answer_that_is_given() -> None:
    found = exchanged([b"GET /1 HTTP/1.1\r\n\r\n", b"garbage\r\n"])
    assert [answer[0] for answer in found] == [200, 400]


def test_a_bad_body_is_refused_and_its_app_told() -> None:
    found = exchanged([chunked(b"abc", trailer=b"")[:-5] + b"zz\r\n"])
    assert [answer[0] for answer in found] == [400]


def test_a_bad_body_of_a_waiting_request_is_refused_in_its_turn() -> None:
    bad = b"PUT /2 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n"
    found = exchanged([b"GET /1 HTTP/1.1\r\n\r\n" + bad])
    assert [(answer[0], answer[2].get("target")) for answer in found] == [(200, "/1"), (400, None)]


def test_a_bad_body_behind_its_answer_only_ends_the_connection() -> None:
    bad = b"PUT /unread HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
    assert [answer[0] for answer in exchanged([bad, b"zz\r\n"])] == [200]


def test_a_bad_body_cuts_an_answer_that_has_begun() -> None:
    async def begun(scope: Message, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]})
        while (await receive())["type"] == "http.request":
            pass

    bad = b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
    found = exchanged([bad, b"zz\r\n"], begun)
    assert [(answer[0], answer[2]) for answer in found] == [(200, None)]


def test_an_app_hears_that_its_client_left_though_more_requests_wait() -> None:
    told = []

    async def waiting(scope: Message, receive: Receive, send: Send) -> None:
        while (message := await receive())["type"] != "http.disconnect":
            pass
        told.append((scope["path"], message["type"]))

    async def main() -> None:
        protocol, wire = await connected(waiting)
        protocol.data_received(b"GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n\r\n")
        await turns()
        wire.close()
        await turns()

    asyncio.run(main())
    assert told == [("/1", "http.disconnect")]


def test_an_offer_behind_a_request_does_not_wake_its_app() -> None:
    heard: list[str] = []

    async def watching(scope: Message, receive: Receive, send: Send) -> None:
        while (message := await receive())["type"] != "http.disconnect":
            heard.append(message["type"])

    async def main() -> None:
        protocol, wire = await connected(watching)
        protocol.data_received(b"GET /1 HTTP/1.1\r\n\r\n")
        await turns()
        protocol.data_received(sized(b"abc"))
        await turns()
        wire.close()
        await turns()

    asyncio.run(main())
    assert heard == ["http.request"]


def test_draining_ends_an_idle_connection_at_once() -> None:
    async def main() -> bool:
        protocol, wire = await connected()
        protocol.data_received(b"GET /1 HTTP/1.1\r\n\r\n")
        await turns()
        protocol.shutdown()
        return wire.is_closing()

    assert asyncio.run(main())


@pytest.mark.parametrize("before", [[], [b"GET /1 HTTP/1.1\r\n\r\n", b"PU"]], ids=["new", "in a head"])
def test_draining_serves_a_request_that_is_on_its_way(before: list[bytes]) -> None:
    async def main() -> bytes:
        protocol, wire = await connected()
        for segment in before:
            protocol.data_received(segment)
            await turns()
        protocol.shutdown()
        protocol.data_received(sized(b"late")[2 if before else 0 :])
        await asyncio.wait_for(wire.closed.wait(), WITHIN)
        return wire.written

    found = answers(io.BytesIO(asyncio.run(main())))
    assert found[-1][2]["body"] == "late" and found[-1][1]["connection"] == "close"


def test_draining_does_not_wait_for_ever_for_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.server.protocol.GRACE", 0.01)

    async def main() -> None:
        protocol, wire = await connected()
        protocol.shutdown()
        assert not wire.is_closing()
        await asyncio.wait_for(wire.closed.wait(), WITHIN)

    asyncio.run(main())


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_draining_serves_what_came_in_time_to_a_process_that_is_late(
    run: Callable[[Coroutine[Any, Any, None]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.server.protocol.GRACE", 0.01)

    async def main() -> None:
        here, there = socket.socketpair()
        protocol, loop = configured(echo), asyncio.get_running_loop()
        await loop.create_connection(lambda: protocol, sock=here)
        other, busy = socket.socketpair()

        def stall() -> None:
            loop.remove_reader(other)
            there.sendall(sized(b"late"))
            time.sleep(0.1)  # the time is over before that is read

        with other, busy:
            loop.add_reader(other, stall)
            protocol.shutdown()
            busy.sendall(b"!")
            await asyncio.to_thread(_answered, there)

    run(main())


def _answered(client: socket.socket) -> None:
    with client, client.makefile("rb") as wire:
        client.settimeout(10)
        assert answers(wire)[-1][2]["body"] == "late"


def test_a_refusal_can_carry_any_words() -> None:
    async def main() -> bytes:
        protocol, wire = await connected()
        protocol.refuse(431, 'a "word" and \u00fc')
        return wire.written

    (only,) = answers(io.BytesIO(asyncio.run(main())))
    assert only[0] == 431 and only[2] == {"errors": [{"detail": 'a "word" and \u00fc'}]}


def test_an_app_can_break_its_answer_off() -> None:
    async def broken(scope: Message, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        scope["extensions"][ABORT]()

    async def main() -> bytes:
        protocol, wire = await connected(broken)
        protocol.data_received(b"GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n\r\n")
        await asyncio.wait_for(wire.closed.wait(), WITHIN)
        await turns()
        return wire.written

    assert asyncio.run(main()).endswith(b"\r\n\r\n4\r\nhalf\r\n")  # The last chunk is missing: it is not whole.


def test_what_an_app_still_knows_of_a_request_that_is_forgotten_does_nothing() -> None:
    kept: list[dict[str, Callable[..., Any]]] = []

    async def remembering(scope: Message, receive: Receive, send: Send) -> None:
        if kept:
            first = kept[0]
            first[INTERIM](103, ())
            first[ABORT]()
            assert first[GONE]() and not scope["extensions"][GONE]()
        kept.append(scope["extensions"])
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    found = exchanged([b"GET /1 HTTP/1.1\r\n\r\n", LAST], remembering)
    assert [status for status, _, _ in found] == [200, 200]


async def hasty(scope: Message, receive: Receive, send: Send) -> None:
    """An app that tells something before its answer, and something too late."""
    interim = scope["extensions"][INTERIM]
    interim(103, ((b"link", b"</a>"), (b"x-a", b"1")))
    interim(102, ())
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    interim(103, ((b"link", b"</late>"),))
    await send({"type": "http.response.body", "body": b"{}"})
    interim(103, ((b"link", b"</later>"),))


def test_an_app_can_tell_something_before_its_answer() -> None:
    found = exchanged([b"GET /1 HTTP/1.1\r\n\r\n" + LAST], hasty)
    assert [(status, told) for status, told, _ in found] == [
        (103, {"link": "</a>", "x-a": "1"}),
        (102, {}),
        (200, {"content-length": "2"}),
        (103, {"link": "</a>", "x-a": "1"}),
        (102, {}),
        (200, {"content-length": "2", "connection": "close"}),
    ]


def test_an_old_client_is_told_nothing_before_its_answer() -> None:
    assert [status for status, _, _ in exchanged([b"GET / HTTP/1.0\r\n\r\n"], hasty)] == [200]


def spoken(app: Any, request: bytes) -> Wire:
    """The connection after its only request."""

    async def main() -> Wire:
        protocol, wire = await connected(app)
        protocol.data_received(request)
        await asyncio.wait_for(wire.closed.wait(), WITHIN)
        await turns()
        return wire

    return asyncio.run(main())


@pytest.mark.parametrize("keep", [b"", b"Connection: keep-alive\r\n"])
def test_an_old_client_gets_an_answer_of_unknown_length_up_to_the_end_of_the_connection(keep: bytes) -> None:
    async def streaming(scope: Message, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-a", b"1")]})
        for piece in (b"one ", b"", b"two "):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"three"})

    wire = spoken(streaming, b"GET / HTTP/1.0\r\n%b\r\n" % keep)
    assert wire.written == b"HTTP/1.1 200 OK\r\nx-a: 1\r\nconnection: close\r\n\r\none two three"
    assert not wire.aborted


def test_an_old_client_sees_that_an_answer_was_broken_off() -> None:
    async def broken(scope: Message, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        scope["extensions"][ABORT]()

    assert spoken(broken, b"GET / HTTP/1.0\r\n\r\n").aborted


def test_an_old_client_gets_a_length_that_is_known() -> None:
    written = spoken(echo, b"GET / HTTP/1.0\r\n\r\n").written
    assert b"content-length: " in written and b"chunked" not in written
