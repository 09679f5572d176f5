"""crates.io's three hosts over httpx.

It works on the transport, below httpx's client: no cookie jar, no redirects, no environment variables, no
decoding, nothing added to a request but Host, Via and User-Agent.
"""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

import httpx

from proxy.errors import Busy, Error, Faulty, Late, UpstreamError
from proxy.model import Head, Host
from proxy.upstream import connection
from proxy.upstream.base import Answer, Ask

log = logging.getLogger("proxy.upstream")

CONNECTIONS = 16
"""Per host. httpx rescans its pool on every release, so that larger pools are slower, not faster."""
READING = 256
"""Reads of a worker that pass straight through at a time: whoever reads slowly must not take all that this process
may open. Changes have no such bound; the server's own on connections is theirs."""
IDLE = 4.0
"""Seconds that an idle connection is kept: below the 5 s after which common servers close theirs."""
VIA = b"1.1 crates-proxy"
"""RFC 9110 section 7.6.3: what a request came over, and who passes it on. What was in it already is not told: who
stands behind this proxy is nobody's business."""
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
"""In no value of a field (RFC 9110 section 5.5). h11 lets some pass, and HTTP/2 could carry a line break in one."""
_REUSED_DIED = (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)


class HttpUpstream:
    """`origins`: scheme, host and port of each. `patience`: seconds without a byte before an answer is late."""

    def __init__(
        self,
        origins: Mapping[Host, str],
        *,
        user_agent: str,
        connect_timeout: float,
        patience: float,
        proxy: str = "",
        ca_file: str = "",
    ) -> None:
        self._origins = {host: httpx.URL(origin) for host, origin in origins.items()}
        self._user_agent = user_agent.encode("ascii", "replace")
        self._connect_timeout = connect_timeout
        self._patience = patience
        context = ssl.create_default_context(cafile=ca_file or None)

        def transport(connections: int | None, http2: bool) -> httpx.AsyncHTTPTransport:
            limits = httpx.Limits(
                max_connections=connections, max_keepalive_connections=CONNECTIONS, keepalive_expiry=IDLE
            )
            return httpx.AsyncHTTPTransport(
                verify=context, http2=http2, limits=limits, trust_env=False, proxy=proxy or None
            )

        # HTTP/2 costs three times the time of HTTP/1.1 for a large body, and saves round trips for small ones.
        self._shared = {host: transport(CONNECTIONS, host is not Host.STATIC) for host in origins}
        self._straight = connection.overheard(transport(None, http2=False))
        # The pool must never be the one to wait: its own queue can lose connections for ever.
        self._free = {host: asyncio.Semaphore(CONNECTIONS) for host in origins}
        self._reading = 0

    async def send(self, ask: Ask) -> Answer:
        patience = self._patience if ask.patience is None else ask.patience
        if ask.straight:
            return await self._passed(ask, patience)
        free = self._free[ask.host]
        try:
            async with asyncio.timeout(patience):
                await free.acquire()
        except TimeoutError:
            raise Busy(f"no connection to the {ask.host.value} host of crates.io became free; try again") from None
        try:
            response = await self._exchange(ask, patience, self._shared[ask.host])
        except BaseException:
            free.release()
            raise
        return _HttpAnswer(ask, response, free.release)

    async def _passed(self, ask: Ask, patience: float) -> Answer:
        reading = ask.method in ("GET", "HEAD")
        if reading and self._reading >= READING:
            raise Busy(f"this proxy passes {READING} reads through already; try again", status=503, retry_after=1)

        def ended() -> None:
            self._reading -= reading

        self._reading += reading
        try:
            with connection.listening(ask.interim):
                return _HttpAnswer(ask, await self._exchange(ask, patience, self._straight), ended)
        except BaseException:
            ended()
            raise

    async def aclose(self) -> None:
        for transport in (*self._shared.values(), self._straight):
            await transport.aclose()

    async def _exchange(self, ask: Ask, patience: float, transport: httpx.AsyncHTTPTransport) -> httpx.Response:
        connected = False

        async def trace(event: str, info: Mapping[str, Any]) -> None:
            nonlocal connected
            connected = connected or event.startswith("connection.connect_")

        extensions = {
            "timeout": {"connect": self._connect_timeout, "read": patience, "write": patience, "pool": None},
            "trace": trace,
        }
        try:
            try:
                return await self._once(ask, extensions, transport)
            except _REUSED_DIED:
                # Upstream closed an idle connection while the request was on its way: that one is safe to repeat.
                if connected or ask.body is not None or ask.method not in ("GET", "HEAD"):
                    raise
            return await self._once(ask, extensions, transport)
        except Error:
            raise  # out of the body that is being sent
        except Exception as error:
            raise _translated(ask, error) from None

    async def _once(self, ask: Ask, extensions: dict[str, Any], transport: httpx.AsyncHTTPTransport) -> httpx.Response:
        request = httpx.Request(
            ask.method,
            self._origins[ask.host].join(ask.target),
            headers=[*ask.headers, (b"via", VIA), (b"user-agent", self._user_agent)],
            content=ask.body,
            extensions=extensions,
        )
        response = await transport.handle_async_request(request)
        if not _sound(response):
            await response.aclose()
            raise httpx.RemoteProtocolError("a head that HTTP does not have")
        return response


def _sound(response: httpx.Response) -> bool:
    """Whether its head is one of HTTP. h11 takes one with a length and chunks, whose length is not that of its body."""
    names = {name.lower() for name, _ in response.headers.raw}
    return (
        200 <= response.status_code <= 599
        and not {b"content-length", b"transfer-encoding"} <= names
        and not any(_CONTROL.search(value) for _, value in response.headers.raw)
    )


class _HttpAnswer:
    def __init__(self, ask: Ask, response: httpx.Response, release: Callable[[], None]) -> None:
        self._ask = ask
        self._response = response
        self._release: Callable[[], None] | None = release
        fields = tuple((name.lower(), value) for name, value in response.headers.raw)
        names = {name for name, _ in fields}
        http2 = response.extensions.get("http_version") == b"HTTP/2"
        bodiless = ask.method == "HEAD" or response.status_code in (204, 304)
        framed = bodiless or http2 or b"content-length" in names or b"transfer-encoding" in names
        self._head = Head(response.status_code, fields, framed)

    @property
    def head(self) -> Head:
        return self._head

    async def body(self) -> AsyncGenerator[bytes]:
        stream = self._response.stream
        assert isinstance(stream, httpx.AsyncByteStream)
        try:
            async for piece in stream:
                yield piece
        except Exception as error:
            raise _translated(self._ask, error) from None

    async def aclose(self) -> None:
        release, self._release = self._release, None
        if release is None:
            return
        try:
            connection.unshared(self._response)
            await self._response.aclose()
        except Exception as error:
            raise _translated(self._ask, error) from None
        finally:
            release()


def _translated(ask: Ask, error: Exception) -> Error:
    # Besides its own errors, httpx lets through what h2, ssl and the socket raise: all of it is a faulty exchange.
    log.debug("%s %s host: %r", ask.method, ask.host.value, error)
    # A target on the API may hold a secret, such as an invitation's token; those of the other hosts never do.
    what = "crates.io" if ask.host is Host.API else f"{ask.target} on the {ask.host.value} host of crates.io"
    told: UpstreamError
    match error:
        case httpx.TimeoutException():
            told = Late(f"{what} did not answer in time; try again")
        case httpx.ConnectError() | httpx.ProxyError():
            told = Faulty(f"{what} cannot be reached; see /readyz, and try again")
        case _:
            told = Faulty(f"{what} broke off or answered with something that is not HTTP; try again")
    told.unsent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.ProxyError)
    return told
