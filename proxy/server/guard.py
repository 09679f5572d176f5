"""What no client may do to this server, whatever it sends or fails to read: limits and deadlines at the parser.

    heads         bytes, number of fields, time until the whole head is there; one meaning of Host and of the target
    bodies        a floor under the rate; nothing that goes on after its answer
    answers       whoever does not read them is put out, so that none waits in memory for ever
    connections   a cap on all, and on those of one client

It knows bytes and time. It knows nothing of routes or settings, nor who is admitted.
"""

from __future__ import annotations

import asyncio
import re
from asyncio import Transport
from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from typing import Protocol as Shape

import httptools
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from proxy.rules import clients, headers
from proxy.rules.clients import Networks
from proxy.server.protocol import Fault, Protocol

# RFC 3986 section 3.2.2 without user information, which no Host has (RFC 9110 section 7.2); empty is allowed there.
_HOST = re.compile(rb"(?:\[[0-9A-Za-z:.%_~-]+\]|[0-9A-Za-z._~%!$&'()*+,;=-]*)(?::[0-9]{0,5})?")

PERIOD = 1.0
"""Seconds between two looks at all connections: deadlines are kept to within it, and cost nothing between."""
LINGER = 2.0
"""Seconds in which a client that was refused may still send, so that it reads why instead of a reset."""
DRAINED = 64 * 1024
"""Bytes of an answer that a client takes within the write timeout, or all that is left: 1 KiB a second by default."""
OVERFULL = 1.25
"""Times the cap on connections at which one is not even told that there are too many."""
_END_TO_END = frozenset(
    (
        b"authorization",
        b"cache-control",
        b"content-encoding",
        b"content-length",
        b"content-type",
        b"cookie",
        b"host",
        b"transfer-encoding",
    )
)
"""Fields that no Connection may name (RFC 9110 section 7.6.1): who does so wants them lost on the way."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes, times in seconds, the rate in bytes a second; no cap for one client is 0. `trusted` are front
    servers, which are many clients at once: the cap on one client is not theirs."""

    header_bytes: int = 32 * 1024
    headers: int = 100
    header_timeout: float = 10.0
    body_min_rate: float = 1024.0
    write_timeout: float = 60.0
    connections: int = 4096
    connections_per_client: int = 0
    trusted: Networks = Networks()


class Watched(Shape):
    """A connection, in the hands of whichever protocol."""

    loop: asyncio.AbstractEventLoop
    client: tuple[str, int] | None

    def look(self, now: float, passed: float) -> None:
        """Keep the deadlines; `passed` seconds since the last look."""


@dataclass(slots=True)
class Watch:
    """All connections of one server: who has how many, and the look at each of them now and then."""

    limits: Limits = Limits()
    watched: set[Watched] = field(default_factory=set)
    clients: Counter[str] = field(default_factory=Counter)
    timer: asyncio.TimerHandle | None = None

    @property
    def period(self) -> float:
        return min(PERIOD, self.limits.header_timeout / 4, self.limits.write_timeout / 4)

    def come(self, connection: Watched) -> str:
        """Count a new connection in; why it is one too many, or ""."""
        self.watched.add(connection)
        if self.timer is None:
            self.timer = connection.loop.call_later(self.period, self._look, connection.loop)
        address = connection.client[0] if connection.client else ""
        self.clients[address] += 1  # whatever becomes of it, for `go` counts it out again
        if len(self.watched) > self.limits.connections:
            return f"This proxy has its {self.limits.connections} connections (server.max_connections)."
        most = self.limits.connections_per_client
        if not most or self.clients[address] <= most:
            return ""
        who = clients.address(address)
        if who is None or who in self.limits.trusted:
            return ""
        return f"{address} has its {most} connections to this proxy (server.max_connections_per_client)."

    @property
    def overfull(self) -> bool:
        """Whether there are so many that one is not even told."""
        return len(self.watched) > self.limits.connections * OVERFULL

    def go(self, connection: Watched) -> None:
        self.watched.discard(connection)
        address = connection.client[0] if connection.client else ""
        self.clients[address] -= 1
        if self.clients[address] <= 0:
            del self.clients[address]

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for connection in list(self.watched):
            connection.look(now, self.period)
        self.timer = loop.call_later(self.period, self._look, loop) if self.watched else None


class Guarded(Protocol):
    watch: Watch  # of the class: all connections of a server share it

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self.head_since: float | None = self.loop.time()  # when the head that is awaited or on its way began
        self._head_bytes = 0  # of the head that is on its way, fields that are not whole included
        self._fields = self._size = 0  # of the head, then of the trailers: whole fields, and what they take
        self._unread = 0  # bytes of a body that brought none of its content: chunk sizes, extensions, trailers
        self._body_bytes, self._body_time = 0, 0.0
        self._outlived = 0.0
        self._unsent: tuple[float, int] | None = None  # since when no progress, and how much waited then
        self._resumed = False
        self._refused_since: float | None = None
        self.crowded = self.watch.come(self)
        if self.watch.overfull:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.watch.go(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.crowded:
            self.refuse(503, self.crowded, retry_after=1, bodiless=data.startswith(b"HEAD "))
            return
        newest = self.newest
        in_body = newest is not None and newest.more_body and not self.in_head
        self._unread += len(data)
        super().data_received(data)
        if self.refusal:
            return
        if self.in_head:
            if self.head_since is None:
                self.head_since = self.loop.time()
            # Fields that are not whole yet are counted here; where the head began inside these bytes, about.
            began = data.rfind(b"\r\n\r\n") + 4 if in_body or b"\r\n\r\n" in data else 0
            self._head_bytes += len(data) - began
            if self._head_bytes > self.watch.limits.header_bytes:
                self.refuse(*self._too_long())
        elif in_body and self._unread > self.watch.limits.header_bytes + len(data):
            self.refuse(431, "What surrounds the content of this body is longer than the content.")
        elif self.head_since is None and self.timeout_keep_alive_task is None and self._ended():
            self.head_since = self.loop.time()  # it was an empty line, which ends with no timer of uvicorn's

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_bytes = self._fields = self._size = 0

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields += 1
        self._count(len(name) + len(value) + 4)
        if self._fields > self.watch.limits.headers:
            raise Fault(431, f"A request may have {self.watch.limits.headers} fields (server.max_headers).")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self.head_since = None
        self._head_bytes = self._fields = self._size = self._unread = 0
        self._body_bytes, self._body_time, self._outlived = 0, 0.0, 0.0
        self._check_head()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._unread = 0
        self._body_bytes += len(body)
        super().on_body(body)

    def resume_writing(self) -> None:
        self._resumed = True
        super().resume_writing()

    def look(self, now: float, passed: float) -> None:
        """Keep the deadlines; `passed` seconds since the last look."""
        limits = self.watch.limits
        if self._refused_since is not None:
            if now - self._refused_since > LINGER:
                self.transport.abort()
        elif self.head_since is not None and self.flow.read_paused:
            self.head_since = now  # it may be there, but is not taken while others are answered
        elif self.head_since is not None and now - self.head_since > limits.header_timeout:
            if self.in_head:
                self.refuse(408, f"The head of a request has {limits.header_timeout:g} s (server.header_timeout).")
            else:
                self.transport.close()
        elif (newest := self.newest) is not None and newest.more_body:
            self._look_at_body(newest, passed)
        self._look_at_answer(now)

    def _ended(self) -> bool:
        """Whether nothing is under way: neither an answer nor a body."""
        newest = self.newest
        return newest is not None and newest.response_complete and not newest.more_body

    def _look_at_body(self, newest: RequestResponseCycle, passed: float) -> None:
        limits = self.watch.limits
        if newest.response_complete:  # what it still sends is of no use to anybody
            self._outlived += passed
            if self._outlived > limits.header_timeout:
                self.transport.close()
        elif not self.flow.read_paused:
            self._body_time += passed
            if self._body_bytes < limits.body_min_rate * (self._body_time - limits.header_timeout):
                self.refuse(408, f"A body comes with {limits.body_min_rate:g} bytes a second (server.body_min_rate).")

    def _look_at_answer(self, now: float) -> None:
        waiting = self.unsent
        if waiting == 0:
            self._unsent = None
        elif self._unsent is None or self._resumed or waiting <= self._unsent[1] - DRAINED:
            self._unsent = (now, waiting)
        elif now - self._unsent[0] > self.watch.limits.write_timeout:
            self.transport.abort()
        self._resumed = False

    def _written_refusal(self) -> None:
        self._refused_since = self.loop.time()
        super()._written_refusal()

    def _count(self, size: int) -> None:
        self._size += size
        if self._size > self.watch.limits.header_bytes:
            raise Fault(*self._too_long())

    def _too_long(self) -> tuple[int, str]:
        most = self.watch.limits.header_bytes
        if self._fields == 0:
            return 414, f"The target of a request and its head may have {most} bytes (server.max_header_bytes)."
        return 431, f"The head of a request may have {most} bytes (server.max_header_bytes)."

    def _check_head(self) -> None:
        """One meaning for everybody on the way: RFC 9112 sections 3.2 and 6.1."""
        version = self.parser.get_http_version()
        if version not in ("1.0", "1.1"):
            raise Fault(400, "This server speaks HTTP/1.1 and HTTP/1.0.")
        fields = tuple(self.headers)
        hosts = [value for name, value in fields if name == b"host"]
        if len(hosts) > 1 or (not hosts and version == "1.1"):
            raise Fault(400, "A request has one Host field.")
        if hosts and not _HOST.fullmatch(hosts[0]):
            raise Fault(400, "The Host field is not HOST or HOST:PORT.")
        coding = headers.value(fields, b"transfer-encoding")
        if coding is not None and (version == "1.0" or coding.lower() != b"chunked"):
            raise Fault(400, "The one Transfer-Encoding of a request is chunked, and HTTP/1.0 has none.")
        if not _END_TO_END.isdisjoint(headers.named(fields)):
            raise Fault(400, "Connection names a field that is meant for everybody on the way.")
        if b"#" in self.url:
            raise Fault(400, "The target of a request has no fragment.")
        if self.parser.get_method() == b"CONNECT" or self.url.startswith(b"/") or self.url == b"*":
            return
        if hosts[:1] != [_authority(self.url)]:
            raise Fault(421, "This proxy answers for itself only: the target names another host than the Host field.")


def _authority(url: bytes) -> bytes:
    """The host and port of an absolute target."""
    try:
        parsed = httptools.parse_url(url)
    except httptools.HttpParserInvalidURLError:
        return b""
    if parsed.schema not in (b"http", b"https") or parsed.userinfo:
        return b""
    host = b"[%b]" % parsed.host if b":" in (parsed.host or b"") else parsed.host
    return b"%b:%d" % (host, parsed.port) if parsed.port else host


def bound(protocol: type[Any], limits: Limits) -> type[Any]:
    """The class of a server's connections, with the limits and the watch that they share."""
    return type(protocol.__name__, (protocol,), {"watch": Watch(limits)})
