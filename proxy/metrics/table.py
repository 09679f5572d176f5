"""THE TABLE of metrics: one row each, with its labels and what it tells. It counts nothing and renders nothing.

A series is a metric's name and the values of its labels, in the order of the row. A histogram has a series for each
bucket (the last part is its upper bound, each observation in one bucket only) and one whose last part is `sum`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from proxy.model import Host

Series = tuple[str, ...]

PREFIX = "crates_proxy_"
SUM, INFINITE = "sum", "+Inf"


class Kind(StrEnum):
    COUNTER = "counter"
    HISTOGRAM = "histogram"
    GAUGE = "gauge"


class StoreName(StrEnum):
    """The values of the label `store`."""

    MEMORY = "memory"
    JSON = "json"
    INDEX = "index"
    TARBALL = "tarball"


class Direction(StrEnum):
    """The values of the label `direction`: to clients, and from upstream."""

    SERVED = "served"
    FETCHED = "fetched"


@dataclass(frozen=True, slots=True)
class Metric:
    """One row. `starts`: label values that are told as 0 from the start, so that their first event is a rise;
    alerts could not see it otherwise. `bounds`: upper bounds of the buckets, in seconds."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str
    starts: tuple[tuple[str, ...], ...] = ()
    bounds: tuple[float, ...] = ()


# A hit takes a fraction of a millisecond; cargo gives up after 30 s.
_REQUEST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0)
# A round trip to a CDN, up to the time that crates.io takes to give up itself.
_UPSTREAM = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 60.0)

_STORES = tuple((store.value,) for store in StoreName)
_HOSTS = tuple((host.value,) for host in Host)

REQUESTS = Metric("requests_total", Kind.COUNTER, ("endpoint", "verdict", "status"), "Requests answered.")
REQUEST_SECONDS = Metric(
    "request_seconds",
    Kind.HISTOGRAM,
    ("endpoint", "verdict"),
    "Seconds from a request's head to the last byte of its answer handed to the kernel or its buffer.",
    bounds=_REQUEST,
)
BYTES = Metric(
    "bytes_total",
    Kind.COUNTER,
    ("direction",),
    "Bytes of bodies, as they travel: served to clients, fetched from upstream.",
    starts=tuple((direction.value,) for direction in Direction),
)
UPSTREAM_REQUESTS = Metric(
    "upstream_requests_total",
    Kind.COUNTER,
    ("host", "status"),
    "Requests sent upstream; the status is 000 where no answer came.",
)
UPSTREAM_SECONDS = Metric(
    "upstream_seconds",
    Kind.HISTOGRAM,
    ("host",),
    "Seconds until upstream began to answer, or failed to.",
    bounds=_UPSTREAM,
)
COLLAPSED = Metric(
    "collapsed_total", Kind.COUNTER, ("endpoint",), "Requests that were answered by another one's request upstream."
)
BUDGET = Metric("upstream_budget", Kind.GAUGE, (), "Requests that could go to crates.io's web API now.")
HOLD = Metric(
    "upstream_hold_seconds",
    Kind.GAUGE,
    ("host",),
    "Seconds for which nothing is sent to this host because it asked for that or failed; 0 for none.",
    starts=_HOSTS,
)
STORE_BYTES = Metric("store_bytes", Kind.GAUGE, ("store",), "Bytes stored; memory: all workers together.")
STORE_ENTRIES = Metric("store_entries", Kind.GAUGE, ("store",), "Objects stored; memory: all workers together.")
STORE_ERRORS = Metric(
    "store_errors_total", Kind.COUNTER, ("store",), "Attempts at a store that its medium failed.", starts=_STORES
)
CHECKSUM_FAILURES = Metric(
    "checksum_failures_total",
    Kind.COUNTER,
    (),
    "Tarballs, fetched or stored, whose bytes were not those of their checksum. None was served as a whole.",
    starts=((),),
)
RENEWALS = Metric(
    "renewals_total",
    Kind.COUNTER,
    (),
    "Answers of the web API that an unchanged index file renewed, so that the API was not asked.",
    starts=((),),
)
EVICTIONS = Metric(
    "evictions_total", Kind.COUNTER, ("store",), "Objects dropped to make room for others.", starts=_STORES
)

TABLE = (
    REQUESTS,
    REQUEST_SECONDS,
    BYTES,
    UPSTREAM_REQUESTS,
    UPSTREAM_SECONDS,
    COLLAPSED,
    BUDGET,
    HOLD,
    STORE_BYTES,
    STORE_ENTRIES,
    STORE_ERRORS,
    CHECKSUM_FAILURES,
    RENEWALS,
    EVICTIONS,
)
BY_NAME = {row.name: row for row in TABLE}


def bounds(row: Metric) -> tuple[str, ...]:
    """The label `le` of each bucket, as Prometheus writes it."""
    return (*(f"{bound:g}" if bound < 1 else str(bound) for bound in row.bounds), INFINITE)
