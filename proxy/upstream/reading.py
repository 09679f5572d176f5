"""One answer of HTTP/1.1, read as it comes (RFC 9112). It knows no network and no clock.

llhttp reads heads and chunks, lenient in nothing; a head is cut off before, at its first blank line, so that where it
ends and what lies behind is never a question. Lengths are counted here: most bodies are handed on in the pieces in
which they came.
"""

from __future__ import annotations

from collections import deque

from httpcore import RemoteProtocolError
from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from proxy.model import Headers
from proxy.upstream.base import Interim

LONGEST = 100 * 1024
"""Bytes of heads, those of interim answers counted in, and bytes of a chunked body that bring none of it."""
_MOST_TOLD = 16
"""Interim answers that are told; a flood of them is nobody's early hint."""

_BEGINNING, _END = b"HTTP/1.", b"\r\n\r\n"
_TEXT = bytes((*b"\t\r\n", *range(0x20, 0x7F), *range(0x80, 0x100)))
"""What a head is made of (RFC 9110 section 5.5). llhttp lets others pass in the words behind a status."""
_CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
"""What brings llhttp to chunks, whatever it thinks of how the head in hand says so: of a tab behind it for one."""
_DIGITS = 20
"""Of a length: llhttp takes any number of zeros before it."""
_CONTINUE, _SWITCHING = 100, 101  # the one answers an Expect, the other an Upgrade, and this proxy sends no Upgrade
_BODILESS = (204, 304)


class Reading:
    """An answer to a request of this method. `interim` is told of what comes before it (RFC 9110 section 15.2).

    begun: its head is there, in `status` and `fields` (the names in lower case). framed: where its body ends is said
    (RFC 9112 section 6.3). done: all of it is there, `pieces` being what of its body nobody has taken yet, of `size`
    bytes. lasting: the other end is willing to take another request after it. surplus: more than the answer has come.
    """

    __slots__ = (
        *("begun", "done", "fields", "framed", "lasting", "pieces", "size", "status", "surplus"),
        *("_barren", "_before", "_chunked", "_heads", "_interim", "_left", "_method", "_parsed", "_parser", "_tail"),
        "_told",
    )

    def __init__(self, method: bytes, interim: Interim | None = None) -> None:
        self.begun = self.done = self.surplus = False
        self.status = 0
        self.fields: Headers = ()
        self.framed = self.lasting = True
        self.pieces: deque[bytes] = deque()
        self.size = 0
        self._method = method
        self._interim = interim
        self._told = 0
        self._before = b""  # the beginning of a head
        self._heads = 0
        self._left: int | None = None  # bytes of the body that are still to come; None: until the connection ends
        self._chunked = False
        self._parser: HttpResponseParser
        self._parsed: _Parsed
        self._barren = 0
        self._tail = b""

    def feed(self, data: bytes) -> None:
        """These bytes have come. Raises `RemoteProtocolError` where they are not HTTP."""
        while not self.begun:
            before, data = len(self._before), self._before + data
            end = data.find(_END, max(0, before - len(_END) + 1)) + len(_END)
            whole = end >= len(_END)
            if self._heads + (end if whole else len(data)) > LONGEST:
                raise RemoteProtocolError("a head without end")
            if not whole:
                if data[: len(_BEGINNING)] != _BEGINNING[: len(data)] or data.count(b"\n") != data.count(b"\r\n"):
                    raise RemoteProtocolError("this is never going to be an answer of HTTP/1.1")
                self._before = data
                return
            self._before = b""
            self._heads += end
            self._read_head(data[:end])
            data = data[end:]
        if not data:
            return
        if self.done:
            self.surplus = True
        elif self._chunked:
            self._read_chunks(data)
        elif self._left is None:
            self._add(data)
        else:
            self._read_length(data, self._left)

    def end(self) -> None:
        """Nothing more comes. Raises `RemoteProtocolError` where something was missing (RFC 9112 section 8)."""
        self.lasting = False
        if not self.done and (not self.begun or self._chunked or self._left is not None):
            raise RemoteProtocolError("the connection ended in the middle of an answer")
        self.done = True

    def take(self) -> bytes:
        """The next piece of the body."""
        piece = self.pieces.popleft()
        self.size -= len(piece)
        return piece

    def _add(self, piece: bytes) -> None:
        self.pieces.append(piece)
        self.size += len(piece)

    def _read_head(self, head: bytes) -> None:
        old = head.startswith(_BEGINNING + b"0 ")
        if not (old or head.startswith(_BEGINNING + b"1 ")) or head.translate(None, _TEXT):
            raise RemoteProtocolError("not an answer of HTTP/1.1")
        parsed = _Parsed()
        parser = HttpResponseParser(parsed)
        try:
            parser.feed_data(head)
        except (HttpParserError, HttpParserUpgrade) as error:
            raise RemoteProtocolError(str(error)) from None
        status = parser.get_status_code()
        if not parsed.whole or not _CONTINUE <= status <= 599 or status == _SWITCHING:
            raise RemoteProtocolError("not the head of an answer")
        fields = tuple(parsed.fields)
        if status >= 200:
            self._begin(status, fields, old)
        elif any(name == b"transfer-encoding" for name, _ in fields):  # RFC 9112 section 6.1: it must not say so
            raise RemoteProtocolError("an interim answer with a body")
        elif status != _CONTINUE and self._interim is not None and self._told < _MOST_TOLD:
            self._told += 1
            self._interim(status, fields)

    def _begin(self, status: int, fields: Headers, old: bool) -> None:
        """The final head. Its length, where it has one, has passed llhttp: it is one number without a coding beside."""
        said = b""
        for name, value in fields:
            match name:
                case b"content-length":
                    if len(value) > _DIGITS:
                        raise RemoteProtocolError("a length of too many digits")
                    self._left = int(value)
                case b"transfer-encoding":
                    if self._chunked or value.lower() != b"chunked":
                        raise RemoteProtocolError("a coding that was not asked for")
                    self._chunked = True
                case b"connection":
                    said += b"," + value.lower()
        options = {option.strip(b" \t") for option in said.split(b",")} if said else ()
        if self._method == b"HEAD" or status in _BODILESS or (self._method == b"CONNECT" and status < 300):
            self._left, self._chunked = 0, False
        if self._chunked:
            self._parsed = _Parsed()
            self._parser = HttpResponseParser(self._parsed)
            self._parser.feed_data(_CHUNKED)
        self.framed = self._chunked or self._left is not None
        # RFC 9112 section 9.3, and 6.1 for chunks in an answer of HTTP/1.0.
        self.lasting = self.framed and b"close" not in options
        if old and (self._chunked or b"keep-alive" not in options):
            self.lasting = False
        self.status, self.fields = status, fields
        self.begun, self.done = True, self._left == 0

    def _read_length(self, data: bytes, left: int) -> None:
        if len(data) > left:
            data, self.surplus = data[:left], True
        self._add(data)
        self._left = left - len(data)
        self.done = self._left == 0

    def _read_chunks(self, data: bytes) -> None:
        parsed = self._parsed
        try:
            self._parser.feed_data(data)
        except HttpParserError as error:
            if not parsed.ended:
                raise RemoteProtocolError(str(error)) from None
            parsed.more = True
        self._tail = (self._tail + data[-5:])[-5:]
        if parsed.chunks:
            self._add(parsed.chunks[0] if len(parsed.chunks) == 1 else b"".join(parsed.chunks))
            parsed.chunks.clear()
            self._barren = 0
        else:
            self._barren += len(data)
            if self._barren > LONGEST:
                raise RemoteProtocolError("chunks without content")
        if parsed.ended:
            self.done = True
            # Line ends behind the blank line that ends it pass llhttp unseen.
            self.surplus = parsed.more or self._tail[1:] != _END or self._tail[0] in _END


class _Parsed:
    """What llhttp has found: the fields of a head, then the contents of chunks. Trailers are ignored."""

    __slots__ = ("chunks", "ended", "fields", "more", "whole")

    def __init__(self) -> None:
        self.fields: list[tuple[bytes, bytes]] = []
        self.chunks: list[bytes] = []
        self.whole = self.ended = self.more = False

    def on_message_begin(self) -> None:
        self.more = self.ended  # behind the end of one another begins

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.whole:
            self.fields.append((name.lower(), value.rstrip(b" \t")))
        elif name.lower() == b"transfer-encoding":  # as llhttp has it with a length (RFC 9110 section 6.5.1)
            raise ValueError("a trailer that frames the body")

    def on_headers_complete(self) -> None:
        self.whole = True

    def on_body(self, content: bytes) -> None:
        if not self.ended:
            self.chunks.append(content)

    def on_message_complete(self) -> None:
        self.ended = True
