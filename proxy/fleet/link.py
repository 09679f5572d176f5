"""How a hub and its members reach each other: over a Unix socket, and directly where they are one process. It knows
lines, and no message.
"""

from __future__ import annotations

import asyncio
import contextlib
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable
from typing import Protocol

BACKLOG = 1024 * 1024
"""Bytes that wait for a member that does not read. Then it is put out; it knows that it missed something."""


class Member(Protocol):
    """A member, as its hub has it. It is used as a key."""

    def send(self, data: bytes) -> None:
        """Tell it a line, or several; one that is gone hears nothing."""
        ...

    def abort(self) -> None:
        """End the link."""
        ...


class Link(Protocol):
    """The way to the hub, as a member has it."""

    def write(self, data: bytes) -> None:
        """Tell the hub a line; one that is gone hears nothing."""
        ...

    async def listen(self, hear: Callable[[bytes], None]) -> None:
        """Give each line of the hub to `hear`, until the link ends. OSError where it breaks, ValueError where a line
        has no end."""
        ...

    async def aclose(self) -> None: ...


class Far:
    """A `Link` over a socket."""

    def __init__(self, reader: StreamReader, writer: StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def write(self, data: bytes) -> None:
        if not self._writer.transport.is_closing():  # uvloop raises where `listen` has yet to hear of the end
            self._writer.write(data)

    async def listen(self, hear: Callable[[bytes], None]) -> None:
        while data := await self._reader.readline():
            hear(data)

    async def aclose(self) -> None:
        self._writer.transport.abort()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


class FarMember:
    """A `Member` at the other end of a socket."""

    def __init__(self, writer: StreamWriter) -> None:
        self._writer = writer

    def send(self, data: bytes) -> None:
        if self._writer.transport.is_closing():
            return
        self._writer.write(data)
        if self._writer.transport.get_write_buffer_size() > BACKLOG:
            self._writer.transport.abort()

    def abort(self) -> None:
        self._writer.transport.abort()


class Near:
    """Both ends in one process: a `Link` and its `Member`. The hub hears what is said at once; what the hub says comes
    in the next turn of the loop, so that nobody is called while he speaks."""

    def __init__(self, heard: Callable[[Near, bytes], None], left: Callable[[Near], None]) -> None:
        """`heard` and `left` are the hub's."""
        self._heard = heard
        self._left = left
        self._hear: Callable[[bytes], None] | None = None
        self._coming: list[bytes] = []
        self._ended = asyncio.Event()

    def send(self, data: bytes) -> None:
        if not self._coming:
            asyncio.get_running_loop().call_soon(self._come)
        self._coming.append(data)

    def abort(self) -> None:
        if not self._ended.is_set():
            self._ended.set()
            self._left(self)

    def write(self, data: bytes) -> None:
        if not self._ended.is_set():
            self._heard(self, data)

    async def listen(self, hear: Callable[[bytes], None]) -> None:
        self._hear = hear
        self._come()
        await self._ended.wait()

    async def aclose(self) -> None:
        self.abort()

    def _come(self) -> None:
        if self._hear is not None:
            coming, self._coming = self._coming, []
            for data in b"".join(coming).splitlines():
                if not self._ended.is_set():
                    self._hear(data)
