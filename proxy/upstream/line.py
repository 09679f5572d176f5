"""One connection of HTTP/1.1 to a host, on the event loop's transport: a request goes, its answer comes, the next."""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
import select
from collections.abc import AsyncIterator

from httpcore import LocalProtocolError, ReadError, ReadTimeout, RemoteProtocolError, WriteTimeout

from proxy.upstream.exchange import Sending
from proxy.upstream.reading import Reading
from proxy.upstream.wire import Wire

FULL = 256 * 1024
"""Bytes that wait to be read, and the other end has to wait, too."""
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_HEAD = re.compile(_TOKEN + rb" [\x21-\x7e]+ HTTP/1\.1\r\n(?:" + _TOKEN + rb": [\t\x20-\x7e\x80-\xff]*\r\n)+\r\n")


class Line(asyncio.Protocol):
    """A `Connection`, over a `wire` that nobody else uses. `rested`: when it last became idle, in the loop's time."""

    many = False

    def __init__(self, wire: Wire) -> None:
        self.served = False
        self.rested = 0.0
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._poll = select.poll()
        self._reading: Reading | None = None
        self._unsent = False  # the body of the request is not through
        self._ended = False
        self._fault: Exception | None = None  # what kept the answer from coming
        self._full = False  # the other end does not read
        self._stopped = False  # nobody reads here
        self._heard = 0.0  # when the last byte came
        self._waiting: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._wire = wire
        wire.lend(self)

    def usable(self) -> bool:
        """Nothing has come since its last answer, be it the end, not even what the kernel has and the loop has not come
        to yet."""
        return not self._gone() and not self._poll.poll(0)

    async def ask(self, sending: Sending) -> Answered:
        reading = self._reading = Reading(sending.method, sending.interim)
        try:
            written = head(sending)
            if self._gone():
                raise RemoteProtocolError("the connection has ended")
            self._transport.write(written)
            if sending.body is not None:
                await self._send(sending, sending.body, reading)
            while not reading.begun:
                await self.more(sending.patience, sending.until)
        except BaseException:
            self.close()
            raise
        self.served = True
        return Answered(self, reading, sending.patience)

    def rest(self) -> bool:
        reading, self._reading = self._reading, None
        if reading is None or not reading.done or not reading.lasting or reading.surplus:
            return False
        self.rested = self._loop.time()
        return not (self._gone() or self._unsent or self._stopped)

    async def aclose(self) -> None:
        self.close()

    def leave(self) -> None:
        """After CONNECT: what comes from now on is for others. Raises `RemoteProtocolError` where something has come
        already, be it the end."""
        if self._reading is None or self._reading.surplus or self._gone():
            raise RemoteProtocolError("the other end has spoken first, or gone")
        self._wire.take_back()

    def close(self) -> None:
        self._ended = True
        self._transport.abort()  # at once: over TLS there would be a farewell to wait for

    async def more(self, patience: float, until: float = math.inf) -> None:
        """Wait until something has come of the answer. Raises what keeps it from coming."""
        if self._ended:
            raise self._fault or ReadError("the connection is closed")
        await self._woken(patience, until, ReadTimeout)

    def taken(self, size: int) -> None:
        """So many bytes are still to be read by whoever reads."""
        if self._stopped and size < FULL:
            self._stopped = False
            with contextlib.suppress(RuntimeError):  # it is closing
                self._transport.resume_reading()

    async def _send(self, sending: Sending, body: AsyncIterator[bytes], reading: Reading) -> None:
        """The body, until it ends, or the host refuses it before or goes (RFC 9112 section 9.5)."""
        left = _length(sending)
        self._unsent = True
        async for piece in body:
            if not piece:
                continue
            if left is not None:
                left -= len(piece)
                if left < 0:
                    raise LocalProtocolError("the body is longer than announced")
            if not self._refused(reading):
                # Not `writelines`, with which asyncio forgets to say that the other end does not read (CVE-2024-12254).
                self._transport.write(piece if left is not None else b"%x\r\n%b\r\n" % (len(piece), piece))
            while self._full and not self._refused(reading):
                await self._woken(sending.patience, math.inf, WriteTimeout)
            if self._refused(reading):
                return
        if self._refused(reading):
            return
        if left is None:
            self._transport.write(b"0\r\n\r\n")
        elif left:
            raise LocalProtocolError("the body is shorter than announced")
        self._unsent = False

    def _refused(self, reading: Reading) -> bool:
        return self._gone() or reading.status >= 400

    def _gone(self) -> bool:
        return self._ended or self._transport.is_closing()

    async def _woken(self, patience: float, until: float, late: type[Exception]) -> None:
        self._heard = self._loop.time()
        self._waiting = self._loop.create_future()
        self._watch(patience, until, late)
        try:
            await self._waiting
        finally:
            self._waiting = None
            if self._timer is not None:
                self._timer.cancel()

    def _watch(self, patience: float, until: float, late: type[Exception]) -> None:
        """Time passes: whoever waits does so until nothing has come for so long, or `until` then."""
        due = min(self._heard + patience, until)
        if due > self._loop.time():
            self._timer = self._loop.call_at(due, self._watch, patience, until, late)
        elif self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(late())

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        self._transport = transport
        self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def data_received(self, data: bytes) -> None:
        reading = self._reading
        if reading is None or self._ended:
            self.close()
            return
        self._heard = self._loop.time()
        try:
            reading.feed(data)
        except Exception as error:  # whoever is told of an interim answer may fail as well
            self._ended, self._fault = True, error
        if reading.surplus:
            self.close()
        elif reading.size >= FULL and not self._stopped:
            self._stopped = True
            self._transport.pause_reading()
        if reading.begun or self._ended:
            self._wake()

    def eof_received(self) -> None:
        self._end(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(exc)

    def _end(self, exc: Exception | None) -> None:
        reading = self._reading
        if reading is not None and not reading.done and not self._ended:
            try:
                if exc is not None:
                    raise ReadError(str(exc))
                reading.end()
            except (ReadError, RemoteProtocolError) as error:
                self._fault = error
        self._ended = True
        self._wake()

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self._wake()


class Answered:
    """A `Heard`: the answer that a line has begun to read."""

    def __init__(self, line: Line, reading: Reading, patience: float) -> None:
        self.status, self.fields, self.framed = reading.status, reading.fields, reading.framed
        self._line = line
        self._reading = reading
        self._patience = patience

    async def piece(self) -> bytes:
        reading = self._reading
        while not reading.pieces:
            if reading.done:
                return b""
            await self._line.more(self._patience)
        piece = reading.take()
        self._line.taken(reading.size)
        return piece

    async def aclose(self) -> None:
        pass


def head(sending: Sending) -> bytes:
    """RFC 9112 section 3. Raises `LocalProtocolError` where it would be read as something else: where a line is none of
    HTTP, or one has come along within another."""
    fields = b"".join([b"%b: %b\r\n" % field for field in sending.fields])
    written = b"%b %b HTTP/1.1\r\n%b\r\n" % (sending.method, sending.target, fields)
    lines = len(sending.fields) + 2
    if _HEAD.fullmatch(written) is None or written.count(b"\n") != lines or (sending.body is None and _length(sending)):
        raise LocalProtocolError("this is no head of HTTP")
    return written


def _length(sending: Sending) -> int | None:
    """That of its body; None where that goes in chunks (RFC 9112 section 6.2)."""
    for name, value in sending.fields:
        if name.lower() == b"content-length":
            return int(value)
    return None
