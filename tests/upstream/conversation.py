"""One host's port and its connections: reads requests, performs the steps of their answers."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator

import h11

from tests.upstream.steps import End, Pause, Step
from tests.upstream.wire import CLOSE, Reply, Request, laid_out, requests

Exchange = Callable[[Request], Awaitable[Iterator[Step]]]


class Line:
    """A port that is ours from the start, listening or not; while it isn't, connections are refused."""

    def __init__(self, host: str, port: int = 0) -> None:
        self.host = host
        self._kept = self._bound(port)  # never listens, and nobody else gets the port meanwhile
        self.port: int = self._kept.getsockname()[1]
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()
        self._transports: set[asyncio.WriteTransport] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @staticmethod
    def _bound(port: int) -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind(("127.0.0.1", port))
        return made

    async def open(self, exchange: Exchange) -> None:
        def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            # At once, not when a task gets its turn: a line that is cut meanwhile must know of it.
            self._transports.add(writer.transport)
            task = asyncio.get_running_loop().create_task(self._converse(exchange, reader, writer))
            self._open.add(task)
            task.add_done_callback(self._open.discard)

        if self._server is None:
            self._server = await asyncio.start_server(converse, sock=self._bound(self.port), backlog=1024)

    async def cut(self) -> None:
        """Stops listening and drops every connection; the port stays bound."""
        if self._server is not None:
            # A connection accepted in the very turn in which the server closes would be left open by asyncio: so it
            # accepts no more, and some turns later it closes.
            asyncio.get_running_loop().remove_reader(self._server.sockets[0])
            for _ in range(5):
                await asyncio.sleep(0)
            self._server.close()
            self._server = None
        for _ in range(20):  # who was accepted just now begins some turns of the loop later, and then ends
            for transport in self._transports:  # also of those that have said all and are still sending it
                transport.abort()
            for task in self._open:
                task.cancel()
            await asyncio.gather(*self._open, return_exceptions=True)
            await asyncio.sleep(0)
        self._transports.clear()

    def give_up(self) -> None:
        """Lets go of the port."""
        self._kept.close()

    async def _converse(self, exchange: Exchange, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async for request in requests(self.host, reader, writer):
                if not await self._perform(await exchange(request), writer):
                    break
        except h11.RemoteProtocolError:
            writer.write(laid_out(Reply(400, CLOSE, b"this is no HTTP\n")))
        except (ConnectionError, asyncio.CancelledError):
            pass  # the client left, or the line was cut
        finally:
            writer.close()
            # Until all is sent `cut` must know of it, or the end of the loop leaves it open.
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _perform(self, steps: Iterator[Step], writer: asyncio.StreamWriter) -> bool:
        """Whether the connection can go on."""
        for step in steps:
            match step:
                case bytes():
                    writer.write(step)
                    await writer.drain()
                case Pause():
                    await asyncio.sleep(step.seconds)
                case End.CLOSE:
                    return False
                case End.RESET:
                    # No lingering: close() then sends RST rather than FIN.
                    writer.get_extra_info("socket").setsockopt(
                        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                    )
                    writer.transport.abort()
                    return False
                case End.STALL:
                    await asyncio.Event().wait()
        return True
