"""Looks through a database of diskcache by crate, which is the tag of its rows.

Names come from an index of their own, so that a page costs the rows on it; a part of a name that is nowhere costs a
walk over that index. It knows rows, not what they mean. All of it blocks.
"""

from __future__ import annotations

import json
import time
from typing import Any

from proxy.stores.base import Shelved

# Of the names behind ?, those that contain ?; the first ?.
_NAMES = (
    "SELECT DISTINCT tag FROM Cache INDEXED BY Cache_tag_rowid WHERE tag > ? AND instr(tag, ?) > 0 ORDER BY tag LIMIT ?"
)
_KEYS = "SELECT key FROM Cache WHERE tag = ? AND (expire_time IS NULL OR expire_time > ?) ORDER BY key LIMIT ?"
# Of the names in a list of JSON.
_ROWS = "SELECT tag, key, value, store_time FROM Cache WHERE tag IN (SELECT value FROM json_each(?)) ORDER BY tag, key"
_SUMS = (
    "SELECT tag, COUNT(*), SUM(size + COALESCE(LENGTH(value), 0)) FROM Cache"
    " WHERE tag IN (SELECT value FROM json_each(?)) AND (expire_time IS NULL OR expire_time > ?)"
    " GROUP BY tag ORDER BY tag"
)


def crates(cache: Any, part: str, after: str, limit: int) -> list[Shelved]:
    """The crates of which there is something; what is past its time is nothing."""
    found: list[Shelved] = []
    while len(found) < limit and (page := names(cache, part, after, limit)):
        rows = cache._sql(_SUMS, (json.dumps(page), time.time())).fetchall()
        found += [Shelved(name, count, int(size)) for name, count, size in rows]
        after = page[-1]
    return found[:limit]


def keys(cache: Any, crate: str, limit: int) -> list[str]:
    return [key for (key,) in cache._sql(_KEYS, (crate, time.time(), limit)).fetchall()]


def values(cache: Any, names: list[str]) -> list[tuple[str, str, object, float]]:
    """Name, key, value and time of every row of these."""
    return list(cache._sql(_ROWS, (json.dumps(names),)).fetchall())


def names(cache: Any, part: str, after: str, limit: int) -> list[str]:
    return [name for (name,) in cache._sql(_NAMES, (after, part, limit)).fetchall()]
