"""The way to crates.io's hosts, step by step, so that it shows which one fails: name, connection, TLS, request."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import socket
import ssl
import time
from asyncio import StreamReader, StreamWriter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from urllib.parse import SplitResult, unquote, urlsplit

from proxy.errors import Error, Throttled
from proxy.model import Head, Host
from proxy.rules.findings import Finding, fail, ok, warn
from proxy.settings import Settings
from proxy.upstream.base import Ask, Upstream

OFFLINE = warn("upstream", "upstream.offline is set: only what is stored is served", "unset it to ask crates.io")
SKEW = 60.0
"""Seconds by which clocks may differ: freshness and budgets are counted in minutes."""
_TARGETS: Mapping[Host, tuple[str, str]] = {
    Host.API: ("/api/v1/site_metadata", "site_metadata"),
    Host.INDEX: ("/config.json", "index"),
    Host.STATIC: ("/crates/serde/serde-1.0.0.crate", "download"),
}
_PORTS = {"http": 80, "https": 443}


class _Broken(Exception):
    """A step failed: what it was, how, and what to do."""


@dataclass(slots=True)
class _Steps:
    """What has been done, with the time that it took."""

    done: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def step(self, name: str, todo: str) -> Iterator[None]:
        begun = time.monotonic()
        try:
            yield
        except socket.gaierror as error:
            raise _Broken(f"{name} fails: {error.strerror}", todo) from None
        except ssl.SSLCertVerificationError as error:
            raise _Broken(f"{name} fails: {error.verify_message}", todo) from None
        except TimeoutError:
            raise _Broken(f"{name}: no answer within {time.monotonic() - begun:.0f} s", todo) from None
        except (OSError, EOFError) as error:
            raise _Broken(f"{name} fails: {getattr(error, 'strerror', None) or error}", todo) from None
        self.done.append(f"{name} {(time.monotonic() - begun) * 1000:.0f} ms")


async def connections(settings: Settings, origins: Mapping[Host, str]) -> dict[Host, Finding]:
    """Connections to the three hosts, as the proxy makes them. Nothing is asked for."""
    given = settings.upstream
    try:
        context = ssl.create_default_context(cafile=given.ca_file or None)
    except OSError as error:
        detail = f"{given.ca_file} cannot be used ({error.strerror or error})"
        return dict.fromkeys(origins, fail("upstream.ca_file", detail, "name a file of certificates in PEM"))
    tried = (_connection(host, origin, given.proxy, context, given.connect_timeout) for host, origin in origins.items())
    return dict(zip(origins, await asyncio.gather(*tried), strict=True))


async def requests(upstream: Upstream, hosts: Sequence[Host]) -> list[Finding]:
    """A small request to each host, booked like every other; and how our clock stands to theirs."""
    found, dates = [], []
    for host in hosts:
        target, endpoint = _TARGETS[host]
        what, begun = f"upstream {host.value} request", time.monotonic()
        try:
            answer = await upstream.send(Ask(host, "HEAD", target, endpoint=endpoint))
            await answer.aclose()
        except Throttled as error:
            found.append(warn(what, f"not sent: {error.detail}", "wait; /readyz tells of the budget"))
            continue
        except Error as error:
            found.append(fail(what, error.detail, "see the log for why"))
            continue
        found.append(_judged(what, host, answer.head, time.monotonic() - begun))
        dates.append(answer.head.get(b"date"))
    return [*found, *_skew(dates, time.time())]


def _judged(what: str, host: Host, head: Head, seconds: float) -> Finding:
    told = f"{head.status} in {seconds * 1000:.0f} ms"
    if host is Host.API and head.status == 403:  # the static host says so of files that it does not have
        return fail(what, f"{told}: it refuses this address or this User-Agent", "see upstream.contact")
    return fail(what, told, "see https://status.crates.io") if head.status >= 500 else ok(what, told)


def _skew(dates: list[bytes], now: float) -> Iterator[Finding]:
    for date in dates:
        with contextlib.suppress(ValueError):
            ahead = now - parsedate_to_datetime(date.decode("latin-1")).timestamp()
            if abs(ahead) > SKEW:
                detail = f"ours is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} crates.io's"
                yield warn("clock", detail, "set it by NTP: what is fresh is judged by it")
            else:
                yield ok("clock", f"within {max(1, round(abs(ahead)))} s of crates.io's")
            return


async def _connection(host: Host, origin: str, proxy: str, context: ssl.SSLContext, patience: float) -> Finding:
    what, steps = f"upstream {host.value}", _Steps()
    where = f"{origin} through {urlsplit(proxy).hostname}" if proxy else origin
    try:
        writer = await _opened(urlsplit(origin), urlsplit(proxy) if proxy else None, context, patience, steps)
        writer.transport.abort()
    except _Broken as broken:
        detail, todo = broken.args
        return fail(what, f"{where}: {', '.join([*steps.done, detail])}", todo)
    return ok(what, f"{where}: {', '.join(steps.done)}")


async def _opened(
    origin: SplitResult, proxy: SplitResult | None, context: ssl.SSLContext, patience: float, steps: _Steps
) -> StreamWriter:
    first = proxy or origin
    host, port = first.hostname or "", first.port or _PORTS[first.scheme]
    with steps.step("DNS", "see /etc/resolv.conf; in a container, its DNS settings"):
        async with asyncio.timeout(patience):
            addresses = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    with steps.step("TCP", "see whether a firewall lets it out, or upstream.proxy is needed"):
        async with asyncio.timeout(patience):
            reader, writer = await _first(list(dict.fromkeys(str(address[4][0]) for address in addresses)), port)
    try:
        if proxy is not None and proxy.scheme == "https":
            with steps.step("TLS to the proxy", "see upstream.proxy and upstream.ca_file"):
                await writer.start_tls(context, server_hostname=host, ssl_handshake_timeout=patience)
        if origin.scheme == "https":
            if proxy is not None:
                with steps.step("CONNECT", "see upstream.proxy: its address, user and password, and what it lets out"):
                    async with asyncio.timeout(patience):
                        await _through(proxy, origin, reader, writer)
            with steps.step("TLS", "see upstream.ca_file: whoever is between must be trusted; and this clock"):
                await writer.start_tls(context, server_hostname=origin.hostname, ssl_handshake_timeout=patience)
    except BaseException:
        writer.transport.abort()
        raise
    return writer


async def _first(addresses: list[str], port: int) -> tuple[StreamReader, StreamWriter]:
    """A connection to the first address that takes one."""
    for address in addresses[:-1]:
        with contextlib.suppress(OSError):
            return await asyncio.open_connection(address, port)
    return await asyncio.open_connection(addresses[-1], port)


async def _through(proxy: SplitResult, origin: SplitResult, reader: StreamReader, writer: StreamWriter) -> None:
    """OSError where the proxy does not let us through."""
    to = f"{origin.hostname}:{origin.port or _PORTS[origin.scheme]}"
    head = f"CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n"
    if proxy.username is not None:
        secret = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
        head += f"Proxy-Authorization: Basic {base64.b64encode(secret.encode()).decode()}\r\n"
    writer.write(f"{head}\r\n".encode())
    try:
        answer = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        raise OSError("the proxy does not speak HTTP") from None
    status = answer.split(b"\r\n", 1)[0].decode("latin-1")
    if " 200" not in status[:13]:
        raise OSError(f"the proxy says {status}")
