"""A connection over TLS until its handshake is over: counted like any other, and no longer there than a head may take.

The loop by itself counts nobody before, so that whoever begins handshakes and ends none would have any number of
connections. It knows TLS and who counts. It knows nothing of what is spoken afterwards.
"""

from __future__ import annotations

import asyncio
from asyncio import Protocol, Transport
from collections.abc import Awaitable, Callable, Coroutine
from ssl import SSLContext
from typing import Any

from uvicorn.protocols.utils import get_remote_addr

from proxy.server.guard import Watch
from proxy.server.protocol import plainly

Created = Callable[..., Awaitable[asyncio.Server]]


class Handshake(Protocol):
    """`made` makes the protocol that takes over."""

    def __init__(self, made: Callable[[], Any], context: SSLContext, watch: Watch) -> None:
        self.loop = asyncio.get_running_loop()
        self.client: tuple[str, int] | None = None
        self._made = made
        self._context = context
        self._watch = watch

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        self.client = plainly(get_remote_addr(transport))
        self._watch.come(self)
        if self._watch.overfull:  # who is one too many is told once there is somebody who can
            self._watch.go(self)
            transport.abort()
            return
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

    def _over(self, shaking: Coroutine[Any, None, Transport | None]) -> None:
        self._watch.go(self)
        try:
            shaking.send(None)
        except OSError:  # such as all errors of TLS; what is no TLS is no news for the log
            return
        except StopIteration as ended:
            secured: Transport | None = ended.value
        if secured is not None and not secured.is_closing():
            protocol = self._made()
            secured.set_protocol(protocol)
            protocol.connection_made(secured)


def counted(create_server: Created, watch: Watch) -> Created:
    """A loop's `create_server` whose connections over TLS are counted from the first moment."""

    async def created(made: Callable[[], Any], *, ssl: SSLContext, **options: Any) -> asyncio.Server:
        return await create_server(lambda: Handshake(made, ssl, watch), **options)

    return created
