"""A redis-py client set up so that a dead or hung server costs fractions of a second and answers stay in step, and that
it follows its URL when another server takes over behind it.

It knows the URL, and is the only place that does: what it tells never holds a password.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis
from redis.asyncio.client import PubSub
from redis.asyncio.connection import Connection, UnixDomainSocketConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError, ReadOnlyError, RedisError, TimeoutError
from redis.maint_notifications import MaintNotificationsConfig

from proxy.errors import SettingsError

_SCHEMES = ("redis", "rediss", "unix")
_SECONDS = 0.2
"""For each step of a command. A Redis that takes longer is slower than to do without."""
CONNECTIONS = 64
"""At most so many at a time; a store takes half of them, the rest is for others who share the client."""


def client(url: str) -> Redis:
    """A client that connects when it is first used. SettingsError for a URL that cannot be used.

    The URL's own options count (`?ssl_ca_certs=...`) where they do not undo what is set here.
    """
    if url.partition("://")[0] not in _SCHEMES:
        raise SettingsError(["redis.url: it must begin with redis://, rediss:// or unix://"])
    try:
        options: dict[str, Any] = {**parse_url(url), **_settings()}
        if options.get("connection_class") is UnixDomainSocketConnection and not options.get("path"):
            raise ValueError("no path")
        kind = options.get("connection_class", Connection)
        options["connection_class"] = _telling(kind, lambda: _dropped(pool))
        pool = BlockingConnectionPool(**options)
        pool.make_connection()  # type: ignore[no-untyped-call]  # options that no connection takes show here, not at the first command
    except (TypeError, ValueError, AttributeError, RedisError):
        # Without the cause: it may quote a part of the URL, and a password with it.
        raise SettingsError(["redis.url: a part of it (host, port, path or an option) is not valid"]) from None
    return Redis.from_pool(pool)


def _telling(kind: type[Any], elsewhere: Callable[[], Awaitable[None]]) -> type[Any]:
    """A connection that says in Redis's words when it is gone: to uvloop a transport that was closed a moment ago is a
    mistake in the program (RuntimeError), which nobody expects of a server that went away. And one whose server is
    read-only, since another one has become the primary in its place, has `elsewhere` called: no connection that was
    made until now leads to the right one. It is closed, too, by who is cancelled while he sends: redis-py has the
    `asyncio.wait_for` of Python 3.11 do that, which forgets to be cancelled where it is just through
    (python/cpython issue 86296)."""

    class Telling(kind):  # type: ignore[misc]  # one of three kinds, known only now
        async def read_response(self, *args: Any, **options: Any) -> Any:
            try:
                return await super().read_response(*args, **options)
            except ReadOnlyError:
                await elsewhere()
                raise

        async def send_packed_command(self, *args: Any, **options: Any) -> None:
            task = asyncio.current_task()
            assert task is not None
            before = task.cancelling()
            try:
                await super().send_packed_command(*args, **options)
            except RuntimeError as error:
                raise ConnectionError(f"the connection is closed ({error})") from error
            if task.cancelling() > before:
                await self.disconnect(nowait=True)  # its answer is nobody's
                raise asyncio.CancelledError

    return Telling


def _settings() -> dict[str, Any]:
    return {
        "max_connections": CONNECTIONS,
        "timeout": _SECONDS,  # for a free connection
        "socket_timeout": _SECONDS,
        "socket_connect_timeout": _SECONDS,
        # One more attempt, on a new connection, hides that the server closed an idle one or is the primary no more;
        # redis-py's own ten take seconds.
        "retry": Retry(NoBackoff(), 1, (ConnectionError, TimeoutError, ReadOnlyError)),
        # With them on, redis-py 8.1 does not look for unread data on a connection that it takes from the pool
        # (redis/redis-py issue 4252): an answer too many, and everyone gets the one before his own.
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
        "decode_responses": False,
    }


def where(client: Redis) -> str:
    """The server, for people."""
    options = client.connection_pool.connection_kwargs
    return str(options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}")


def told(client: Redis, error: BaseException) -> str:
    """What went wrong, for people, on one line."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    secret = client.connection_pool.connection_kwargs.get("password")
    return text.replace(secret, "***") if secret else text


async def dropped(client: Redis) -> None:
    """Close every connection: the idle ones now, the others when their command is done."""
    await _dropped(client.connection_pool)


def outdated(subscription: PubSub) -> bool:
    """Whether its connection, which is never done, leads to a server that is the primary no more."""
    made: Connection | None = subscription.connection
    return made is not None and made.should_reconnect()  # type: ignore[no-untyped-call]  # redis-py


async def _dropped(pool: ConnectionPool) -> None:
    await pool.update_active_connections_for_reconnect()  # type: ignore[no-untyped-call]  # redis-py
    await pool.disconnect(inuse_connections=False)
