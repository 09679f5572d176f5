"""Looks through a database of diskcache by crate, which is the tag of its rows.

Names come from an index of their own, so that a page costs the rows on it; a part of a name that is nowhere costs a
walk over that index. It knows rows, not what they mean. All of it blocks.
"""

from __future__ import annotations

import time
from typing import Any

from proxy.stores.base import Shelved

# Of the names behind ?, those that contain ?; the first ?.
_NAMES = (
    "SELECT DISTINCT tag FROM Cache INDEXED BY Cache_tag_rowid WHERE tag > ? AND instr(tag, ?) > 0 ORDER BY tag LIMIT ?"
)
_THERE = "(expire_time IS NULL OR expire_time > ?)"


def crates(cache: Any, part: str, after: str, limit: int) -> list[Shelved]:
    """The crates of which there is something; what is past its time is nothing."""
    found: list[Shelved] = []
    while len(found) < limit:
        page = names(cache, part, after, limit)
        if not page:
            break
        found += _summed(cache, page)
        after = page[-1]
    return found[:limit]


def keys(cache: Any, crate: str, limit: int) -> list[str]:
    select = f"SELECT key FROM Cache WHERE tag = ? AND {_THERE} ORDER BY key LIMIT ?"
    return [key for (key,) in cache._sql(select, (crate, time.time(), limit)).fetchall()]


def values(cache: Any, names: list[str]) -> list[tuple[str, str, object, float]]:
    """Name, key, value and time of every row of these."""
    places = ", ".join("?" * len(names))
    select = f"SELECT tag, key, value, store_time FROM Cache WHERE tag IN ({places}) ORDER BY tag, key"
    return list(cache._sql(select, names).fetchall())


def names(cache: Any, part: str, after: str, limit: int) -> list[str]:
    return [name for (name,) in cache._sql(_NAMES, (after, part, limit)).fetchall()]


def _summed(cache: Any, names: list[str]) -> list[Shelved]:
    places = ", ".join("?" * len(names))
    select = (
        "SELECT tag, COUNT(*), SUM(size + COALESCE(LENGTH(value), 0)) FROM Cache"
        f" WHERE tag IN ({places}) AND {_THERE} GROUP BY tag ORDER BY tag"
    )
    return [Shelved(name, count, int(size)) for name, count, size in cache._sql(select, [*names, time.time()])]
