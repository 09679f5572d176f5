"""Two readers of HTTP/1.1 before one answer: ours may refuse what h11 takes, and never takes what h11 refuses, nor
reads it as something else. For bytes that mean different things to different readers are how answers are smuggled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import h11
from httpcore import RemoteProtocolError

from proxy.model import Headers
from proxy.upstream.reading import LONGEST, Reading

STATUSES = (
    *(b"HTTP/1.1 200 OK", b"HTTP/1.1 200", b"HTTP/1.1 404 Not \xe9", b"HTTP/1.0 200 OK", b"HTTP/1.1 304 x"),
    *(b"HTTP/1.1 204 x", b"HTTP/1.1 600 x", b"HTTP/1.1 101 x", b"HTTP/2.0 200 x", b"HTTP/1.1  200", b"ICE/1.0 200 OK"),
)
LINES = (
    *(b"Content-Length: 5", b"content-length:0", b"Content-Length: 5, 5", b"Content-Length: +5", b"Content-Length: "),
    *(b"Content-Length: 99999999999999999999", b"Content-Length: 05 ", b"Content-Length: -1", b"Content-Length: 1_0"),
    *(b"Transfer-Encoding: chunked", b"transfer-encoding: chunked ", b"Transfer-Encoding: gzip, chunked"),
    *(b"Transfer-Encoding: identity", b"Transfer-Encoding: ", b"Transfer-Encoding: \x0bchunked"),
    *(
        b"Connection: close",
        b"Connection: keep-alive",
        b"Connection: a, Close",
        b"Connection: upgrade",
        b"Upgrade: h2c",
    ),
    *(
        b"X: a",
        b"X:",
        b"X:  a b \t",
        b"X : a",
        b" X: a",
        b": a",
        b"X: \x00",
        b"X: a\x01",
        b"X: \xff",
        b"X\xe9: a",
        b"X",
    ),
    *(b"X: a\rb", b"X: a\nb", b"X: a\r\n b", b"X(: a"),
)
BODIES = (
    *(b"hello", b"hell", b"hello!", b"", b"5\r\nhello\r\n0\r\n\r\n", b"5;a=b\r\nhello\r\n0\r\n\r\n"),
    *(b"5\r\nhello\r\n0\r\nX: a\r\n\r\n", b"5\r\nhello\r\n0\r\n", b"5\r\nhello0\r\n\r\n", b"5\nhello\n0\n\n"),
    *(b"05\r\nhello\r\n00\r\n\r\n", b"5 \r\nhello\r\n0\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n\r\n", b"g\r\nhello"),
    *(b"-5\r\nhello", b"ffffffffffffffffff\r\n", b"5\r\nhello\r\n0\r\n X: a\r\n\r\n", b"5\r\nhello\r\n0\r\nX\r\n\r\n"),
    b"5\r\nhello\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
)


@dataclass(frozen=True)
class _Found:
    """What a reader makes of an answer; `behind`: bytes behind its end."""

    status: int = 0
    fields: Headers = ()
    body: bytes = b""
    done: bool = False
    lasting: bool = False
    behind: bool = False


def seeds() -> Sequence[bytes]:
    heads = [b"HTTP/1.1 200 OK\r\n" + line + b"\r\n\r\n" for line in LINES]
    bodies = [head + body for head in (heads[0], heads[9], b"HTTP/1.0 200 OK\r\n\r\n") for body in BODIES]
    return [*heads, *bodies, *(status + b"\r\nContent-Length: 5\r\n\r\nhello" for status in STATUSES)]


def agreed(method: bytes, pieces: Sequence[bytes], ended: bool) -> None:
    """Raises `AssertionError` where they do not agree about these pieces, after which the connection may have ended."""
    data = b"".join(pieces)
    ours = _by_reading(method, pieces, ended)
    assert ours == _by_reading(method, [data], ended), f"it depends on how it comes: {pieces}"
    assert ours == _by_reading(method, [data[at : at + 1] for at in range(len(data))], ended), (
        f"or comes slowly: {data!r}"
    )
    if ours is None:
        return
    theirs = _by_h11(method, data, ended)
    if not ours.status and not ours.done:
        return  # it may still become an answer, or not
    if theirs is None and b"0" * 15 in data:
        return  # h11 takes no size of more than 20 digits; zeros before it change nothing
    assert theirs is not None, f"it is refused by h11: {data!r}"
    assert (ours.status, ours.fields, ours.body, ours.done) == (theirs.status, theirs.fields, theirs.body, theirs.done)
    assert ours.behind == theirs.behind, f"it ends elsewhere: {data!r}"
    # h11 keeps no connection of HTTP/1.0.
    assert ours.lasting <= theirs.lasting or data.startswith(b"HTTP/1.0 "), f"it is kept: {data!r}"


def _by_reading(method: bytes, pieces: Sequence[bytes], ended: bool) -> _Found | None:
    reading, body = Reading(method), b""
    try:
        for piece in pieces:
            reading.feed(piece)
            while reading.pieces:
                body += reading.take()
        if ended and not reading.done:
            reading.end()
    except RemoteProtocolError:
        return None
    kept = reading.done and reading.lasting
    return _Found(reading.status, _lowered(reading.fields), body, reading.done, kept, reading.surplus)


def _by_h11(method: bytes, data: bytes, ended: bool) -> _Found | None:
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=LONGEST)
    connection.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
    connection.send(h11.EndOfMessage())
    status, body, done = 0, b"", False
    fields: Headers = ()
    try:
        for piece in (data, b"") if ended and data else (data,):
            connection.receive_data(piece)
            while (event := connection.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
                if isinstance(event, h11.Response):
                    status, fields = event.status_code, tuple(event.headers)
                elif isinstance(event, h11.Data):
                    body += bytes(event.data)
                elif isinstance(event, h11.EndOfMessage):
                    done = True
                    break
            if done:
                break
    except h11.RemoteProtocolError:
        return None
    lasting = connection.our_state is h11.DONE and connection.their_state is h11.DONE
    return _Found(status, _lowered(fields), body, done, done and lasting, bool(done and connection.trailing_data[0]))


def _lowered(fields: Headers) -> Headers:
    """h11 writes the name of a coding in lower case."""
    return tuple((name, value.lower() if name == b"transfer-encoding" else value) for name, value in fields)
