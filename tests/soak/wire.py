"""One client's connection: HTTP/1.1 by hand, so that it can tell how an answer ended, and leave at any instant."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

LIMIT = 1024 * 1024
PATIENCE = 40.0
"""Seconds: cargo gives up after 30 without a byte."""


@dataclass(frozen=True, slots=True)
class Got:
    """What came of a request. trouble: "" where the answer is whole, else how it ended. fresh: nothing had been asked
    before on its connection. connected, asked, ended: when, by the monotonic clock; idle: seconds in which nothing
    had gone over its connection."""

    status: int = 0
    fields: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    trouble: str = ""
    fresh: bool = True
    connected: float = 0.0
    asked: float = 0.0
    ended: float = 0.0
    idle: float = 0.0

    def field(self, name: str) -> str:
        return self.fields.get(name, "")


class _Cut(Exception):
    """The connection ended before the answer did."""


class Connection:
    """To a server at `port`; made anew when it is gone."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._connected = self._used = 0.0

    async def connect(self) -> None:
        with contextlib.suppress(OSError):
            await self._opened()

    async def ask(self, method: str, path: str, fields: Mapping[str, str], body: bytes = b"") -> Got:
        """Ask; once more where a connection that had been idle turns out to be closed, as every client does."""
        fresh = self._streams is None
        got = await self._ask(method, path, fields, body, fresh)
        if got.trouble and got.status == 0 and not fresh and method in ("GET", "HEAD"):
            got = await self._ask(method, path, fields, body, True)
        return got

    async def leave(self, method: str, path: str, fields: Mapping[str, str], dice: random.Random) -> str:
        """Ask and leave at some instant; at which."""
        await self.close()
        when = dice.choice(
            ("in the head", "after the head", "at the first bytes", "in the body", "while reading slowly")
        )
        with contextlib.suppress(OSError, TimeoutError, _Cut):
            async with asyncio.timeout(PATIENCE):
                reader, writer = await self._opened()
                head = _head(method, path, fields, b"")
                writer.write(head if when != "in the head" else head[: dice.randrange(1, len(head))])
                await writer.drain()
                if when == "at the first bytes":
                    await reader.read(dice.randrange(1, 200))
                elif when == "in the body":
                    await reader.read(dice.randrange(200, 100_000))
                elif when == "while reading slowly":
                    for _ in range(dice.randrange(1, 5)):
                        await reader.read(1000)
                        await asyncio.sleep(0.05)
                elif dice.random() < 0.5:
                    await asyncio.sleep(dice.random() * 0.2)
                if dice.random() < 0.5:  # a reset rather than an end in order
                    sock = writer.get_extra_info("socket")
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await self.close()
        return when

    async def close(self) -> None:
        if self._streams is not None:
            _, writer = self._streams
            self._streams = None
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _opened(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port, limit=LIMIT)
            self._connected = self._used = time.monotonic()
        return self._streams

    async def _ask(self, method: str, path: str, fields: Mapping[str, str], body: bytes, fresh: bool) -> Got:
        asked = time.monotonic()
        told: dict[str, str] = {}
        status, received, trouble = 0, bytearray(), ""
        try:
            async with asyncio.timeout(PATIENCE):
                reader, writer = await self._opened()
                writer.write(_head(method, path, fields, body))
                status, told = _parsed(await reader.readuntil(b"\r\n\r\n"))
                if method != "HEAD" and status not in (204, 304):
                    await _read(reader, told, received)
        except ConnectionRefusedError:
            trouble = "refused"
        except ConnectionError:
            trouble = "reset"
        except asyncio.IncompleteReadError as error:
            trouble = "cut" if status or error.partial else "closed"
        except _Cut:
            trouble = "cut"
        except TimeoutError:
            trouble = "no answer"
        except OSError as error:
            trouble = f"{error}"
        connected, idle, self._used = self._connected, asked - self._used, time.monotonic()
        if trouble or told.get("connection") == "close":
            await self.close()
        return Got(status, told, bytes(received), trouble, fresh, connected, asked, self._used, idle)


def _head(method: str, path: str, fields: Mapping[str, str], body: bytes) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "host: 127.0.0.1", *(f"{name}: {value}" for name, value in fields.items())]
    if body or method not in ("GET", "HEAD"):
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def _parsed(head: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = head.decode("latin-1").split("\r\n")[:-2]
    pairs = (line.partition(":") for line in lines)
    return int(first.split(" ")[1]), {name.lower(): value.strip() for name, _, value in pairs}


async def _read(reader: asyncio.StreamReader, told: Mapping[str, str], received: bytearray) -> None:
    if "chunked" in told.get("transfer-encoding", ""):
        while size := int(await reader.readuntil(b"\r\n"), 16):
            received += (await reader.readexactly(size + 2))[:-2]
        await reader.readexactly(2)
        return
    if "content-length" not in told:
        raise _Cut
    left = int(told["content-length"])
    while left:
        piece = await reader.read(min(left, 65536))
        if not piece:
            raise _Cut
        received += piece
        left -= len(piece)
