"""Somebody between the proxy and Redis: he can refuse, lead to another server, and ask for another key than meant."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections import deque
from pathlib import Path


class Between:
    """Listens on `port` for ever, and leads to the server at `target`. `mixing`: one read in two is answered with the
    value of another key; `mixed` counts those."""

    def __init__(self, target: Path, dice: random.Random) -> None:
        self.target = target
        self.mixing = False
        self.mixed = 0
        self._dice = dice
        self._keys: deque[bytes] = deque(maxlen=500)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", self.port, reuse_address=True)

    async def refuse(self) -> None:
        """Nobody is let in, and who was is put out."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut()

    def cut(self) -> None:
        """Whoever is connected has to come again."""
        for task in self._open:
            task.cancel()

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._lead(reader, writer))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _lead(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.CancelledError, asyncio.IncompleteReadError):
            back, on = await asyncio.open_unix_connection(str(self.target))
            try:
                await asyncio.gather(self._commands(reader, on), _copied(back, writer))
            finally:
                on.close()
        writer.close()

    async def _commands(self, reader: asyncio.StreamReader, on: asyncio.StreamWriter) -> None:
        """Each command is read as a whole (RESP: an array of strings), so that its key can be another."""
        while True:
            count = int((await reader.readuntil(b"\r\n"))[1:])
            parts = []
            for _ in range(count):
                size = int((await reader.readuntil(b"\r\n"))[1:])
                parts.append((await reader.readexactly(size + 2))[:-2])
            on.write(_laid_out(self._meant(parts)))
            await on.drain()

    def _meant(self, parts: list[bytes]) -> list[bytes]:
        if len(parts) != 2 or parts[0].upper() != b"GET":
            return parts
        key = parts[1]
        if self.mixing and self._keys and self._dice.random() < 0.5:
            other = self._dice.choice(self._keys)
            if other != key:
                self.mixed += 1
                return [parts[0], other]
        if key not in self._keys:
            self._keys.append(key)
        return parts


def _laid_out(parts: list[bytes]) -> bytes:
    return b"".join([b"*%d\r\n" % len(parts), *(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)])


async def _copied(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    raise ConnectionResetError
