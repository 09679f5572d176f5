"""Requests whose turn has not come wait as the bytes that they came as, and no more are read meanwhile.

uvicorn parses whatever it has read, makes of each request something a hundred times its size, and reads on with each
answer, however many are waiting: who sends requests and reads no answers would fill the memory.
"""

from __future__ import annotations

from asyncio import Transport

from uvicorn.protocols.http.flow_control import FlowControl

from proxy.server.guard import Guarded

SLICE = 4096
"""Bytes that are parsed at a time: so many requests may be waiting as are in there."""


class Turns(Guarded):
    _rest = b""  # what was read, and not parsed; none where nothing waits
    _taking = False

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self.flow = _Flow(transport, self)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        # Nobody will have it, and a cycle of references would keep it until the collector of Python's comes by.
        self._rest = b""
        self.pipeline.clear()
        self.cycle = self.answering = self.scope = None  # type: ignore[assignment]  # as uvicorn begins
        self.flow = FlowControl(self.transport)
        self._unset_keepalive_if_required()

    def data_received(self, data: bytes) -> None:
        if self._rest or self.pipeline or len(data) > SLICE:
            self._rest += data
            self._take()
        else:
            super().data_received(data)

    @property
    def waiting(self) -> bool:
        return bool(self.pipeline or self._rest)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.pipeline and not self.transport.is_closing():
            self._take()
            self.flow.resume_reading()

    def _take(self) -> None:
        """Parse on, until a request has to wait."""
        if self._taking:  # that was answered where it was parsed
            return
        self._taking = True
        rest, self._rest, at = self._rest, b"", 0
        try:
            while at < len(rest) and not self.pipeline:
                super().data_received(rest[at : at + SLICE])
                at += SLICE
        finally:
            self._rest, self._taking = rest[at:], False


class _Flow(FlowControl):
    def __init__(self, transport: Transport, turns: Turns) -> None:
        super().__init__(transport)
        self._turns = turns

    def resume_reading(self) -> None:
        if not self._turns.waiting:
            super().resume_reading()
