"""The short way through the server, fed by hand; and the same bytes fed to a server that has none."""

from __future__ import annotations

import asyncio
import io
import itertools
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
import uvicorn
from hypothesis import given, settings
from hypothesis import strategies as st
from uvicorn.server import ServerState

from proxy.server import fast, guard
from proxy.server.fast import SHORTCUT, Fast, Shortcut
from tests import virtual_time
from tests.server.raw import OFFER, Message, Receive, Send, answers
from tests.server.test_protocol import Wire, turns

HOST = b"Host: h\r\n"
BODIES: dict[bytes, bytes] = {b"/hot": b"hot" * 10, b"/large": b"large" * 50_000, b"/mapped": b"mapped" * 50_000}


def head_of(body: bytes) -> tuple[tuple[bytes, bytes], ...]:
    return (b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))


async def app(scope: Message, receive: Receive, send: Send) -> None:
    """Answers as `Shelf` does, and everything else with its path."""
    while (await receive()).get("more_body"):
        pass
    body = BODIES.get(scope["raw_path"], b"the app: " + scope["raw_path"])
    await send({"type": "http.response.start", "status": 200, "headers": head_of(body)})
    await send({"type": "http.response.body", "body": body})


class Shelf:
    """A lookup that can be emptied. It counts what it was asked."""

    def __init__(self) -> None:
        self.bodies = dict(BODIES)
        self.read = 0
        self.given = 0

    def admits(self, peer: str | None) -> bool:
        return peer != "192.0.2.99"

    def wanted(self, scope: Any) -> Any | None:
        self.read += 1
        names = {name for name, _ in scope["headers"]}
        if scope["method"] not in ("GET", "HEAD") or not names <= {b"host", b"connection", b"x"}:
            return None
        return scope["method"], scope["raw_path"]

    def answer(self, wanted: Any) -> fast.Answer | None:
        method, path = wanted
        body = self.bodies.get(path)
        if body is None:
            return None
        self.given += 1
        head = fast.head(200, head_of(body))
        if method == "HEAD":
            return head, b"", head
        if path == b"/mapped":
            return head, memoryview(body), None
        return head, body, head + body if len(body) < 1000 else None


class Pausing(Wire):
    """It stops taking bytes as a socket does whose other end does not read."""

    def __init__(self, room: int = sys.maxsize) -> None:
        super().__init__()
        self.room = room
        self.unsent = 0
        self.asked = 0  # how often it was asked for these bytes

    def get_write_buffer_size(self) -> int:
        self.asked += 1
        return self.unsent

    def write(self, data: Any) -> None:
        super().write(data)
        if len(self.written) > self.room:
            self.protocol.pause_writing()


def connected(
    shelf: Shelf | None, *, bound: int = 1 << 20, wire: Wire | None = None, with_app: Any = app, **options: Any
) -> tuple[Fast, Wire]:
    config = uvicorn.Config(with_app, http=Fast, ws="none", log_config=None, proxy_headers=False, **options)
    config.load()
    wire = wire or Wire()
    guarded: type[Fast] = guard.bound(Fast, guard.Limits())
    state = {SHORTCUT: Shortcut(shelf, bound)} if shelf is not None else {}
    protocol = guarded(config, ServerState(), state)
    wire.protocol = protocol
    protocol.connection_made(wire)
    return protocol, wire


def run(play: Callable[[], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        return await asyncio.wait_for(play(), 20)

    with virtual_time.running() as runner:
        return runner.run(main())


def exchanged(segments: Sequence[bytes], shelf: Shelf | None) -> bytes:
    async def play() -> bytes:
        protocol, wire = connected(shelf)
        for segment in segments:
            if not wire.is_closing():
                protocol.data_received(segment)
                await turns(3)
        await wire.closed.wait()
        await turns()
        return wire.written

    found: bytes = run(play)
    return found


def get(path: bytes = b"/hot", fields: bytes = b"", version: bytes = b"1.1", method: bytes = b"GET") -> bytes:
    return b"%b %b HTTP/%b\r\n%b%b\r\n" % (method, path, version, HOST, fields)


CLOSE = b"Connection: close\r\n"
PUT = b"PUT /p HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n"
LAST = get(b"/last", CLOSE)

# What is sent, and how often the shelf answers it.
EXCHANGES = {
    "the same head again and again": ([get()] * 4 + [LAST], 4),
    "an offer again and again": ([get(fields=OFFER)] * 4 + [LAST], 4),
    "large": ([get(b"/large")] * 3 + [LAST], 3),
    "mapped": ([get(b"/mapped")] * 3 + [get(b"/mapped", CLOSE)], 4),
    "heads of what is mapped": ([get(b"/mapped", method=b"HEAD")] * 3 + [get(b"/mapped", CLOSE, method=b"HEAD")], 4),
    "heads only": ([get(method=b"HEAD")] * 3 + [get(), LAST], 4),
    "pipelined": ([get() * 5, get() * 5 + LAST], 10),
    "pipelined with what the app answers": ([get() + get(b"/cold") + get() + get(b"/large") + LAST], 1),
    "pipelined offers": ([get(fields=OFFER) * 3 + get() + LAST], 4),
    "behind a body": ([get(), PUT % 3 + b"abc" + get(), get(), LAST], 2),
    "a body that looks like a head": ([get(), PUT % len(get()), get(), LAST], 1),
    "a head with a body": ([get(fields=b"Content-Length: 2\r\n") + b"hi"] * 2 + [LAST], 0),
    "a chunked head": ([get(fields=b"Transfer-Encoding: chunked\r\n") + b"0\r\n\r\n"] * 2 + [LAST], 0),
    "credentials": ([get(fields=b"Authorization: x\r\n")] * 3 + [LAST], 0),
    "to be closed": ([get(fields=CLOSE)], 1),
    "to be closed after others": ([get(), get(), get(fields=CLOSE)], 3),
    "an old client": ([get(version=b"1.0")], 1),
    "an old client that wants to stay": ([get(version=b"1.0", fields=b"Connection: keep-alive\r\n")], 1),
    "nonsense after hits": ([get(), get(), b"nonsense\r\n\r\n"], 2),
    "a bare line feed": ([get(), b"GET /hot HTTP/1.1\nHost: h\n\n"], 1),
    "another method": ([get(method=b"DELETE"), LAST], 0),
    "empty lines before": ([get(), b"\r\n" + get(), b"\r\n", get(), LAST], 3),
}


def dateless(written: bytes) -> bytes:
    """A refusal tells the time, which goes on between two of them."""
    return b"\r\n".join(line for line in written.split(b"\r\n") if not line.startswith(b"date:"))


@pytest.mark.parametrize(("segments", "given"), EXCHANGES.values(), ids=EXCHANGES)
def test_both_ways_write_the_same_bytes(segments: list[bytes], given: int) -> None:
    shelf = Shelf()
    assert dateless(exchanged(segments, shelf)) == dateless(exchanged(segments, None))
    assert shelf.given == given


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_both_ways_write_the_same_bytes_however_they_come(data: st.DataObject) -> None:
    sent = get() * 2 + get(b"/cold") + get(fields=OFFER) * 2 + get(b"/large") + LAST
    cuts = sorted(data.draw(st.sets(st.integers(1, len(sent) - 1), max_size=8)))
    segments = [sent[start:end] for start, end in itertools.pairwise([0, *cuts, len(sent)])]
    assert exchanged(segments, Shelf()) == exchanged(segments, None)


def test_a_head_that_came_before_is_not_read_again() -> None:
    async def play() -> int:
        shelf = Shelf()
        protocol, _ = connected(shelf)
        for _ in range(5):
            protocol.data_received(get())
        assert shelf.given == 5
        return shelf.read

    assert run(play) == 1


def test_other_connections_know_the_head_too() -> None:
    async def play() -> None:
        shelf = Shelf()
        shortcut = Shortcut(shelf, 1 << 20)
        for _ in range(3):
            protocol, wire = connected(shelf)
            protocol.shortcut = shortcut
            protocol.data_received(get())
            assert wire.written.endswith(BODIES[b"/hot"])
        assert (shelf.read, shelf.given) == (1, 3)

    run(play)


def test_what_is_at_hand_no_more_is_not_served_though_its_head_is_known() -> None:
    async def play() -> None:
        shelf = Shelf()
        protocol, wire = connected(shelf)
        for _ in range(2):
            protocol.data_received(get())
        shelf.bodies[b"/hot"] = b"new"
        protocol.data_received(get())
        assert wire.written.endswith(b"\r\n\r\nnew")
        shelf.bodies.clear()
        protocol.data_received(get())
        assert wire.written.endswith(b"\r\n\r\nnew")
        await turns()
        assert wire.written.endswith(BODIES[b"/hot"])  # what the app says
        assert shelf.given == 3

    run(play)


def test_what_is_not_at_hand_is_not_remembered_and_looked_for_again() -> None:
    async def play() -> None:
        shelf = Shelf()
        shelf.bodies.clear()
        protocol, _ = connected(shelf)
        protocol.data_received(get())
        await turns()
        shelf.bodies.update(BODIES)
        protocol.data_received(get())
        protocol.data_received(get())
        assert (shelf.read, shelf.given) == (2, 2)

    run(play)


def test_a_hit_waits_for_the_answer_before_it() -> None:
    async def play() -> None:
        go = asyncio.Event()

        async def slow(scope: Message, receive: Receive, send: Send) -> None:
            if scope["raw_path"] == b"/slow":
                await go.wait()
            await app(scope, receive, send)

        shelf = Shelf()
        protocol, wire = connected(shelf, with_app=slow)
        protocol.data_received(get())
        before = len(wire.written)
        protocol.data_received(get(b"/slow"))
        protocol.data_received(get())
        protocol.data_received(get() + get(b"/large"))
        await turns()
        assert len(wire.written) == before
        go.set()
        await turns(30)
        bodies = [b"the app: /slow", BODIES[b"/hot"], BODIES[b"/hot"], BODIES[b"/large"]]
        expected = b"".join(fast.head(200, head_of(body)) + body for body in bodies)
        assert wire.written[before:] == expected
        protocol.data_received(get())
        assert shelf.given == 2

    run(play)


def test_a_thousand_hits_in_a_row_behind_an_answer_are_all_given() -> None:
    sent = get(b"/cold") + get() * 3000 + LAST
    assert exchanged([sent], Shelf()).count(BODIES[b"/hot"]) == 3000


def test_who_does_not_read_is_not_written_to() -> None:
    async def play() -> None:
        shelf = Shelf()
        wire = Pausing(room=100_000)
        protocol, _ = connected(shelf, wire=wire)
        protocol.data_received(get(b"/large"))
        written = len(wire.written)
        assert written > 250_000
        for _ in range(3):
            protocol.data_received(get(b"/large"))
        protocol.data_received(get(b"/large") * 3)
        await turns()
        assert len(wire.written) == written and shelf.given == 1
        wire.room = sys.maxsize
        protocol.resume_writing()
        await turns(60)
        assert len(wire.written) == 7 * written

    run(play)


def test_who_may_not_use_it_does_not() -> None:
    async def play() -> None:
        shelf = Shelf()
        wire = Wire()
        wire._extra["peername"] = ("192.0.2.99", 5)  # type: ignore[attr-defined]
        protocol, _ = connected(shelf, wire=wire)
        protocol.data_received(get())
        await turns()
        assert wire.written and shelf.read == 0

    run(play)


def test_heads_are_remembered_within_bounds() -> None:
    async def play() -> None:
        shelf = Shelf()
        protocol, _ = connected(shelf, bound=10_000)
        assert protocol.shortcut is not None

        def known(number: int) -> bool:
            assert protocol.shortcut is not None
            return protocol.shortcut.known(get(fields=b"X: %d\r\n" % number)) is not None

        for number in range(1000):
            protocol.data_received(get(fields=b"X: %d\r\n" % number))
            protocol.data_received(get(fields=b"X: 0\r\n"))
        assert known(0) and known(999) and not known(1)
        assert sum(known(number) for number in range(1000)) < 10_000 / 512
        long = get(fields=b"X: %b\r\n" % (b"x" * 5000))
        protocol.data_received(long)
        protocol.data_received(get() + get())
        assert protocol.shortcut.known(long) is None and protocol.shortcut.known(get() + get()) is None
        assert shelf.given == 2003

    run(play)


def test_an_idle_connection_ends_although_its_heads_were_not_read() -> None:
    async def play() -> None:
        protocol, wire = connected(Shelf(), timeout_keep_alive=5)
        for _ in range(4):
            protocol.data_received(get())
            await asyncio.sleep(4)
            assert not wire.is_closing()
        await wire.closed.wait()

    run(play)


def test_who_still_reads_is_not_idle() -> None:
    async def play() -> None:
        wire = Pausing()
        protocol, _ = connected(Shelf(), wire=wire, timeout_keep_alive=1)
        wire.unsent = 1
        protocol.data_received(get(b"/mapped"))
        while wire.asked < 5:
            await asyncio.sleep(1)
            assert not wire.is_closing()
        wire.unsent = 0
        await wire.closed.wait()

    run(play)


def test_a_connection_that_only_had_known_heads_gets_its_timer_too() -> None:
    async def play() -> None:
        shelf = Shelf()
        first, _ = connected(shelf)
        first.data_received(get())
        second, wire = connected(shelf)
        second.shortcut = first.shortcut
        second.data_received(get())
        assert shelf.read == 1
        await wire.closed.wait()

    run(play)


@pytest.mark.parametrize("known", [False, True])
def test_draining_ends_an_idle_connection_at_once(known: bool) -> None:
    async def play() -> None:
        shelf = Shelf()
        first, _ = connected(shelf)
        first.data_received(get())
        protocol, wire = connected(shelf)
        if known:
            protocol.shortcut = first.shortcut
        protocol.data_received(get())
        protocol.shutdown()
        assert wire.is_closing()

    run(play)


def test_a_request_that_comes_while_draining_is_the_last() -> None:
    async def play() -> None:
        protocol, wire = connected(Shelf())
        protocol.shutdown()
        protocol.data_received(get())
        await wire.closed.wait()
        ((status, fields, _),) = [
            (status, fields, body) for status, fields, body in [_one(wire.written)] if fields["connection"] == "close"
        ]
        assert (status, fields["content-type"]) == (200, "text/plain")

    run(play)


def _one(written: bytes) -> tuple[int, dict[str, str], bytes]:
    head, _, body = written.partition(b"\r\n\r\n")
    ((status, fields, _),) = answers(io.BytesIO(head.replace(b"content-length", b"length") + b"\r\n\r\n"))
    return status, fields, body
