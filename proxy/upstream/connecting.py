"""How connections to one host are made: TCP, a tunnel through a proxy where there is one, TLS."""

from __future__ import annotations

import base64
import ssl
from dataclasses import dataclass

import httpcore
import httpx

from proxy.model import Headers
from proxy.upstream.exchange import Sending
from proxy.upstream.line import Line
from proxy.upstream.wire import Wire, dialled

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Tls:
    """Whom TLS believes; `single` offers HTTP/1.1 (RFC 7301), `multiple` HTTP/2, too."""

    single: ssl.SSLContext
    multiple: ssl.SSLContext

    @classmethod
    def believing(cls, ca_file: str) -> Tls:
        """Those whom this file names, or the system where there is none. Raises OSError."""
        made = cls(*(ssl.create_default_context(cafile=ca_file or None) for _ in range(2)))
        made.single.set_alpn_protocols(["http/1.1"])
        made.multiple.set_alpn_protocols(["http/1.1", "h2"])
        return made


class Way:
    """To `origin`, straight or through `proxy`.

    offering: HTTP/2, too, where there is TLS to offer it in. within: seconds that each step may take.

    prefix: what goes before the target of each request (RFC 9112 section 3.2.2). fields: with what it begins.
    """

    def __init__(
        self, origin: httpx.URL, tls: Tls, *, offering: bool, within: float, proxy: httpx.Proxy | None = None
    ) -> None:
        self.origin = origin
        self._tls = tls
        self._within = within
        self._proxy = proxy
        self._secure = origin.scheme == "https"
        self.offering = offering and self._secure
        forwarded = proxy is not None and not self._secure
        self.prefix = b"%b://%b" % (origin.raw_scheme, origin.netloc) if forwarded else b""
        self.fields: Headers = ((b"Host", origin.netloc), *(_credentials(proxy) if forwarded else ()))

    async def connected(self, patience: float) -> tuple[Wire, bool]:
        """A connection, and whether HTTP/2 is to be spoken on it. `patience` is for the proxy's answer.

        Raises httpcore's errors.
        """
        first = self.origin if self._proxy is None else self._proxy.url
        wire = await dialled(_host(first), _port(first), self._within)
        try:
            if self._proxy is not None:
                if first.scheme == "https":
                    wire = await wire.start_tls(self._tls.single, _host(first), self._within)
                if self._secure:
                    await self._tunnel(wire, patience)
            if not self._secure:
                return wire, False
            context = self._tls.multiple if self.offering else self._tls.single
            wire = await wire.start_tls(context, _host(self.origin), self._within)
            return wire, wire.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
        except BaseException:
            await wire.aclose()
            raise

    async def _tunnel(self, wire: Wire, patience: float) -> None:
        """Have the proxy pass on whatever goes over this connection (RFC 9110 section 9.3.6)."""
        host = self.origin.netloc.removesuffix(b":%d" % self.origin.port if self.origin.port else b"")
        target = b"%b:%d" % (host, _port(self.origin))
        fields = ((b"Host", target), (b"Accept", b"*/*"), *_credentials(self._proxy))
        line = Line(wire)
        answer = await line.ask(Sending(b"CONNECT", target, fields, patience))
        if not 200 <= answer.status < 300:
            raise httpcore.ProxyError(f"it answered with status {answer.status}")
        line.leave()


def _credentials(proxy: httpx.Proxy | None) -> Headers:
    if proxy is None or proxy.raw_auth is None:
        return ()
    return ((b"Proxy-Authorization", b"Basic " + base64.b64encode(b"%b:%b" % proxy.raw_auth)),)


def _host(url: httpx.URL) -> str:
    return url.raw_host.decode("ascii")


def _port(url: httpx.URL) -> int:
    return url.port or _PORTS[url.scheme]
