"""The other end of a connection, in the same loop, with TLS or without."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx

from proxy.upstream.connecting import Tls, Way
from proxy.upstream.wire import Wire


class Other(asyncio.Protocol):
    """It keeps what it hears, and says what it is told to."""

    transport: asyncio.Transport

    def __init__(self, made: Callable[[Other], None] = lambda other: None) -> None:
        self.heard = bytearray()
        self.lost = asyncio.Event()
        self._made = made

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        self._made(self)

    def data_received(self, data: bytes) -> None:
        self.heard += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()


def certified(directory: Path) -> tuple[ssl.SSLContext, str]:
    """The context of a server called localhost, and the certificate that a client has to believe."""
    cert, key = str(directory / "cert"), str(directory / "key")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", cert]
    subprocess.run([*command.split(), *names], check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    return context, cert


@contextlib.asynccontextmanager
async def connected(tls: tuple[ssl.SSLContext, str] | None = None) -> AsyncIterator[tuple[Wire, Other]]:
    accepted: asyncio.Queue[Other] = asyncio.Queue()
    server = await asyncio.get_running_loop().create_server(
        lambda: Other(accepted.put_nowait), "127.0.0.1", 0, ssl=tls and tls[0]
    )
    origin = f"{'https://localhost' if tls else 'http://127.0.0.1'}:{server.sockets[0].getsockname()[1]}"
    way = Way(httpx.URL(origin), Tls.believing(tls[1] if tls else ""), offering=False, within=20)
    wire, _ = await way.connected(20)
    other = await accepted.get()
    try:
        yield wire, other
    finally:
        await wire.aclose()
        other.transport.abort()
        server.close()
