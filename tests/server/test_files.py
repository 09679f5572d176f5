"""Files that are answered with where their request is parsed: over real sockets, on the loop that serves, which copies
no part of a mapping into its own memory."""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import os
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from proxy.server import fast, guard
from proxy.server.fast import SHORTCUT, Fast, Shortcut
from tests.server.raw import Message, Receive, Send

pytestmark = pytest.mark.anyio
CONTENT = os.urandom(6_000_000)
GET = b"GET /file HTTP/1.1\r\nHost: h\r\n\r\n"
CLOSE = b"GET /file HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
HEAD = fast.head(200, ((b"content-length", b"%d" % len(CONTENT)),))
CLOSED = HEAD[:-2] + b"connection: close\r\n\r\n"


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


class Shelf:
    """A lookup that finds one file."""

    def __init__(self, file: int) -> None:
        self._file = file
        self._content = memoryview(mmap.mmap(file, len(CONTENT), prot=mmap.PROT_READ))

    def admits(self, peer: str | None) -> bool:
        return True

    def wanted(self, scope: Any) -> Any | None:
        return scope["raw_path"]

    def answer(self, wanted: Any) -> fast.Answer:
        return HEAD, self._content, self._file


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    number = os.open(path, os.O_RDWR)
    yield number
    os.close(number)


async def app(scope: Message, receive: Receive, send: Send) -> None:
    """Answers the same, where an answer has to wait its turn."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(CONTENT))]})
    await send({"type": "http.response.body", "body": CONTENT})


@contextlib.asynccontextmanager
async def connected(file: int, *, room: int | None = None) -> AsyncIterator[tuple[Fast, socket.socket]]:
    """A server's connection and its client, which does not block. `room`: bytes that the kernel holds of an answer."""
    config = uvicorn.Config(app, http=Fast, ws="none", log_config=None, proxy_headers=False)
    config.load()
    protocol: Fast = guard.bound(Fast, guard.Limits())(
        config, ServerState(), {SHORTCUT: Shortcut(Shelf(file), 1 << 20)}
    )
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as client:
        accepted, _ = listener.accept()
        if room is not None:
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, room)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        client.setblocking(False)
        transport, _ = await asyncio.get_running_loop().connect_accepted_socket(lambda: protocol, accepted)
        try:
            yield protocol, client
        finally:
            transport.abort()
            await asyncio.sleep(0.01)


async def read(client: socket.socket, size: int) -> bytes:
    """So many bytes; fewer at the end of the connection."""
    loop, found = asyncio.get_running_loop(), bytearray()
    async with asyncio.timeout(30):
        while len(found) < size and (piece := await loop.sock_recv(client, 1 << 20)):
            found += piece
    return bytes(found)


@pytest.mark.parametrize("room", [None, 65_536], ids=["much room", "little room"])
async def test_each_byte_comes_in_its_turn(file: int, room: int | None) -> None:
    loop = asyncio.get_running_loop()
    async with connected(file, room=room) as (_, client):
        for _ in range(3):
            await loop.sock_sendall(client, GET)
            assert await read(client, len(HEAD) + len(CONTENT)) == HEAD + CONTENT
        await loop.sock_sendall(client, GET + GET + CLOSE)
        assert await read(client, 1 << 30) == 2 * (HEAD + CONTENT) + CLOSED + CONTENT


async def test_it_goes_from_the_page_cache_to_the_socket(file: int, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[int, int, int]] = []
    sendfile = os.sendfile

    def seen(socket: int, file: int, offset: int, size: int) -> int:
        sent.append((file, offset, size))
        return sendfile(socket, file, offset, size)

    monkeypatch.setattr(os, "sendfile", seen)
    async with connected(file) as (_, client):
        await asyncio.get_running_loop().sock_sendall(client, GET)
        assert await read(client, len(HEAD) + len(CONTENT)) == HEAD + CONTENT
    assert sent == [(file, 0, len(CONTENT))]


async def test_what_a_file_system_cannot_send_so_is_sent_all_the_same(
    file: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*args: int) -> int:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "sendfile", refused)
    async with connected(file) as (_, client):
        await asyncio.get_running_loop().sock_sendall(client, GET + GET)
        assert await read(client, 2 * len(HEAD + CONTENT)) == 2 * (HEAD + CONTENT)


async def test_a_file_that_is_cut_short_ends_its_connection(file: int) -> None:
    async with connected(file) as (_, client):
        os.ftruncate(file, 1_000_000)
        await asyncio.get_running_loop().sock_sendall(client, GET)
        with contextlib.suppress(ConnectionResetError):
            assert len(await read(client, 1 << 30)) <= len(HEAD) + 1_000_000


async def test_a_client_that_reads_nothing_holds_no_copy_and_is_put_out_in_time(file: int) -> None:
    async with connected(file, room=4096) as (protocol, client):
        await asyncio.get_running_loop().sock_sendall(client, GET)
        while not (waiting := protocol.transport.get_write_buffer_size()):
            await asyncio.sleep(0.01)
        assert waiting > len(CONTENT) // 2
        now = protocol.loop.time()
        protocol.look(now, 1.0)
        protocol.look(now + guard.Limits().write_timeout + 1, 1.0)
        assert protocol.transport.is_closing()


async def test_a_client_that_leaves_takes_nothing_along(file: int) -> None:
    async with connected(file, room=4096) as (protocol, client):
        await asyncio.get_running_loop().sock_sendall(client, GET)
        await asyncio.get_running_loop().sock_recv(client, 100)
        client.close()
        async with asyncio.timeout(30):
            while not protocol.transport.is_closing():
                await asyncio.sleep(0.01)
    assert os.fstat(file).st_size == len(CONTENT)
