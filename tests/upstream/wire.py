"""HTTP/1.1 as bytes: requests read from a socket, answers laid out for one. Knows nothing of crates.

A server of its own rather than uvicorn's, because a test must be able to send wrong bytes (see `faults`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from urllib.parse import parse_qsl

import h11

Headers = tuple[tuple[str, str], ...]

# A publish body is one event per read; only the head counts against this.
HEAD_LIMIT = 256 * 1024


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it came: `target` is raw, header names are lower-case."""

    host: str
    method: str
    target: str
    headers: Headers = ()
    body: bytes = b""

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> list[tuple[str, str]]:
        return parse_qsl(self.target.partition("?")[2], keep_blank_values=True)

    def header(self, name: str) -> str:
        """The values of a field joined by commas, empty where it is absent."""
        return ", ".join(value for field, value in self.headers if field == name)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer before it is bytes. `bodiless` (HEAD) keeps the length of a body that isn't sent."""

    status: int
    headers: Headers = ()
    body: bytes = b""
    chunked: bool = False
    bodiless: bool = False

    @property
    def sent(self) -> bytes:
        return b"" if self.bodiless else self.body

    def header(self, name: str) -> str:
        return ", ".join(value for field, value in self.headers if field.lower() == name)


class Refusal(Exception):
    """Raised by a handler to answer with an error."""

    def __init__(self, status: int, detail: str, headers: Headers = ()) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers


def http_date(at: float) -> str:
    return formatdate(at, usegmt=True)


def head(reply: Reply, framing: Headers) -> bytes:
    """Status line and fields; `framing` says how the end of the body is told."""
    try:
        phrase = HTTPStatus(reply.status).phrase
    except ValueError:
        phrase = "Unknown"
    lines = [f"HTTP/1.1 {reply.status} {phrase}"]
    lines += [f"{name}: {value}" for name, value in (*reply.headers, *framing)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def length(reply: Reply, difference: int = 0) -> Headers:
    """Content-Length; 204 and 304 carry none (RFC 9110 section 8.6)."""
    if reply.status in (204, 304):
        return ()
    return (("content-length", str(len(reply.body) + difference)),)


def chunks(data: bytes, size: int) -> list[bytes]:
    """`data` as chunks of the chunked coding, without the last one."""
    parts = [data[start : start + size] for start in range(0, len(data), size)]
    return [b"%x\r\n%s\r\n" % (len(part), part) for part in parts]


LAST_CHUNK = b"0\r\n\r\n"
CHUNKED: Headers = (("transfer-encoding", "chunked"),)
CLOSE: Headers = (("connection", "close"),)


def laid_out(reply: Reply) -> bytes:
    """The whole of a healthy answer."""
    if not reply.chunked:
        return head(reply, length(reply)) + reply.sent
    body = b"" if reply.bodiless else b"".join(chunks(reply.body, 4096)) + LAST_CHUNK
    return head(reply, CHUNKED) + body


async def requests(host: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> AsyncIterator[Request]:
    """The requests of one connection, until the client closes it or asks for that.

    Raises h11.RemoteProtocolError for what is no HTTP.
    """
    left = b""
    while True:
        # One parser a request: it is never told what is answered, which may be anything at all.
        parser = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_LIMIT)
        if left:
            parser.receive_data(left)
        first: h11.Request | None = None
        body = bytearray()
        while True:
            event = parser.next_event()
            if event is h11.NEED_DATA:
                if parser.they_are_waiting_for_100_continue:
                    writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                    parser.send(h11.InformationalResponse(status_code=100, headers=[]))
                parser.receive_data(await reader.read(65536))
            elif isinstance(event, h11.Request):
                first = event
            elif isinstance(event, h11.Data):
                body += event.data
            else:
                break
        if first is None or not isinstance(event, h11.EndOfMessage):
            return
        fields = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in first.headers)
        yield Request(host, first.method.decode(), first.target.decode("latin-1"), fields, bytes(body))
        if parser.their_state is h11.MUST_CLOSE:
            return
        left = parser.trailing_data[0]
