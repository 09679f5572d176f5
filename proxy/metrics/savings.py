"""What the book of savings holds, and what is worked out of it. Pure: it knows neither the book nor the clock.

Of each UTC day there are sums for each endpoint and each client label. What was avoided is what crates.io would have
been asked for without this proxy, less what it was asked for:

    an endpoint   bytes: served less fetched. Requests: answered (neither 5xx nor 429) less sent upstream. Both are
                  net: what was fetched ahead or in vain counts against them, and they can be below zero
    a client      what its own requests did not cause: answered from the store or by another one's request. What
                  was fetched ahead for everybody is nobody's, so the clients' sum is not the endpoints' sum
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NamedTuple

from proxy.model import Verdict

DAYS = 31
"""Days that are told one by one; all days are in the sums."""


CLIENTS = 200
"""Client labels that are told one by one."""
OTHERS = "(others)"


class Subject(StrEnum):
    ENDPOINT = "endpoint"
    CLIENT = "client"


class Field(StrEnum):
    """The verdicts count requests."""

    HIT = "hit"
    STALE = "stale"
    REVALIDATED = "revalidated"
    MISS = "miss"
    PASS = "pass"
    SERVED = "served"  # bytes
    FETCHED = "fetched"  # bytes
    ANSWERED = "answered"  # requests
    ASKED = "asked"  # requests upstream
    SPARED = "spared"  # requests of a client
    SPARED_BYTES = "spared_bytes"


class Item(NamedTuple):
    subject: Subject
    name: str
    field: Field


Sums = Mapping[str, int]
"""By field; what is absent is 0."""


def day(now: float) -> str:
    """The UTC day of seconds since the epoch."""
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d")


def moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def report(since: float, book: Mapping[tuple[str, Item], int]) -> dict[str, Any]:
    """Everything but the stores, as `stats --json` tells it. `since`: 0 where the book cannot be read. `book`: (day,
    item) -> sum."""
    by_endpoint = _summed(book, Subject.ENDPOINT, days=False)
    by_day = _summed(book, Subject.ENDPOINT, days=True)
    days = sorted({day for day, _ in by_day if day})[-DAYS:]
    clients = _most({name: sums for (_, name), sums in _summed(book, Subject.CLIENT, days=False).items()})
    endpoints = {name: sums for (_, name), sums in sorted(by_endpoint.items())}
    return {
        "since": moment(since) if since else None,
        **figures(_added(endpoints.values())),
        "endpoints": {name: figures(sums) for name, sums in endpoints.items()},
        "days": {each: _day(by_day, each) for each in days},
        "clients": {name: _client(sums) for name, sums in clients.items()},
    }


def figures(sums: Sums) -> dict[str, Any]:
    """What an endpoint, or several together, came to."""
    served, fetched = sums.get(Field.SERVED, 0), sums.get(Field.FETCHED, 0)
    answered, asked = sums.get(Field.ANSWERED, 0), sums.get(Field.ASKED, 0)
    return {
        **_requests(sums),
        "bytes": {"served": served, "fetched": fetched, "avoided": served - fetched},
        "upstream": {"requests": asked, "avoided": answered - asked},
    }


def _most(clients: Mapping[str, Sums]) -> dict[str, Sums]:
    """The clients that were served most, by name; the rest as one, last."""
    largest = sorted(clients, key=lambda name: -clients[name].get(Field.SERVED, 0))
    others = [clients[name] for name in largest[CLIENTS:]]
    chosen = {name: clients[name] for name in sorted(largest[:CLIENTS])}
    if others:
        chosen[OTHERS] = _added([*others, chosen.pop(OTHERS, {})])
    return chosen


def _requests(sums: Sums) -> dict[str, Any]:
    requests = {verdict.value: sums.get(verdict.value, 0) for verdict in Verdict}
    cached = sum(requests.values()) - requests[Verdict.PASS]
    ratio = (requests[Verdict.HIT] + requests[Verdict.STALE]) / cached if cached else 0.0
    return {"requests": requests, "hit_ratio": round(ratio, 4)}


def _client(sums: Sums) -> dict[str, Any]:
    return {
        **_requests(sums),
        "bytes": {"served": sums.get(Field.SERVED, 0), "avoided": sums.get(Field.SPARED_BYTES, 0)},
        "upstream": {"avoided": sums.get(Field.SPARED, 0)},
    }


def _day(by_day: Mapping[tuple[str, str], Sums], day: str) -> dict[str, Any]:
    endpoints = {name: sums for (each, name), sums in sorted(by_day.items()) if each == day}
    own = {name: figures(sums) for name, sums in endpoints.items()}
    return {**figures(_added(endpoints.values())), "endpoints": own}


def _summed(
    book: Mapping[tuple[str, Item], int], subject: Subject, *, days: bool
) -> dict[tuple[str, str], defaultdict[str, int]]:
    """(day, or "" for all of them, name) -> sums."""
    found: dict[tuple[str, str], defaultdict[str, int]] = {}
    for (each, item), value in book.items():
        if item.subject == subject:
            found.setdefault((each if days else "", item.name), defaultdict(int))[item.field] += value
    return found


def _added(several: Iterable[Sums]) -> Sums:
    total: defaultdict[str, int] = defaultdict(int)
    for sums in several:
        for field, value in sums.items():
            total[field] += value
    return total
