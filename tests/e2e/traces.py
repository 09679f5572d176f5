"""Looks for what must not have been written."""

from __future__ import annotations

from typing import Any

import redis


def redis_holds(url: str, text: bytes) -> bool:
    """Whether any key or value of that Redis has `text` in it; False where there is no Redis."""
    if not url:
        return False
    with redis.Redis.from_url(url) as client:
        return any(text in key or text in _value(client, key) for key in client.scan_iter())


def _value(client: Any, key: bytes) -> bytes:
    match client.type(key):
        case b"string":
            return bytes(client.get(key))
        case b"hash":
            return b"\n".join(part for pair in client.hgetall(key).items() for part in pair)
        case b"set":
            return b"\n".join(client.smembers(key))
        case b"zset":
            return b"\n".join(client.zrange(key, 0, -1))
        case b"stream":
            return repr(client.xrange(key)).encode()
        case _:
            return bytes(client.dump(key) or b"")
