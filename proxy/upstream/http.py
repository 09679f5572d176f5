"""crates.io's three hosts over httpx.

It works on the transport, below httpx's client: no cookie jar, no redirects, no environment variables, no
decoding, nothing added to a request but Host, Via and User-Agent.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import ssl
from collections.abc import AsyncGenerator, Callable, Mapping

import httpx

from proxy.errors import Busy, Dropped, Error, Faulty, Late, UpstreamError
from proxy.model import Head, Host
from proxy.upstream import connection
from proxy.upstream.base import Answer, Ask
from proxy.upstream.pool import REUSED, TARGET, Body, Pool

log = logging.getLogger("proxy.upstream")

CONNECTIONS = 64
"""Requests under way, and connections kept, per host: with upstream 50 ms away some 1,200 answers a second."""
STRAIGHT = 256
"""Reads that go straight through at a time, to all hosts: each holds a connection, and a file, for as long as its
client takes. Changes have no bound but that of the clients' connections: they are sent at once."""
IDLE = 4.0
"""Seconds that an idle connection is kept: below the 5 s after which common servers close theirs."""
VIA = b"1.1 crates-proxy"
"""RFC 9110 section 7.6.3: what a request came over, and who passes it on. What was in it already is not told: who
stands behind this proxy is nobody's business."""
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
"""In no value of a field (RFC 9110 section 5.5). h11 lets some pass, and HTTP/2 could carry a line break in one."""
_SAFE = ("GET", "HEAD")
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

        def pools(*, http2: bool, kept: int) -> dict[Host, Pool]:
            def pool(host: Host) -> Pool:
                # HTTP/2 costs three times the time of HTTP/1.1 for a large body, and saves round trips for small ones.
                made = httpx.AsyncHTTPTransport(
                    verify=context,
                    http2=http2 and host is not Host.STATIC,
                    limits=httpx.Limits(keepalive_expiry=IDLE),
                    trust_env=False,
                    proxy=proxy or None,
                )
                return Pool(connection.wired(made, overheard=not http2), self._origins[host], kept=kept)

            return {host: pool(host) for host in self._origins}

        self._shared = pools(http2=True, kept=CONNECTIONS)
        # What goes straight through may be in somebody's name, and nobody here judges what comes back: each has a
        # connection of its own, on which no answer but its own can come. To the API it is one a second, or a change.
        self._straight = pools(http2=False, kept=0)
        self._free = {host: asyncio.Semaphore(CONNECTIONS) for host in origins}
        self._free_straight = asyncio.Semaphore(STRAIGHT)

    async def send(self, ask: Ask) -> Answer:
        patience = self._patience if ask.patience is None else ask.patience
        pool = (self._straight if ask.straight else self._shared)[ask.host]
        if ask.straight and ask.method not in _SAFE:
            return _HttpAnswer(ask, await self._heard(ask, patience, pool), patience, lambda: None)
        free = self._free_straight if ask.straight else self._free[ask.host]
        try:
            async with asyncio.timeout(patience):
                await free.acquire()
        except TimeoutError:
            raise Busy(f"no connection to the {ask.host.value} host of crates.io became free; try again") from None
        try:
            response = await self._heard(ask, patience, pool)
        except BaseException:
            free.release()
            raise
        return _HttpAnswer(ask, response, patience, free.release)

    async def aclose(self) -> None:
        for pool in (*self._shared.values(), *self._straight.values()):
            await pool.aclose()

    async def _heard(self, ask: Ask, patience: float, pool: Pool) -> httpx.Response:
        if not ask.straight:
            try:
                # Where others are answered over the same connection (HTTP/2), httpcore would wait on with them.
                async with asyncio.timeout(self._connect_timeout + patience):
                    return await self._exchange(ask, patience, pool)
            except TimeoutError as error:
                raise _translated(ask, error) from None
        with connection.listening(ask.interim):
            return await self._exchange(ask, patience, pool)

    async def _exchange(self, ask: Ask, patience: float, pool: Pool) -> httpx.Response:
        request = self._request(ask, patience)
        try:
            return await _answered(request, pool)
        except Error:
            raise  # out of the body that is being sent
        except Exception as error:
            told = _translated(ask, error)
            # Upstream closed an idle connection while the request was on its way: that one is safe to repeat.
            reused = isinstance(error, _REUSED_DIED) and request.extensions.get(REUSED)
            if reused and ask.body is None and ask.method in _SAFE:
                raise Dropped(told.detail) from None
            raise told from None

    def _request(self, ask: Ask, patience: float) -> httpx.Request:
        timeout = {"connect": self._connect_timeout, "read": patience, "write": patience}
        return httpx.Request(
            ask.method,
            self._origins[ask.host],
            headers=[*ask.headers, (b"via", VIA), (b"user-agent", self._user_agent)],
            content=ask.body,
            extensions={"timeout": timeout, TARGET: ask.target.encode("ascii")},
        )


async def _answered(request: httpx.Request, pool: Pool) -> httpx.Response:
    response = await pool.handle_async_request(request)
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
    def __init__(self, ask: Ask, response: httpx.Response, patience: float, release: Callable[[], None]) -> None:
        self._ask = ask
        self._response = response
        assert isinstance(response.stream, Body)
        self._stream = response.stream
        self._release: Callable[[], None] | None = release
        fields = tuple((name.lower(), value) for name, value in response.headers.raw)
        names = {name for name, _ in fields}
        self._patience = patience
        self._http2 = response.extensions.get("http_version") == b"HTTP/2"
        bodiless = ask.method == "HEAD" or response.status_code in (204, 304)
        framed = bodiless or self._http2 or b"content-length" in names or b"transfer-encoding" in names
        self._head = Head(response.status_code, fields, framed)

    @property
    def head(self) -> Head:
        return self._head

    async def body(self) -> AsyncGenerator[bytes]:
        try:
            pieces = aiter(self._stream)
            while True:
                async with asyncio.timeout(self._patience) if self._http2 else contextlib.nullcontext():
                    piece = await anext(pieces, None)
                if piece is None:
                    return
                yield piece
        except Exception as error:
            raise _translated(self._ask, error) from None

    def distrust(self) -> None:
        self._stream.distrust()

    async def aclose(self) -> None:
        release, self._release = self._release, None
        if release is None:
            return
        try:
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
        case httpx.TimeoutException() | TimeoutError():
            told = Late(f"{what} did not answer in time; try again")
        case httpx.ConnectError() | httpx.ProxyError():
            told = Faulty(f"{what} cannot be reached; see /readyz, and try again")
        case _:
            told = Faulty(f"{what} broke off or answered with something that is not HTTP; try again")
    told.unsent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.ProxyError)
    return told
