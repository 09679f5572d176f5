"""What can go wrong on the way, as values: each lays out an answer in its own wrong manner.

A fault does nothing itself. It turns an answer into steps (bytes to send, a pause, an end), which the server
performs. `status` is what the log tells for it: 0 where no status line is sent.
"""

from __future__ import annotations

import functools
import gzip
import json
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import Protocol

from tests.upstream.steps import End, Pause, Step
from tests.upstream.wire import (
    CHUNKED,
    CLOSE,
    LAST_CHUNK,
    Headers,
    Reply,
    chunks,
    head,
    laid_out,
    length,
)


class Fault(Protocol):
    def status(self, reply: Reply) -> int:
        """The status the client will be told instead of the reply's."""

    def steps(self, reply: Reply) -> Iterator[Step]:
        """What happens on the wire."""


@dataclass(frozen=True)
class _Kept:
    """A fault that leaves the status as it is."""

    def status(self, reply: Reply) -> int:
        return reply.status


@dataclass(frozen=True)
class _Mute:
    """A fault that never sends a status line."""

    def status(self, reply: Reply) -> int:
        return 0


@dataclass(frozen=True)
class Status:
    """Another answer: an error page of some status, or any answer at all.

    Without a body it is crates.io's error envelope.
    """

    code: int
    headers: Headers = ()
    body: bytes | None = None

    def status(self, reply: Reply) -> int:
        return self.code

    def steps(self, reply: Reply) -> Iterator[Step]:
        if self.body is not None:
            yield laid_out(Reply(self.code, self.headers, self.body, bodiless=reply.bodiless))
            return
        body = json.dumps({"errors": [{"detail": f"scripted {self.code}"}]}).encode()
        headers = (("content-type", "application/json"), *self.headers)
        yield laid_out(Reply(self.code, headers, body, bodiless=reply.bodiless))


@dataclass(frozen=True)
class Stall(_Mute):
    """Takes the request and never says a word; `head` sends the head first."""

    head: bool = False

    def status(self, reply: Reply) -> int:
        return reply.status if self.head else 0

    def steps(self, reply: Reply) -> Iterator[Step]:
        if self.head:
            yield head(reply, length(reply))
        yield End.STALL


@dataclass(frozen=True)
class Delay(_Kept):
    """The right answer, late."""

    seconds: float = 1.0

    def steps(self, reply: Reply) -> Iterator[Step]:
        yield Pause(self.seconds)
        yield laid_out(reply)


@dataclass(frozen=True)
class Slow(_Kept):
    """The right answer, its body at `rate` bytes a second, twenty pieces a second."""

    rate: int = 10_000

    def steps(self, reply: Reply) -> Iterator[Step]:
        size = max(1, self.rate // 20)
        yield head(reply, length(reply))
        for start in range(0, len(reply.sent), size):
            yield Pause(size / self.rate)
            yield reply.sent[start : start + size]


class At(Enum):
    """Where an answer is cut off."""

    HEAD = auto()
    """within the header fields"""
    START = auto()
    """before the first byte of the body"""
    MIDDLE = auto()
    LAST_BYTE = auto()
    """all but one byte"""
    LAST_CHUNK = auto()
    """chunked and complete, but for the chunk that says so"""


@dataclass(frozen=True)
class Truncate(_Kept):
    """Closes in the midst of the answer; `at` may be a number of bytes of the body."""

    at: At | int = At.MIDDLE

    def steps(self, reply: Reply) -> Iterator[Step]:
        start = head(reply, length(reply))
        if self.at is At.HEAD:
            yield start[: len(start) // 2]
        elif self.at is At.LAST_CHUNK:
            yield head(reply, CHUNKED) + b"".join(chunks(reply.sent, 1024))
        else:
            size = len(reply.sent)
            kept = {At.START: 0, At.MIDDLE: size // 2, At.LAST_BYTE: size - 1}
            yield start + reply.sent[: self.at if isinstance(self.at, int) else kept[self.at]]
        yield End.CLOSE


@dataclass(frozen=True)
class Reset:
    """RST; after so many bytes of the body, or (None) instead of any answer."""

    after: int | None = None

    def status(self, reply: Reply) -> int:
        return 0 if self.after is None else reply.status

    def steps(self, reply: Reply) -> Iterator[Step]:
        if self.after is not None:
            yield head(reply, length(reply)) + reply.sent[: self.after]
            yield Pause(0.05)  # lets the bytes out: an RST may overtake them
        yield End.RESET


@dataclass(frozen=True)
class Garbage(_Mute):
    """Bytes that are no HTTP."""

    data: bytes = b"\x15\x03\x01\x00\x02\x02\x16 this is no HTTP\r\n\r\n"

    def steps(self, reply: Reply) -> Iterator[Step]:
        yield self.data
        yield End.CLOSE


@dataclass(frozen=True)
class Length(_Kept):
    """A Content-Length that is wrong by `difference`: above 0 promises more than comes, below 0 less."""

    difference: int = 1

    def steps(self, reply: Reply) -> Iterator[Step]:
        yield head(reply, length(reply, self.difference)) + reply.sent
        yield End.CLOSE


@dataclass(frozen=True)
class TwoLengths(_Kept):
    """Two Content-Length fields that contradict one another; the second is right."""

    def steps(self, reply: Reply) -> Iterator[Step]:
        yield head(reply, (*length(reply, -1), *length(reply))) + reply.sent
        yield End.CLOSE


@dataclass(frozen=True)
class Surplus:
    """Bytes behind the end of an answer that nobody has asked for; `pause` seconds later, if not at once. `sent`: they
    are on their way."""

    code: int = 200
    data: bytes = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil"
    pause: float = 0.0
    sent: threading.Event = field(default_factory=threading.Event, compare=False, repr=False)

    def status(self, reply: Reply) -> int:
        return self.code

    def steps(self, reply: Reply) -> Iterator[Step]:
        reply = replace(reply, status=self.code, body=b"" if self.code in (204, 304) else reply.body)
        if self.pause:
            yield laid_out(reply)
            yield Pause(self.pause)
            yield self.data
        else:
            yield laid_out(reply) + self.data
        self.sent.set()


@dataclass(frozen=True)
class Interim(_Kept):
    """The right answer, after these bytes, each piece in a segment of its own: interim answers, or what looks so."""

    pieces: tuple[bytes, ...]

    def steps(self, reply: Reply) -> Iterator[Step]:
        for piece in self.pieces:
            yield piece
            yield Pause(0.01)
        yield laid_out(reply)


@dataclass(frozen=True)
class Corrupt(_Kept):
    """One byte of the body flipped (the middle one, or that at `at`), all else right."""

    at: int | None = None

    def steps(self, reply: Reply) -> Iterator[Step]:
        body = bytearray(reply.body)
        if body:
            body[len(body) // 2 if self.at is None else self.at] ^= 0xFF
        yield laid_out(replace(reply, body=bytes(body)))


@dataclass(frozen=True)
class Chunked(_Kept):
    """The right answer in chunks, without a Content-Length."""

    size: int = 1024

    def steps(self, reply: Reply) -> Iterator[Step]:
        yield head(reply, CHUNKED)
        if not reply.bodiless:
            yield b"".join(chunks(reply.body, self.size)) + LAST_CHUNK


@dataclass(frozen=True)
class CloseDelimited(_Kept):
    """The right answer, its end told by the end of the connection only."""

    def steps(self, reply: Reply) -> Iterator[Step]:
        yield head(reply, CLOSE) + reply.sent
        yield End.CLOSE


@dataclass(frozen=True)
class Gzip(_Kept):
    """The right answer in gzip coding, whatever the client accepts (one that has it already stays as it is)."""

    def steps(self, reply: Reply) -> Iterator[Step]:
        if reply.header("content-encoding"):
            yield laid_out(reply)
            return
        headers = (*reply.headers, ("content-encoding", "gzip"))
        yield laid_out(replace(reply, headers=headers, body=gzip.compress(reply.body, mtime=0)))


@dataclass(frozen=True)
class Bomb(_Kept):
    """A body in gzip coding of which a thousand times as much comes out."""

    size: int = 200 * 1024 * 1024

    def steps(self, reply: Reply) -> Iterator[Step]:
        headers = tuple((name, value) for name, value in reply.headers if name != "content-encoding")
        headers = (*headers, ("content-encoding", "gzip"))
        yield laid_out(replace(reply, headers=headers, body=packed_zeros(self.size), chunked=False))


@functools.cache
def packed_zeros(size: int) -> bytes:
    """It takes a second or two to make."""
    packer = zlib.compressobj(9, wbits=31)
    pieces = [packer.compress(bytes(1024 * 1024)) for _ in range(size // (1024 * 1024))]
    return b"".join([*pieces, packer.flush()])


@dataclass(frozen=True)
class Endless(_Kept):
    """A body that never ends."""

    piece: bytes = field(default=b"x" * 65536, repr=False)
    pause: float = 0.001

    def steps(self, reply: Reply) -> Iterator[Step]:
        yield head(reply, CHUNKED)
        while True:
            yield b"".join(chunks(self.piece, len(self.piece)))
            yield Pause(self.pause)
