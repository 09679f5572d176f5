"""What a request asks of caches (RFC 9111 section 5.2.1), read once and remembered."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from proxy.rules import directives

_REMEMBERED = 256  # bytes of both fields; what a client writes must not fill the memory


@dataclass(frozen=True, slots=True)
class Wish:
    """The directives of a request. no_cache: also max-age=0, and Pragma where there is no Cache-Control.

    max_age: the greatest age it takes; min_fresh: the least freshness left; max_stale: the greatest staleness.
    """

    no_cache: bool = False
    no_store: bool = False
    only_if_cached: bool = False
    max_age: float = math.inf
    min_fresh: float = 0.0
    max_stale: float = 0.0


NONE = Wish()


def wish(cache_control: bytes | None, pragma: bytes | None) -> Wish:
    """What the two fields of a request ask for. Never raises; what cannot be read asks for nothing."""
    if cache_control is None and pragma is None:
        return NONE
    given = cache_control or b"", pragma or b""
    return _remembered(*given) if len(given[0]) + len(given[1]) <= _REMEMBERED else _read(*given)


def _read(cache_control: bytes, pragma: bytes) -> Wish:
    said = directives.cache_control(cache_control)
    max_age = directives.seconds(said.get("max-age", ""))
    max_stale = directives.seconds(said.get("max-stale", ""))
    if said.get("max-stale") == "":  # without an argument: any staleness
        max_stale = math.inf
    return Wish(
        no_cache="no-cache" in (said if cache_control else directives.cache_control(pragma)) or max_age == 0.0,
        no_store="no-store" in said,
        only_if_cached="only-if-cached" in said,
        max_age=math.inf if max_age is None else max_age,
        min_fresh=directives.seconds(said.get("min-fresh", "")) or 0.0,
        max_stale=max_stale or 0.0,
    )


_remembered = lru_cache(maxsize=512)(_read)
