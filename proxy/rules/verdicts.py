"""How an answer was come by, in the words of RFC 9211 and of X-Cache; and how long a client may keep it."""

from __future__ import annotations

import math

from proxy.errors import Down, Error, Offline, Throttled, UpstreamError
from proxy.model import Outcome, Verdict

CACHE = "crates-proxy"
FOR_EVER = "public, max-age=31536000, immutable"
_A_YEAR = 31_536_000
HIT = f"{CACHE}; hit; ttl=".encode("ascii")
"""What the Cache-Status of a hit begins with; the seconds of freshness left follow."""


def cache_status(outcome: Outcome) -> bytes:
    """The Cache-Status field (RFC 9211 section 2)."""
    parts = [CACHE]
    if outcome.forwarded:
        parts.append(f"fwd={outcome.forwarded}")
        if outcome.forwarded_status is not None:
            parts.append(f"fwd-status={outcome.forwarded_status}")
        if outcome.collapsed:
            parts.append("collapsed")
        elif outcome.stored and outcome.verdict is Verdict.MISS:
            parts.append("stored")
    else:
        parts += ["hit", f"ttl={whole(outcome.fresh_for)}"]
    if outcome.detail:
        parts.append(f"detail={outcome.detail}")
    return "; ".join(parts).encode("ascii")


def tarball_status(verdict: Verdict, *, collapsed: bool, stored: bool) -> bytes:
    """The Cache-Status field of a tarball, which never becomes stale."""
    if verdict is Verdict.HIT:
        return f"{CACHE}; hit; ttl={_A_YEAR}".encode("ascii")
    if collapsed:
        return f"{CACHE}; fwd=uri-miss; collapsed".encode("ascii")
    return f"{CACHE}; fwd=uri-miss{'; stored' if stored else ''}".encode("ascii")


def refused(error: Error, forwarded: str = "") -> bytes:
    """The Cache-Status field of an error: what was asked upstream, or why nothing was. `forwarded`: why everything
    is on this row, where that is so."""
    parts = [CACHE]
    if isinstance(error, Offline):
        parts.append("detail=offline")
    elif isinstance(error, Throttled):
        parts.append("detail=throttled")
    elif isinstance(error, UpstreamError) and not isinstance(error, Down):
        parts.append(f"fwd={forwarded or error.forwarded}")
        if error.answered is not None:
            parts.append(f"fwd-status={error.answered}")
    return "; ".join(parts).encode("ascii")


BYPASS = "bypass"
"""RFC 9211 section 2.2: this cache does not handle such requests."""


def passed(forwarded: str) -> bytes:
    """The Cache-Status field of upstream's own answer on its way through."""
    return f"{CACHE}; fwd={forwarded}".encode("ascii")


def cache_control(outcome: Outcome) -> bytes:
    """Cache-Control on rows with a ttl: our ttl while it is fresh, so that caches behind us agree with our Age.

    What was served although a newer copy was wanted counts as stale even where our ttl is not over.
    """
    if outcome.verdict is Verdict.MISS and not outcome.stored:
        return b"no-store"
    if outcome.verdict is Verdict.STALE or outcome.fresh_for <= 0:
        return b"no-cache"
    return f"public, max-age={whole(outcome.age + outcome.fresh_for + 0.5)}".encode("ascii")


def whole(seconds: float) -> int:
    """Seconds as they are told: whole ones, and no more than a year of them."""
    return math.floor(min(seconds, float(_A_YEAR)))
