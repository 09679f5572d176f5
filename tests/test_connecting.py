"""The way to a host through a proxy: what the proxy is asked, and what of its answers is a connection."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable

import httpcore
import httpx
import pytest

from proxy.upstream.connecting import Tls, Way
from proxy.upstream.exchange import Sending
from proxy.upstream.pool import Pool
from tests.other_end import certified

pytestmark = pytest.mark.anyio
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
Certificate = tuple[ssl.SSLContext, str]


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """The loop of the standard library, and the one that serves."""
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return certified(tmp_path_factory.mktemp("tls"))


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def serving(handler: Handler, tls: ssl.SSLContext | None) -> AsyncIterator[int]:
    """The port of a server of such connections; at the end each has ended."""
    under_way: set[asyncio.Future[None]] = set()

    def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def handled() -> None:
            with contextlib.suppress(asyncio.IncompleteReadError, OSError):
                await handler(reader, writer)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

        under_way.add(asyncio.ensure_future(handled()))

    server = await asyncio.start_server(accepted, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        if under_way:
            await asyncio.wait(under_way, timeout=20)


class Proxy:
    """A proxy that answers CONNECT with `says`, and passes on what comes then; what else it is asked it answers itself.
    `asked`: the heads."""

    def __init__(self, says: bytes) -> None:
        self.asked: list[bytes] = []
        self._says = says

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            self.asked.append(head)
            if head.startswith(b"CONNECT"):
                writer.write(self._says)
                far = await asyncio.open_connection("127.0.0.1", int(head.split()[1].rpartition(b":")[2]))
                await asyncio.gather(_passed_on(reader, far[1]), _passed_on(far[0], writer))
                return
            writer.write(OK)


async def _passed_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def _far(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The host behind it."""
    while await reader.readuntil(b"\r\n\r\n"):
        writer.write(OK)


@contextlib.asynccontextmanager
async def through(
    says: bytes, certificate: Certificate, *, secure: bool, scheme: str = "http", patience: float = 20
) -> AsyncIterator[tuple[Callable[[], Awaitable[bytes]], Proxy, int]]:
    """Asks a host for `/a` through such a proxy; the host's port."""
    tls, cert = certificate
    proxy = Proxy(says)
    async with (
        serving(_far, tls if secure else None) as port,
        serving(proxy.serve, tls if scheme == "https" else None) as its_port,
    ):
        given = httpx.Proxy(f"{scheme}://us%40er:p%3Aw@localhost:{its_port}")
        origin = httpx.URL(f"{'https' if secure else 'http'}://localhost:{port}")
        pool = Pool(Way(origin, Tls.believing(cert), offering=True, within=20, proxy=given), kept=1, idle=60)

        async def ask() -> bytes:
            reply = await pool.send(Sending(b"GET", pool.way.prefix + b"/a", pool.way.fields, patience))
            piece = await reply.piece()
            assert not await reply.piece()
            await reply.aclose()
            return piece

        try:
            yield ask, proxy, port
        finally:
            await pool.aclose()


BASIC = b"Proxy-Authorization: Basic dXNAZXI6cDp3\r\n"


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_host_without_tls_is_asked_for_by_its_whole_name(scheme: str, certificate: Certificate) -> None:
    async with through(b"", certificate, secure=False, scheme=scheme) as (ask, proxy, port):
        assert [await ask(), await ask()] == [b"ok"] * 2
        expected = b"GET http://localhost:%d/a HTTP/1.1\r\nHost: localhost:%d\r\n%b\r\n" % (port, port, BASIC)
        assert proxy.asked == [expected] * 2


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    "says",
    [
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.0 200 Connection established\r\n\r\n",
        b"HTTP/1.1 204 x\r\ncontent-length: 5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    ],
)
async def test_a_tunnel_is_asked_for_once_and_tls_goes_through_it(
    scheme: str, says: bytes, certificate: Certificate
) -> None:
    async with through(says, certificate, secure=True, scheme=scheme) as (ask, proxy, port):
        assert [await ask(), await ask()] == [b"ok"] * 2
        name = b"localhost:%d" % port
        assert proxy.asked == [b"CONNECT %b HTTP/1.1\r\nHost: %b\r\nAccept: */*\r\n%b\r\n" % (name, name, BASIC)]


@pytest.mark.parametrize(
    ("says", "error"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n", httpcore.ProxyError),
        (b"HTTP/1.1 302 Found\r\n\r\n", httpcore.ProxyError),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\nno such host", httpcore.ProxyError),
        (b"HTTP/1.1 101 Switching\r\n\r\n", httpcore.RemoteProtocolError),
        (b"HTTP/1.1 200 OK\r\n\r\nsurplus", httpcore.RemoteProtocolError),
        (b"HTTP/1.1 200 OK\n\n", httpcore.RemoteProtocolError),
        (b"SSH-2.0-OpenSSH_9.6\r\n", httpcore.RemoteProtocolError),
        (b"HTTP/1.1 200", httpcore.ReadTimeout),
    ],
)
async def test_what_is_no_tunnel_is_not_spoken_into(
    says: bytes, error: type[Exception], certificate: Certificate
) -> None:
    patience = 0.2 if error is httpcore.ReadTimeout else 20
    async with through(says, certificate, secure=True, patience=patience) as (ask, proxy, _):
        with pytest.raises(error):
            await ask()
        assert len(proxy.asked) == 1


@pytest.mark.parametrize(
    ("origin", "target"),
    [
        ("https://a.example", b"a.example:443"),
        ("https://a.example:8443", b"a.example:8443"),
        ("https://[::1]", b"[::1]:443"),
        ("https://[::1]:8443", b"[::1]:8443"),
    ],
)
async def test_a_tunnel_leads_to_the_host_that_is_meant(origin: str, target: bytes, certificate: Certificate) -> None:
    proxy = Proxy(b"HTTP/1.1 403 x\r\ncontent-length: 0\r\n\r\n")
    async with serving(proxy.serve, None) as port:
        given = httpx.Proxy(f"http://127.0.0.1:{port}")
        way = Way(httpx.URL(origin), Tls.believing(certificate[1]), offering=True, within=20, proxy=given)
        with pytest.raises(httpcore.ProxyError):
            await way.connected(20)
    assert proxy.asked == [b"CONNECT %b HTTP/1.1\r\nHost: %b\r\nAccept: */*\r\n\r\n" % (target, target)]


async def test_a_host_whose_certificate_is_of_another_is_not_spoken_to(certificate: Certificate) -> None:
    tls, cert = certificate
    async with serving(_far, tls) as port:
        for name, believed in (("127.0.0.1", cert), ("localhost", "")):
            way = Way(httpx.URL(f"https://{name}:{port}"), Tls.believing(believed), offering=True, within=20)
            with pytest.raises(httpcore.ConnectError):
                await way.connected(20)
