"""From what is counted to what the overview shows. Pure: sums in, rows in the order in which people read them out."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

from proxy.metrics import slots, table
from proxy.metrics.incidents import Incident
from proxy.metrics.lately import Record
from proxy.metrics.savings import Field
from proxy.metrics.slots import Sums
from proxy.metrics.table import Series
from proxy.model import Health, Host, State
from proxy.rules import advice, names

TOP = 12
"""Crates that are shown; and rows of what is slow or fails."""
NOW_SECONDS = 300
"""What happens now is the mean of the last five minutes."""

_CACHED = (Field.HIT, Field.STALE, Field.REVALIDATED, Field.MISS)


@dataclass(frozen=True, slots=True)
class Now:
    """A second, over the last minutes; `ratio` None where nothing was asked that can be cached."""

    requests: float
    served: float
    fetched: float
    asked: float
    ratio: float | None


@dataclass(frozen=True, slots=True)
class Slow:
    """Seconds that answers of an endpoint took: half of them and 95 in a hundred less, since the server started."""

    endpoint: str
    requests: int
    median: float
    p95: float


@dataclass(frozen=True, slots=True)
class Failing:
    """Answers of an endpoint that told an error of this proxy or upstream (429, 5xx), since the server started."""

    endpoint: str
    failed: int
    requests: int
    statuses: Sequence[tuple[str, int]]


@dataclass(frozen=True, slots=True)
class Asked:
    crate: str
    requests: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Trouble:
    incident: Incident
    advice: str


@dataclass(frozen=True, slots=True)
class Shelf:
    """What is stored in one place. `max_bytes` None where there is no bound of its own."""

    store: str
    entries: int | None
    bytes: int | None
    max_bytes: int | None


def group(healths: Sequence[Health], failing: Mapping[Host, int]) -> list[Health]:
    """How the components are for all workers: a host is not well that fails for another one than the one asked."""
    found = []
    for health in healths:
        host = next((host for host in failing if health.name == f"upstream {host.value}"), None)
        if host is not None and health.state is State.OK:
            workers = "another worker" if failing[host] == 1 else f"{failing[host]} other workers"
            health = replace(health, state=State.DEGRADED, detail=f"it failed when {workers} asked it last")
        found.append(health)
    return found


def now(record: Record, at: float) -> Now:
    recent = [(begun, sums) for begun, sums in record.minutes if begun > at - NOW_SECONDS]
    seconds = max(1.0, at - recent[0][0]) if recent else 1.0
    total = _total(sums for _, sums in recent)
    return Now(
        requests=sum(total.get(field, 0) for field in (*_CACHED, Field.PASS)) / seconds,
        served=total.get(Field.SERVED, 0) / seconds,
        fetched=total.get(Field.FETCHED, 0) / seconds,
        asked=total.get(Field.ASKED, 0) / seconds,
        ratio=ratio(total),
    )


def ratio(sums: Mapping[str, int]) -> float | None:
    """The share of what can be cached that was answered without asking upstream first; None of nothing."""
    cached = sum(sums.get(field, 0) for field in _CACHED)
    return (sums.get(Field.HIT, 0) + sums.get(Field.STALE, 0)) / cached if cached else None


def endpoints(stats: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """What was saved by endpoint, the most asked for first."""
    return sorted(stats["endpoints"].items(), key=lambda row: (-sum(row[1]["requests"].values()), row[0]))


def clients(stats: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return sorted(stats["clients"].items(), key=lambda row: (-row[1]["bytes"]["served"], row[0]))


def slow(values: Mapping[Series, float]) -> list[Slow]:
    """The slowest first."""
    found: defaultdict[str, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
    for series, value in values.items():
        if series[0] == table.REQUEST_SECONDS.name and series[-1] != table.SUM:
            found[series[1]][series[-1]] += value
    bounds = table.bounds(table.REQUEST_SECONDS)
    rows = []
    for endpoint, buckets in found.items():
        counts = [buckets[bound] for bound in bounds]
        rows.append(Slow(endpoint, int(sum(counts)), quantile(counts, 0.5), quantile(counts, 0.95)))
    return sorted(rows, key=lambda row: (-row.p95, -row.median, row.endpoint))[:TOP]


def quantile(counts: Sequence[float], share: float) -> float:
    """From the counts in the buckets of a request's seconds, in between as Prometheus does it; 0 of nothing."""
    bounds = table.REQUEST_SECONDS.bounds
    sums = list(accumulate(counts))
    if not sums or not sums[-1]:
        return 0.0
    place = bisect_left(sums, share * sums[-1])
    if place >= len(bounds):
        return bounds[-1]
    lower, before = (bounds[place - 1], sums[place - 1]) if place else (0.0, 0.0)
    return lower + (bounds[place] - lower) * (share * sums[-1] - before) / counts[place]


def failing(values: Mapping[Series, float]) -> list[Failing]:
    """Those that fail most first."""
    requests: defaultdict[str, int] = defaultdict(int)
    failed: defaultdict[str, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
    for series, value in values.items():
        if series[0] == table.REQUESTS.name:
            _, endpoint, _, status = series
            requests[endpoint] += int(value)
            if status == "429" or status >= "500":
                failed[endpoint][status] += int(value)
    rows = [
        Failing(endpoint, sum(by_status.values()), requests[endpoint], sorted(by_status.items()))
        for endpoint, by_status in failed.items()
    ]
    return sorted(rows, key=lambda row: (-row.failed, row.endpoint))[:TOP]


def top(record: Record) -> list[Asked]:
    """The crates asked for most. Spellings of one crate count together, under the one that is used most."""
    spelt: defaultdict[str, dict[str, dict[str, int]]] = defaultdict(dict)
    for name, sums in record.crates.items():
        spelt[names.folded(name)][name] = sums
    rows = []
    for spellings in spelt.values():
        usual = max(spellings, key=lambda name: spellings[name].get(slots.REQUESTS, 0))
        total = _total([spellings])
        rows.append(Asked(usual, total.get(slots.REQUESTS, 0), total.get(slots.BYTES, 0)))
    return sorted(rows, key=lambda row: (-row.requests, row.crate))[:TOP]


def troubles(record: Record) -> list[Trouble]:
    """The last first, each with what to do. What a client was told need not be said by the component, too."""
    told = [each.detail for each in record.incidents if each.kind]
    return [
        Trouble(each, advice.of_error(each.kind, each.status) if each.kind else advice.of_component(each.where))
        for each in record.incidents
        if each.kind or not any(each.detail.endswith(detail) for detail in told)
    ]


def shelves(stats: Mapping[str, Any]) -> list[Shelf]:
    return [Shelf(**row) for row in stats["stores"]]


def full(stored: Sequence[Shelf], max_size: int) -> tuple[int, int]:
    """Bytes of all that share `cache.max_size`, and that."""
    shared = [each for each in stored if each.store != table.StoreName.MEMORY and each.max_bytes == max_size]
    return sum(each.bytes or 0 for each in shared), max_size


def _total(several: Any) -> dict[str, int]:
    """Over all slots and names."""
    total: defaultdict[str, int] = defaultdict(int)
    for sums in several:
        for fields in sums.values():
            for field, value in fields.items():
                total[field] += value
    return total


def history(record: Record, stats: Mapping[str, Any], span: str) -> dict[str, Any]:
    """The hit ratio over time, of all and of the endpoints that were asked most: columns, None where nothing was."""
    if span == "month":
        lines = [(day, _of_day(figures)) for day, figures in stats["days"].items()]
        times = [slots.day_begun(day) for day, _ in lines]
    else:
        family = record.hours if span == "hours" else record.days
        times, lines = [begun for begun, _ in family], [("", sums) for _, sums in family]
    asked: defaultdict[str, int] = defaultdict(int)
    for _, sums in lines:
        for name, fields in sums.items():
            asked[name] += sum(fields.get(field, 0) for field in _CACHED)
    chosen = sorted((name for name in asked if asked[name]), key=lambda name: (-asked[name], name))[:5]
    columns = {"all": [ratio(_total([sums])) for _, sums in lines]}
    columns |= {name: [ratio(sums.get(name, {})) for _, sums in lines] for name in chosen}
    requests = [sum(_total([sums]).get(field, 0) for field in (*_CACHED, Field.PASS)) for _, sums in lines]
    return {
        "times": times,
        "requests": requests,
        "series": [{"name": name, "ratios": values} for name, values in columns.items()],
    }


def _of_day(figures: Mapping[str, Any]) -> Sums:
    return {name: dict(each["requests"]) for name, each in figures["endpoints"].items()}
