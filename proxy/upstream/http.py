"""crates.io's three hosts over HTTP.

It works below httpx's client: no cookie jar, no redirects, no environment variables, no decoding, nothing added to a
request but Host, Via and User-Agent, and what frames its body.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import AsyncGenerator, Callable, Mapping

import httpcore
import httpx

from proxy.errors import Busy, Dropped, Error, Faulty, Late, UpstreamError
from proxy.model import Head, Host
from proxy.upstream.base import Answer, Ask
from proxy.upstream.connecting import Tls, Way
from proxy.upstream.exchange import Sending
from proxy.upstream.pool import Pool, Reply

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
_SAFE = ("GET", "HEAD")
_WITH_CONTENT = ("POST", "PUT", "PATCH")
"""Methods whose requests say that they have none (RFC 9110 section 8.6)."""
_REUSED_DIED = (httpcore.ReadError, httpcore.WriteError, httpcore.RemoteProtocolError)
_UNSENT = (httpcore.ConnectError, httpcore.ConnectTimeout, httpcore.ProxyError)


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
        self._user_agent = user_agent.encode("ascii", "replace")
        self._connect_timeout = connect_timeout
        self._patience = patience
        tls = Tls.believing(ca_file)
        through = httpx.Proxy(proxy) if proxy else None

        def pools(*, offering: bool, kept: int) -> dict[Host, Pool]:
            def pool(host: Host, origin: str) -> Pool:
                # HTTP/2 costs more time than HTTP/1.1 for a large body, and saves round trips for small ones.
                offered = offering and host is not Host.STATIC
                way = Way(httpx.URL(origin), tls, offering=offered, within=connect_timeout, proxy=through)
                return Pool(way, kept=kept, idle=IDLE)

            return {host: pool(host, origin) for host, origin in origins.items()}

        self._shared = pools(offering=True, kept=CONNECTIONS)
        # What goes straight through may be in somebody's name, and nobody here judges what comes back: each has a
        # connection of its own, on which no answer but its own can come. To the API it is one a second, or a change.
        self._straight = pools(offering=False, kept=0)
        self._free = {host: asyncio.Semaphore(CONNECTIONS) for host in origins}
        self._free_straight = asyncio.Semaphore(STRAIGHT)

    async def send(self, ask: Ask) -> Answer:
        patience = self._patience if ask.patience is None else ask.patience
        pool = (self._straight if ask.straight else self._shared)[ask.host]
        if ask.straight and ask.method not in _SAFE:
            return _HttpAnswer(ask, await self._exchange(ask, patience, pool), lambda: None)
        free = self._free_straight if ask.straight else self._free[ask.host]
        try:
            async with asyncio.timeout(patience) if free.locked() else contextlib.nullcontext():
                await free.acquire()
        except TimeoutError:
            raise Busy(f"no connection to the {ask.host.value} host of crates.io became free; try again") from None
        try:
            reply = await self._exchange(ask, patience, pool)
        except BaseException:
            free.release()
            raise
        return _HttpAnswer(ask, reply, free.release)

    async def aclose(self) -> None:
        for pool in (*self._shared.values(), *self._straight.values()):
            await pool.aclose()

    async def _exchange(self, ask: Ask, patience: float, pool: Pool) -> Reply:
        sending = self._sending(ask, patience, pool)
        try:
            return await pool.send(sending)
        except Error:
            raise  # out of the body that is being sent
        except Exception as error:
            told = _translated(ask, error)
            # Upstream closed an idle connection while the request was on its way: that one is safe to repeat.
            if sending.reused and isinstance(error, _REUSED_DIED) and ask.body is None and ask.method in _SAFE:
                raise Dropped(told.detail) from None
            raise told from None

    def _sending(self, ask: Ask, patience: float, pool: Pool) -> Sending:
        fields = [*pool.way.fields]
        framed = any(name == b"content-length" for name, _ in ask.headers)
        if ask.body is None and ask.method in _WITH_CONTENT and not framed:
            fields.append((b"Content-Length", b"0"))
        fields += (*ask.headers, (b"via", VIA), (b"user-agent", self._user_agent))
        if ask.body is not None and not framed:
            fields.append((b"Transfer-Encoding", b"chunked"))
        until = math.inf if ask.straight else asyncio.get_running_loop().time() + self._connect_timeout + patience
        return Sending(
            ask.method.encode("ascii"),
            pool.way.prefix + ask.target.encode("ascii"),
            fields,
            patience,
            body=ask.body,
            interim=ask.interim if ask.straight else None,
            until=until,
        )


class _HttpAnswer:
    def __init__(self, ask: Ask, reply: Reply, release: Callable[[], None]) -> None:
        self._ask = ask
        self._reply = reply
        self._release: Callable[[], None] | None = release
        self._head = Head(reply.status, reply.fields, reply.framed)

    @property
    def head(self) -> Head:
        return self._head

    async def body(self) -> AsyncGenerator[bytes]:
        try:
            while piece := await self._reply.piece():
                yield piece
        except Exception as error:
            raise _translated(self._ask, error) from None

    def distrust(self) -> None:
        self._reply.distrust()

    async def aclose(self) -> None:
        release, self._release = self._release, None
        if release is None:
            return
        try:
            await self._reply.aclose()
        except Exception as error:
            raise _translated(self._ask, error) from None
        finally:
            release()


def _translated(ask: Ask, error: Exception) -> Error:
    # Besides its own errors, httpcore lets through what h2, ssl and the socket raise: all of it is a faulty exchange.
    log.debug("%s %s host: %r", ask.method, ask.host.value, error)
    # A target on the API may hold a secret, such as an invitation's token; those of the other hosts never do.
    what = "crates.io" if ask.host is Host.API else f"{ask.target} on the {ask.host.value} host of crates.io"
    told: UpstreamError
    match error:
        case httpcore.TimeoutException() | TimeoutError():
            told = Late(f"{what} did not answer in time; try again")
        case httpcore.ConnectError() | httpcore.ProxyError():
            told = Faulty(f"{what} cannot be reached; see /readyz, and try again")
        case _:
            told = Faulty(f"{what} broke off or answered with something that is not HTTP; try again")
    told.unsent = isinstance(error, _UNSENT)
    return told
