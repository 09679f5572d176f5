"""What a Redis server says of itself, for who wants to know whether it is set up well. It judges nothing."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from proxy.errors import Error
from proxy.stores import connection


@dataclass(frozen=True, slots=True)
class Facts:
    """`policy`: what goes when `max_bytes` (0 for no limit) are full. evicted: keys so far. persistent: None where the
    server does not tell."""

    where: str
    version: str
    seconds: float
    used_bytes: int
    max_bytes: int
    policy: str
    evicted: int
    persistent: bool | None


async def facts(url: str) -> Facts:
    """Raises `Error` where the server cannot be reached or does not let us in; `SettingsError` for a wrong URL."""
    client = connection.client(url)
    try:
        await client.ping()  # which connects too
        return _facts(
            client, min([await _answered(client) for _ in range(3)]), await client.info(), await _saves(client)
        )
    except (RedisError, OSError) as error:
        raise Error(f"{connection.where(client)}: {connection.told(client, error)}") from None
    finally:
        with contextlib.suppress(RedisError, OSError):
            await client.aclose()


async def _answered(client: Redis) -> float:
    """Seconds of an answer."""
    begun = time.monotonic()
    await client.ping()
    return time.monotonic() - begun


async def _saves(client: Redis) -> bool | None:
    """Does it write snapshots? Managed servers do not tell."""
    try:
        return bool((await client.config_get("save")).get("save"))
    except RedisError:
        return None


def _facts(client: Redis, seconds: float, info: dict[str, Any], saves: bool | None) -> Facts:
    name = "Valkey" if "valkey_version" in info else "Redis"
    version = info.get("valkey_version") or info.get("redis_version", "")
    return Facts(
        where=connection.where(client),
        version=f"{name} {version}",
        seconds=seconds,
        used_bytes=int(info.get("used_memory", 0)),
        max_bytes=int(info.get("maxmemory", 0)),
        policy=str(info.get("maxmemory_policy", "")),
        evicted=int(info.get("evicted_keys", 0)),
        persistent=True if info.get("aof_enabled") else saves,
    )
