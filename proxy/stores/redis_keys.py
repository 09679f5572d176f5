"""Goes through the keys of a Redis server, which has no order and gives some of them twice. It knows no value."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

from redis.asyncio import Redis

BATCH = 500
"""Keys that the server looks at in one go; it answers nobody else meanwhile."""


async def scanned(client: Redis, family: str, first: str = "", part: str = "") -> AsyncIterator[list[str]]:
    """The keys that begin with `family`, then with `first`, and have `part` behind that: without `family`, each once,
    in batches."""
    pattern = f"{_literal(family + first)}*" + (f"{_literal(part)}*" if part else "")
    seen: set[str] = set()
    cursor = 0
    while True:
        cursor, found = await client.scan(cursor, match=pattern, count=BATCH)
        keys = {text(key).removeprefix(family) for key in found} - seen
        seen |= keys
        if keys:
            yield list(keys)
        if not cursor:
            return


def text(reply: bytes | str) -> str:
    return reply if isinstance(reply, str) else reply.decode()


def _literal(text: str) -> str:
    """A pattern of SCAN that matches just this text."""
    return re.sub(r"([*?\[\]\\])", r"\\\1", text)
