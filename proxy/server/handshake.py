"""A connection over TLS until its handshake is over: counted like any other, and no longer there than a head may take.

The loop by itself counts nobody before, so that whoever begins handshakes and ends none would have any number of
connections. It knows TLS and who counts. It knows nothing of what is spoken afterwards.
"""

from __future__ import annotations

import asyncio
from asyncio import Protocol, Transport
from collections.abc import Callable, Coroutine
from ssl import SSLContext
from typing import Any

from uvicorn.protocols.utils import get_remote_addr

from proxy.server import protocol as http
from proxy.server.guard import Watch


class Handshake(Protocol):
    """`protocol` takes over then. A server that drains waits for it like for any other."""

    def __init__(self, protocol: Any, context: SSLContext, watch: Watch) -> None:
        self.loop = asyncio.get_running_loop()
        self.client: tuple[str, int] | None = None
        self._protocol = protocol
        self._context = context
        self._watch = watch
        self._draining = False

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        self.client = http.plainly(get_remote_addr(transport))
        self._watch.come(self)
        if self._watch.overfull:  # who is one too many is told once there is somebody who can
            self._watch.go(self)
            transport.abort()
            return
        self._transport = transport
        self._protocol.connections.add(self)
        shaking: Coroutine[Any, None, Transport | None] = self.loop.start_tls(
            transport,
            self,
            self._context,
            server_side=True,
            ssl_handshake_timeout=self._watch.limits.header_timeout,
        )
        # At once, and not in a task: what is read before the handshake has begun would be lost.
        shaking.send(None).add_done_callback(lambda over: self._over(shaking))

    def look(self, now: float, passed: float) -> None:
        """The loop keeps the deadline."""

    def shutdown(self) -> None:
        """uvicorn's word to each connection when it drains."""
        self._draining = True
        self.loop.call_later(http.GRACE, self._give_up)

    def _give_up(self) -> None:
        if self in self._protocol.connections:
            self._transport.abort()

    def _over(self, shaking: Coroutine[Any, None, Transport | None]) -> None:
        self._watch.go(self)
        self._protocol.connections.discard(self)
        try:
            shaking.send(None)
        except OSError:  # such as all errors of TLS; what is no TLS is no news for the log
            return
        except StopIteration as ended:
            secured: Transport | None = ended.value
        if secured is not None and not secured.is_closing():
            secured.set_protocol(self._protocol)
            self._protocol.beneath = self._transport
            self._protocol.connection_made(secured)
            if self._draining:
                self._protocol.shutdown()


def counted(made: Callable[[], Any], context: SSLContext | None, watch: Watch) -> Callable[[], Any]:
    """What makes the protocols of a server, so that its connections are counted from the first moment over TLS, too."""
    return made if context is None else lambda: Handshake(made(), context, watch)
