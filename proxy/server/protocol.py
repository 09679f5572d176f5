"""One connection of HTTP/1.1: uvicorn's httptools protocol, with what a public cache needs put right.

    offers      an offer to leave HTTP/1.1 (cargo makes one with every request) is ignored, its body is not lost
    trailers    fields that follow a chunked body never become fields of the request
    refusals    are JSON, come in their turn behind pipelined answers, and are no news for the log
    draining    a connection whose first request is still on its way may send it
    interim     an application may tell its client something before the answer (1xx)
    HTTP/1.0    an answer without a length ends with its connection, since such a client knows no chunks

It knows bytes and ASGI scopes. It knows nothing of routes, caching or settings.
"""

from __future__ import annotations

import json
import logging
import time
import weakref
from asyncio import Transport
from collections.abc import Iterable
from email.utils import formatdate
from functools import partial
from typing import Any

import httptools
from uvicorn._types import ASGI3Application, ASGIReceiveCallable, ASGISendCallable, ASGISendEvent, Scope
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

log = logging.getLogger("proxy.server")

# A server may ignore Upgrade (RFC 9110 section 7.8). cargo and curl offer h2c with these on plain HTTP.
OFFER = frozenset({b"upgrade", b"http2-settings"})

# Extensions of the ASGI scope, all callables: to break an answer off, to ask whether its client has left, and to
# send an interim answer (status, fields), which is dropped where it cannot be sent any more.
ABORT, GONE, INTERIM = "crates-proxy.abort", "crates-proxy.gone", "crates-proxy.interim"

# How long a connection that has not sent its request may still do so once the server drains: seconds. Longer
# than a round trip over an office line, much shorter than any drain timeout.
GRACE = 1.0


Cycle = weakref.ref[RequestResponseCycle]


class Fault(Exception):
    """Raised out of the parser's callbacks: why a request is refused."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(status, detail)
        self.status = status
        self.detail = detail


class Protocol(HttpToolsProtocol):
    in_head = False
    draining = False
    refusal = b""
    url = b""
    answering: RequestResponseCycle | None = None
    beneath: Transport | None = None  # what carries it, where that is TLS

    @property
    def unsent(self) -> int:
        """Bytes that the client has not taken. What TLS has handed on already counts as well: nobody else sees whether
        it leaves, and a connection that ends waits for that."""
        beneath = 0 if self.beneath is None else self.beneath.get_write_buffer_size()
        return self.transport.get_write_buffer_size() + beneath

    @property
    def newest(self) -> RequestResponseCycle | None:
        """The request whose head came last; its body may still be on its way."""
        return self.cycle

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self.client = plainly(self.client)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)  # This tells the newest request only.
        if self.answering is not None and not self.answering.response_complete:
            self.answering.disconnected = True
            self.answering.message_event.set()

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        if self.refusal:
            return
        try:
            self._feed(data)
        except httptools.HttpParserCallbackError as error:
            fault = error.__context__
            if isinstance(fault, Fault):
                self.refuse(fault.status, fault.detail)
            else:
                self.refuse(400, "The target of the request is not a path.")
        except httptools.HttpParserError as error:
            self.refuse(400, f"This is not a valid HTTP/1.1 request: {error}.")

    def _feed(self, data: bytes | memoryview) -> None:
        """The parser stops behind a head that offers an upgrade, having taken the body for another protocol.
        A new parser reads the same head without the offer, and goes on with the bytes behind it."""
        while True:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as stop:
                if self.scope["method"] == "CONNECT":
                    self.refuse(400, "CONNECT is not served here: this is a mirror, not an open proxy.")
                    return
                head = f"{self.scope['method']} {self.url.decode()} HTTP/{self.parser.get_http_version()}".encode()
                fields = [b"%b: %b" % field for field in self.headers]
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
                self.parser.feed_data(b"\r\n".join([head, *fields, b"", b""]))
                data = memoryview(data)[stop.args[0] :]

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.in_head = True

    def on_header(self, name: bytes, value: bytes) -> None:
        name, value = name.lower(), value.rstrip(b" \t")
        if not self.in_head or name in OFFER:
            return  # A trailer may not be merged into the fields (RFC 9110 section 6.5.1).
        if name == b"connection":
            tokens = [token.strip() for token in value.split(b",")]
            value = b", ".join([token for token in tokens if token and token.lower() not in OFFER])
            if not value:
                return
        elif name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = self.parser.get_http_version() != "1.0"  # RFC 9110 section 10.1.1
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self.in_head = False
        if self.parser.should_upgrade():
            self.scope["method"] = self.parser.get_method().decode()
            return
        super().on_headers_complete()
        # Weakly: a cycle of references would stay until the collector of Python's comes by, which it seldom does.
        cycle = weakref.ref(self.cycle)
        extensions: dict[str, Any] = {
            ABORT: partial(self._abort, cycle),
            GONE: partial(self._gone, cycle),
            INTERIM: partial(self._interim, cycle),
        }
        self.scope["extensions"] = extensions
        if self.draining:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self.answering = cycle
        super()._start_asgi_task(cycle, partial(_unchunked, app, cycle) if _old(cycle) else app)

    def _gone(self, of: Cycle) -> bool:
        """Over TLS a client that has ended its side takes nothing more, and is told to be gone only when it has taken
        what is on its way."""
        cycle = of()
        if cycle is not None and self.beneath is not None and self.beneath.is_closing():
            cycle.disconnected = True
        return cycle is None or bool(cycle.disconnected)

    def _abort(self, of: Cycle) -> None:
        """What has been sent of this answer stands, the rest is not to be had: the client sees it cut short."""
        cycle = of()
        if cycle is None:
            return
        cycle.disconnected = True
        if _old(cycle):
            self.transport.abort()  # An orderly end might be the end of the answer.
        else:
            self.transport.close()

    def _interim(self, of: Cycle, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Whoever waits for it may be gone, or answered, by now; HTTP/1.0 has no such answers (RFC 9110 15.2)."""
        cycle = of()
        if cycle is None or cycle is not self.answering or cycle.response_started or cycle.disconnected:
            return
        if not _old(cycle) and not self.transport.is_closing():
            fields = [b"%b: %b\r\n" % field for field in headers]
            self.transport.write(b"".join([STATUS_LINE[status], *fields, b"\r\n"]))

    def on_response_complete(self) -> None:
        last = not self.pipeline
        super().on_response_complete()
        if last and self.refusal and not self.transport.is_closing():
            self._write_refusal()

    def refuse(self, status: int, detail: str, retry_after: int | None = None, bodiless: bool | None = None) -> None:
        """Answer what cannot be parsed or is too much, once every request before it is answered, and close. Whatever
        else arrives on the connection is ignored, and another refusal is none. `retry_after`: seconds. `bodiless`:
        whether it is a HEAD that is refused, where the parser has not seen it."""
        if self.refusal:
            return
        log.debug("refused a request: %d %s", status, detail)
        body = json.dumps({"errors": [{"detail": detail}]}, separators=(",", ":")).encode()
        head = [
            STATUS_LINE[status],
            b"date: %b\r\n" % formatdate(time.time(), usegmt=True).encode(),
            b"" if retry_after is None else b"retry-after: %d\r\n" % retry_after,
            b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body),
        ]
        if bodiless is None:  # before its target a parser tells the method of the request before
            bodiless = bool(self.url) and self.parser.get_method() == b"HEAD"
        self.refusal = b"".join(head if bodiless else [*head, body])
        cycle = self.cycle
        if self.answering is None or (cycle.response_complete and not cycle.more_body):
            self._write_refusal()
        elif cycle.more_body and self.pipeline and self.pipeline[0][0] is cycle:
            self.pipeline.popleft()  # The fault is in the body of a request whose turn has not come.
        elif cycle.more_body and not cycle.response_started:
            self._write_refusal()
        elif cycle.more_body:
            self.transport.close()  # It is being answered: the answer cannot be taken back, only cut short.

    def _write_refusal(self) -> None:
        if (newest := self.newest) is not None and not newest.response_complete:
            newest.disconnected = True  # the app need not wait for the rest of what is refused
            newest.waiting_for_100_continue = False  # nor is anything written behind the refusal
            newest.message_event.set()
        self.transport.write(self.refusal)
        self._written_refusal()

    def _written_refusal(self) -> None:
        """A client that is still sending reads the refusal only if what it sends is taken, not answered by a reset."""
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()

    def shutdown(self) -> None:
        self.draining = True
        if self.answering is None or self.in_head:
            # Two turns more, in which what has come is read: it may be this process that is late.
            self.loop.call_later(GRACE, self.loop.call_soon, self.loop.call_soon, super().shutdown)
        else:
            super().shutdown()


def plainly(client: tuple[str, int] | None) -> tuple[str, int] | None:
    """Address and port of a client; an IPv4 one of a dual-stack socket is written as IPv4 (RFC 4291 2.5.5.2)."""
    return client and (client[0].removeprefix("::ffff:"), client[1])


def _old(cycle: RequestResponseCycle) -> bool:
    return cycle.scope["http_version"] == "1.0"


async def _unchunked(
    app: ASGI3Application,
    cycle: RequestResponseCycle,
    scope: Scope,
    receive: ASGIReceiveCallable,
    send: ASGISendCallable,
) -> None:
    """The application, with an answer of unknown length that is ended by the end of the connection."""
    open_ended = False

    async def sent(message: ASGISendEvent) -> None:
        nonlocal open_ended
        if message["type"] == "http.response.start":
            open_ended = not any(name.lower() == b"content-length" for name, _ in message.get("headers", []))
            if open_ended:
                cycle.chunked_encoding = cycle.keep_alive = False
        elif message["type"] == "http.response.body" and open_ended:
            cycle.expected_content_length = len(message.get("body", b""))  # As long as it is, it is right.
        await send(message)

    await app(scope, receive, sent)
