"""The values that pass between the layers. Frozen, without behaviour that needs I/O or a clock.

Header names are lower-case bytes, values are bytes without surrounding white space (RFC 9110 section 5).
Times are seconds since the epoch as floats; durations are seconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

Headers = tuple[tuple[bytes, bytes], ...]


class Host(StrEnum):
    """The three upstream hosts; the values are those of the metric label `host`."""

    API = "api"
    INDEX = "index"
    STATIC = "static"


class Verdict(StrEnum):
    """What became of a request; the values are those of the metric label `verdict` and, upper-case, of X-Cache."""

    HIT = "hit"
    STALE = "stale"
    REVALIDATED = "revalidated"
    MISS = "miss"
    PASS = "pass"


@dataclass(frozen=True, slots=True)
class Crate:
    """One version of a crate, spelt as the index spells it."""

    name: str
    version: str


@dataclass(frozen=True, slots=True)
class Head:
    """The start of an upstream answer. framed: whether the end of the body is told by the message itself; where
    only the end of the connection tells it, a body broken off looks whole (RFC 9112 section 6.3)."""

    status: int
    headers: Headers
    framed: bool = True

    def get(self, name: bytes, default: bytes = b"") -> bytes:
        """The values of a field, joined by a comma where it is repeated (RFC 9110 section 5.3)."""
        return b", ".join([value for field, value in self.headers if field == name]) or default


@dataclass(frozen=True, slots=True)
class Terms:
    """What upstream's own headers say about the use of an entry, beside its lifetime. The defaults are silence.

    stale_while_revalidate, stale_if_error: RFC 5861's windows in seconds, None for silence about errors.
    strict: never to be used stale, whatever happens (must-revalidate and its kin). shared: may answer a request that
    carries Authorization. vary: the request fields that it was selected by; variant: a digest of their values.
    """

    stale_while_revalidate: float = 0.0
    stale_if_error: float | None = None
    strict: bool = False
    shared: bool = False
    vary: tuple[str, ...] = ()
    variant: str = ""


@dataclass(frozen=True, slots=True)
class Coded:
    """An entry's body in gzip: another representation, with an entity tag of its own."""

    body: bytes
    etag: str


@dataclass(frozen=True, slots=True)
class Witness:
    """The index file of a crate as it was before the API was asked for an entry: while the file stays so, the entry
    holds. path: of the file; validator: what tells its states apart; fetched_at: when the API's answer arrived."""

    path: str
    validator: str
    fetched_at: float


@dataclass(frozen=True, slots=True)
class Entry:
    """A stored answer: the facts of it, never a verdict about it (`rules.freshness` judges).

    requested_at: when the request that it answers was sent; responded_at: when the answer (or the 304, or the
    unchanged index file, that last validated it) arrived (RFC 9111 section 4.2.3). initial_age: how old it was then.
    lifetime: the freshness lifetime that upstream's own headers give, None where they are silent. terms: what else
    they say; only rows without a ttl of ours heed it.
    etag: quoted; upstream's own for its own bytes, else made from the body. validated: whether upstream gave a
    validator, so that a conditional request makes sense. gzip: the same in gzip, where it is worth it.
    witness: what may renew it without a request to the API, None where nothing may.
    """

    key: str
    status: int
    headers: Headers
    body: bytes
    etag: str
    requested_at: float
    responded_at: float
    initial_age: float = 0.0
    lifetime: float | None = None
    validated: bool = False
    terms: Terms = Terms()
    gzip: Coded | None = None
    witness: Witness | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a read came to: the answer and how it was come by, for the edge to tell and to count.

    fresh_for: seconds of freshness left, zero or less when it is stale. age: seconds since upstream vouched for it.
    forwarded: the reason for going upstream, as `fwd` of Cache-Status names it (RFC 9211 section 2.2), "" if not.
    forwarded_status: upstream's answer where it is not the one passed on. detail: why a stale one was served, or
    what else than the answer's own host vouched for it.
    """

    verdict: Verdict
    entry: Entry
    fresh_for: float
    age: float
    forwarded: str = ""
    forwarded_status: int | None = None
    detail: str = ""
    stored: bool = False
    collapsed: bool = False


@dataclass(frozen=True, slots=True)
class Selection:
    """What a purge takes: one crate (name folded by `rules.names.folded`), one endpoint, one key of an endpoint
    with all its variants, or everything."""

    crate: str | None = None
    endpoint: str | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Invalidation:
    """`selection` changed (`soft`: must be revalidated before use) or was deleted, at time `at`."""

    selection: Selection
    soft: bool
    at: float


@dataclass(frozen=True, slots=True)
class Mark:
    """When what a selection covers last changed, and when it was last purged; minus infinity for never.

    An entry requested before `changed` must be revalidated before use; one requested before `purged` is gone.
    """

    changed: float = -math.inf
    purged: float = -math.inf

    def merged(self, other: Mark) -> Mark:
        return Mark(max(self.changed, other.changed), max(self.purged, other.purged))


class State(StrEnum):
    """How a component is, as `/readyz` prints it."""

    OK = "ok"
    DEGRADED = "degraded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Health:
    """One line of `/readyz`."""

    name: str
    state: State
    detail: str = ""
