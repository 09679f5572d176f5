"""The short way: a request that something at hand answers is answered where it is parsed, without task or app.

    first sight   the request has been parsed and it is its turn: what it asks for is looked up, and sent
    again         a head that came before, byte for byte, is not even parsed

What is remembered are heads and what they ask for, never answers: a remembered head gets what a parsed one would.
Whatever the lookup declines goes the long way to the app; so does what comes while an answer is on its way or the
client reads too slowly, since there it has to wait its turn. It knows nothing of routes or freshness.
"""

from __future__ import annotations

import contextlib
import os
from asyncio import Transport
from typing import Any, Protocol

from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from proxy.model import Headers
from proxy.server.turns import Turns

SHORTCUT = "crates-proxy.shortcut"
"""Where the state of the lifespan holds the `Shortcut`, if an application has one."""
WANTED = "crates-proxy.wanted"
"""Where the scope of a request that the lookup could read, but not answer, holds what it asks for."""

_END = b"\r\n\r\n"
_CLOSE = b"connection: close\r\n\r\n"
_LONGEST = 2048
"""Bytes of a head that is remembered; cargo's have 300, a browser's with all its fields 800."""
_OVERHEAD = 512
"""Bytes that remembering one costs beside it: what it asks for, measured roughly."""

Answer = tuple[bytes, bytes | memoryview, bytes | int | None]
"""Head and body; then both in one piece where somebody has them so, or the number of the open file that the body is all
of. A `memoryview` is of a file, for the kernel alone to read (`Blob.mapped`): it takes no memory however slowly the
client reads."""


class Lookup(Protocol):
    """What is at hand. No call waits."""

    def admits(self, peer: str | None) -> bool:
        """Whether somebody with this address is answered this way; None for a Unix socket."""
        ...

    def wanted(self, scope: Any) -> Any | None:
        """What a request asks for, as its ASGI scope tells: the same for the same head. None where only the app can
        answer it, as always where it has credentials or a body."""
        ...

    def answer(self, wanted: Any) -> Answer | None:
        """What answers it now, as the app would answer it; None where the app has to."""
        ...


class Closed:
    """A `Lookup` that leaves everything to the app."""

    def admits(self, peer: str | None) -> bool:
        return False

    def wanted(self, scope: Any) -> None:
        return None

    def answer(self, wanted: Any) -> None:
        return None


class Shortcut:
    """A lookup, and the heads whose meaning is known: at most `bound` bytes of them.

    They are of two generations, so that a look into a dict is all that a known one costs: when the young ones fill
    half the room, they become the old ones, and those of the old that were not used since are forgotten.
    """

    def __init__(self, lookup: Lookup, bound: int) -> None:
        self.lookup: Lookup = lookup
        self._half = bound // 2
        self._bytes = 0
        self._young: dict[bytes, Any] = {}
        self._old: dict[bytes, Any] = {}

    def close(self) -> None:
        """What it answered is not to be answered by it any more."""
        self.lookup = Closed()
        self._young, self._old, self._bytes = {}, {}, 0

    def known(self, data: bytes) -> Any | None:
        """What these bytes ask for, where they are a head that is remembered."""
        wanted = self._young.get(data)
        if wanted is None and data in self._old:
            wanted = self._old[data]
            self.remember(data, wanted)
        return wanted

    def remember(self, head: bytes, wanted: Any) -> None:
        if head not in self._young:
            size = len(head) + _OVERHEAD
            if size > self._half:
                return
            if self._bytes + size > self._half:
                self._old, self._young, self._bytes = self._young, {}, 0
            self._bytes += size
        self._young[head] = wanted


def head(status: int, headers: Headers) -> bytes:
    """The head of an answer as uvicorn writes it."""
    fields = [b"%b: %b\r\n" % field for field in headers]
    return b"".join([STATUS_LINE[status], *fields, b"\r\n"])


class Fast(Turns):
    shortcut: Shortcut | None = None
    _in_turn = False  # the request that was just parsed may be answered at once
    _begun = 0  # requests that began to be answered while the bytes at hand were parsed
    _found: Any | None = None  # what the last of them asked for, if that was at hand

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        shortcut = self.app_state.get(SHORTCUT)
        if (
            shortcut is not None
            and not self.crowded
            and shortcut.lookup.admits(self.client[0] if self.client else None)
        ):
            self.shortcut = shortcut
        self._idle = False  # surely: nothing is under way, or else it has to be looked up
        self._used = False  # since the timer for idle connections was set

    def data_received(self, data: bytes) -> None:
        shortcut = self.shortcut
        if shortcut is None or not (self._idle or self._free()):
            super().data_received(data)
            return
        wanted = shortcut.known(data)
        if wanted is not None:
            answer = shortcut.lookup.answer(wanted)
            if answer is not None:
                if self.timeout_keep_alive_task is None:
                    self._watch()
                self._idle = self._used = True
                self.head_since = None
                self._write(answer)
                return
        self._idle = False
        self._begin()
        super().data_received(data)
        # Only a single whole head is remembered, and only once it has passed the parser and all that guards it.
        if self._found is not None and self._begun == 1 and self._free() and _is_head(data):
            shortcut.remember(data, self._found)

    def _begin(self) -> None:
        self._begun, self._found = 0, None

    def on_headers_complete(self) -> None:
        self._in_turn = not (self.draining or self.flow.write_paused)
        super().on_headers_complete()
        self._in_turn = False

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._begun += 1
        if not (self._in_turn and app is self.app and self._answered(cycle)):
            super()._start_asgi_task(cycle, app)

    def _answered(self, cycle: RequestResponseCycle) -> bool:
        """Answer a request that has just been parsed, if that is possible at once. It has no body."""
        if self.shortcut is None:
            return False
        wanted = self.shortcut.lookup.wanted(cycle.scope)
        if wanted is None:
            return False
        answer = self.shortcut.lookup.answer(wanted)
        if answer is None:
            scope: dict[str, Any] = cycle.scope  # type: ignore[assignment]  # its type knows no keys of ours
            scope[WANTED] = wanted
            return False
        self.answering = cycle
        cycle.more_body = False
        cycle.response_started = cycle.response_complete = True
        if cycle.keep_alive:
            self._found = wanted
            self._write(answer)
        else:
            self._write((answer[0][:-2] + _CLOSE, answer[1], None))
            self.transport.close()
        cycle.on_response()
        return True

    def _free(self) -> bool:
        """Whether nothing is under way: the next bytes begin a request, and its answer may be sent at once."""
        newest = self.answering  # as nothing waits in the pipeline
        return (
            (newest is None or (newest.response_complete and not newest.more_body))
            and not (self.in_head or self.draining or self.flow.write_paused or self.pipeline or self.refusal)
            and not self.transport.is_closing()
        )

    def _write(self, answer: Answer) -> None:
        head, body, more = answer
        if isinstance(more, bytes):
            self.transport.write(more)
        elif not body:
            self.transport.write(head)
        elif more is None or self.transport.get_write_buffer_size():
            self.transport.writelines((head, body))
        else:
            self._write_file(head, body, more)

    def _write_file(self, head: bytes, body: bytes | memoryview, file: int) -> None:
        """From the page cache to the socket without a copy (sendfile(2)), as far as there is room at once, as nothing
        waits before it; the transport has the rest, and meets what went wrong."""
        socket = self.transport.get_extra_info("socket").fileno()
        heads = bodies = 0
        with contextlib.suppress(OSError):
            heads = os.write(socket, head)
            if heads == len(head):
                bodies = os.sendfile(socket, file, 0, len(body))
        if rest := [piece for piece in (head[heads:], body[bodies:]) if piece]:
            self.transport.writelines(rest)

    def pause_writing(self) -> None:
        self._idle = False
        super().pause_writing()

    def shutdown(self) -> None:
        self._idle = False
        if self.answering is None and self.timeout_keep_alive_task is not None and self._free():
            self.draining = True
            self.transport.close()
        else:
            super().shutdown()

    def _watch(self) -> None:
        self._used = False
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def timeout_keep_alive_handler(self) -> None:
        """A head that is not parsed leaves the timer alone, since to set it anew costs more than the whole answer: an
        idle connection stays for between one and two timeouts. Whose answer is still on its way is not idle."""
        if self._used or self.unsent:
            self._watch()
        else:
            super().timeout_keep_alive_handler()


def _is_head(data: bytes) -> bool:
    return len(data) <= _LONGEST and data.find(_END) == len(data) - len(_END)
