"""The empty protocol: a uvloop server that reads nothing and writes prepared bytes. Nothing in Python is faster.

    python -m tests.bench.ceiling FILE

Each piece of a connection that arrives is taken for one request. The first line on standard output is the port.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import uvloop


class Empty(asyncio.Protocol):
    def __init__(self, prepared: bytes) -> None:
        self._prepared = prepared

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._write = transport.write

    def data_received(self, data: bytes) -> None:
        self._write(self._prepared)


async def serve(prepared: bytes) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Empty(prepared), "127.0.0.1", 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    uvloop.run(serve(Path(sys.argv[1]).read_bytes()))
