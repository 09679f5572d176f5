"""What an answer of upstream says about asking it again: RFC 9110 section 10.2.3, and what crates.io means by words.

Only answers to reads of this proxy's own speak for all of it; what a caller's own request gets is the caller's,
since crates.io limits publishers one by one. It knows neither who else must know nor how.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from proxy.model import Host


class Why(StrEnum):
    """Why a host is not asked."""

    TOLD = "told"  # 429 or 503, with Retry-After
    LIMITED = "limited"  # 429 that does not say for how long
    BLOCKED = "blocked"  # 403 for a violation of the data access policy: somebody must act
    PROBED = "probed"  # it was blocked, and one request is finding out whether it still is


BLOCK = 300.0
"""Seconds for which crates.io's firewall refuses an address that asked too much; it sends no Retry-After."""
UNTOLD = 10.0
"""Seconds after a 429 that does not say for how long, from a host that has no limit we know of."""
POLICY = 900.0
"""Seconds until somebody may have acted on a policy's block; so often one request is spent to find out."""
PROBE = 10.0
"""Seconds for which all others wait for that one: its answer takes a fraction of it, or does not come at all."""
SHORTEST, LONGEST = 1.0, 3600.0
"""Seconds: what Retry-After may say. Nobody is held up for a day by a slip of the pen; then it is asked anew."""

_SAME_IP = "too many requests from the same ip"
_DATA_ACCESS = ("data access policy", "/data-access")


@dataclass(frozen=True, slots=True)
class Said:
    """An answer, as far as it says something about the next one. `retry_after`: seconds from now, None for silence.
    `own`: to a read of this proxy's own, without anybody's credentials."""

    host: Host
    status: int
    retry_after: int | None
    words: str
    own: bool


def wordy(host: Host, status: int, *, own: bool) -> bool:
    """Whether it takes the words of an answer to know what it means. The static host says 403 for what it lacks."""
    return host is Host.API and (status == 429 or (status == 403 and own))


def meant(said: Said) -> tuple[float, Why] | None:
    """For how many seconds its host is to be left alone, and why; None where an answer says nothing like it."""
    told = None if not said.retry_after else min(max(float(said.retry_after), SHORTEST), LONGEST)
    if not said.own:
        # The firewall counts addresses, and ours is everybody's.
        whole = said.host is Host.API and said.status == 429 and _SAME_IP in said.words.lower()
        return (told or BLOCK, Why.LIMITED) if whole else None
    if said.status in (429, 503) and told is not None:
        return told, Why.TOLD
    if said.status == 429:
        return (BLOCK if said.host is Host.API else UNTOLD), Why.LIMITED
    if said.host is Host.API and said.status == 403 and any(each in said.words.lower() for each in _DATA_ACCESS):
        return POLICY, Why.BLOCKED
    return None
