"""May a crate's JSON be renewed because the crate's index file has not changed? The index has no limit, the API has.

What the API says of a crate changes when its index file does, but for download counters and what an owner writes
to a yank. So the file's validator is taken *before* the API is asked, and kept with what the API said: a change
that the answer does not show yet, or shows already, is then a later state of the file. `now` is an argument.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from proxy.model import Entry, Witness
from proxy.rules import directives, freshness, headers, names, sparse
from proxy.rules.conditional import http_date
from proxy.rules.endpoints import Policy

LAG = 120.0
"""Seconds after a change in which the API may still answer with the state before it, from a replica; what was
fetched in that time is not renewed. Twice what `freshness.CHANGE_SETTLES` allows, for an error lasts longer here."""
DETAIL = "index-unchanged"
"""What Cache-Status says of an answer that was renewed."""


@dataclass(frozen=True, slots=True)
class Sight:
    """An index file that was looked at, and had not changed for `LAG`: its path and what tells its states apart."""

    path: str
    validator: str


def paths(read_name: str, folded: str) -> tuple[str, ...]:
    """Where the index may have the file of a crate, the likeliest first. The index keeps `-` and `_` apart, the API
    does not: nearly always the client spells the name as the crate does, else it has the one or the other."""
    spellings = (read_name or folded, folded, folded.replace("-", "_"))
    return tuple(dict.fromkeys(sparse.path(name) for name in spellings if names.is_name(name)))


def validator(index: Entry) -> str:
    """What is the same as long as the index file is. Of the bytes, whichever coding they came in, and of the time of
    the last change: a yank that was taken back leaves the bytes as they were, but not what the API said meanwhile."""
    modified = headers.value(index.headers, b"last-modified") or b""
    return f"{directives.entity_tag(index.body)} {modified.decode('latin-1')}"


def sight(path: str, index: Entry, now: float) -> Sight | None:
    """What may be told of the index file to who asks the API from now on; None where the file has changed just now,
    or does not say when it did.

    The host's own Date tells how long ago the change is, whatever the time is here; but neither clock is trusted
    with more than the other says.
    """
    modified = http_date(headers.value(index.headers, b"last-modified") or b"")
    if modified is None:
        return None
    date = http_date(headers.value(index.headers, b"date") or b"")
    arrived = index.responded_at if date is None else date
    since = min(now - modified, arrived - modified + now - index.responded_at)
    return Sight(path, validator(index)) if since >= LAG else None


def attested(entry: Entry, seen: Sight | None) -> Entry:
    """What the API said, with what may renew it: `seen` before it was asked."""
    if seen is None or entry.status != 200:
        return replace(entry, witness=None)
    return replace(entry, witness=Witness(seen.path, seen.validator, entry.responded_at))


def renewable(entry: Entry, now: float, *, changed: float, no_cache: bool) -> bool:
    """Whether the index may vouch for an entry. `changed`: as in `freshness.decide`; what was announced (a change of
    owners, say) may concern what the index does not show, and upstream lags after it. A client that insists wants
    the API."""
    if entry.witness is None or entry.requested_at < changed + LAG:
        return False
    return not (no_cache and freshness.insisted(entry, now))


def overdue(entry: Entry, now: float, ceiling: float) -> bool:
    """Whether the index has vouched for an entry so long that the API is to be asked, if it can be: for what the
    index does not show, which is download counters. `ceiling`: seconds since the API was asked, 0 for no matter."""
    if entry.witness is None or ceiling <= 0:
        return False
    return not 0.0 <= now - entry.witness.fetched_at < ceiling  # THE LINE that bounds how old counters become


def outdated(entry: Entry, index: Entry) -> bool:
    """Whether the index file shows that there is news which the entry does not tell. An older copy of the file than
    the API's answer, as another member may have it, shows nothing."""
    witness = entry.witness
    return witness is not None and validator(index) != witness.validator and index.responded_at > witness.fetched_at


def renewed(entry: Entry, index: Entry, policy: Policy, now: float) -> Entry | None:
    """The entry, vouched for at the time when the index file was; None where the file has changed, or tells nothing
    new: a copy of it that is older than the row's own ttl."""
    if entry.witness is None or validator(index) != entry.witness.validator:
        return None
    if index.responded_at <= entry.responded_at or now - index.responded_at >= (policy.ttl or 0.0):
        return None
    return replace(entry, responded_at=index.responded_at)
