"""What one process counts, in plain integers. It knows no other process, no clock and no format.

A request costs one look into a dict and a few additions; names are made of it once a second, in `take`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from proxy.metrics import table
from proxy.metrics.savings import Field, Item, Subject
from proxy.metrics.table import Direction, Metric, Series
from proxy.model import Host, Verdict

NO_ANSWER = "000"
"""The status of a request upstream that was not answered."""

_COUNT, _BYTES, _SECONDS, _COLLAPSED, _COLLAPSED_BYTES, _BUCKETS = range(6)
_EMPTY = (0, 0, 0.0, 0, 0, *(0 for _ in table.bounds(table.REQUEST_SECONDS)))


@dataclass(frozen=True, slots=True)
class Taken:
    """What was counted since the last time: for the metrics, and for the book of savings."""

    counts: dict[Series, float]
    savings: dict[Item, int]


class Tally(Protocol):
    """Answers of one kind since the start, and the bytes of their bodies, counted by whoever gave them."""

    @property
    def requests(self) -> int: ...

    @property
    def bytes(self) -> int: ...


class Counters:
    def __init__(self) -> None:
        self._requests: dict[tuple[str, str, int, str], list[float]] = {}
        self._exchanges: dict[tuple[str, str], list[int]] = {}  # (host, status) -> buckets
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._asked: defaultdict[str, int] = defaultdict(int)
        self._fetched: defaultdict[str, int] = defaultdict(int)
        self._hits: list[Callable[[], Mapping[tuple[str, int], Tally]]] = []
        self._hits_seen: dict[tuple[int, str, int], tuple[int, int]] = {}
        self._standing: dict[Series, Callable[[], float]] = {}
        self._watched: dict[Series, list[Callable[[], int]]] = {}
        self._seen: dict[Series, int] = {}

    def hit(self, endpoint: str, status: int, size: int, client: str = "") -> None:
        """Count an answer from memory that took no time worth a look at the clock: it counts as the quickest.

        `size`: bytes of the body. `client`: its label, "" where no labels are set.
        """
        try:
            cell = self._requests[endpoint, "hit", status, client]
        except KeyError:
            cell = self._requests[endpoint, "hit", status, client] = [*_EMPTY]
        cell[0] += 1
        cell[1] += size

    def answered(
        self,
        endpoint: str,
        verdict: Verdict,
        status: int,
        *,
        size: int,
        seconds: float,
        client: str = "",
        collapsed: bool = False,
    ) -> None:
        """Count one answered request. `collapsed`: another one's request upstream answered it."""
        try:
            cell = self._requests[endpoint, verdict, status, client]
        except KeyError:
            cell = self._requests[endpoint, verdict.value, status, client] = [*_EMPTY]
        cell[_COUNT] += 1
        cell[_BYTES] += size
        cell[_SECONDS] += seconds
        if collapsed:
            cell[_COLLAPSED] += 1
            cell[_COLLAPSED_BYTES] += size
        cell[_BUCKETS + bisect_left(table.REQUEST_SECONDS.bounds, seconds)] += 1

    def asked(self, host: Host, endpoint: str, status: int | None, seconds: float) -> None:
        """Count one request upstream, on behalf of a row, "" for the proxy's own; `status` None where no answer
        came."""
        key = host.value, NO_ANSWER if status is None else f"{status:03}"
        buckets = self._exchanges.get(key)
        if buckets is None:
            buckets = self._exchanges[key] = [0 for _ in table.bounds(table.UPSTREAM_SECONDS)]
        buckets[bisect_left(table.UPSTREAM_SECONDS.bounds, seconds)] += 1
        self._seconds[host.value] += seconds
        self._asked[endpoint] += 1

    def fetched(self, endpoint: str, size: int) -> None:
        """Count bytes of a body that upstream sent."""
        self._fetched[endpoint] += size

    def adopt(self, hits: Callable[[], Mapping[tuple[str, int], Tally]]) -> None:
        """Count as `hit` does what another part counts by itself; `hits` gives its tallies, by endpoint and status,
        which only rise."""
        self._hits.append(hits)

    def watch(self, metric: Metric, labels: tuple[str, ...], read: Callable[[], int]) -> None:
        """Count what a part counts by itself: `read` gives its own count, which only rises. Several may add up to
        one series."""
        self._watched.setdefault((metric.name, *labels), []).append(read)

    def stand(self, name: str, label: str, read: Callable[[], float]) -> None:
        """Have told how high something stands in this process, which is summed up over those that are there."""
        self._standing[name, label] = read

    def levels(self) -> dict[Series, float]:
        """What stands, and how high."""
        return {series: float(read()) for series, read in self._standing.items()}

    def take(self) -> Taken:
        """Everything counted since the last time."""
        counts: defaultdict[Series, float] = defaultdict(int)
        savings: defaultdict[Item, int] = defaultdict(int)
        self._take_adopted()
        requests, self._requests = self._requests, {}
        for key, cell in requests.items():
            _told(counts, key, cell)
            _booked(savings, key, cell)
        self._take_upstream(counts, savings)
        for series, reads in self._watched.items():
            now = sum(read() for read in reads)
            if now != self._seen.get(series, 0):
                counts[series] += now - self._seen.get(series, 0)
                self._seen[series] = now
        return Taken(dict(counts), dict(savings))

    def _take_adopted(self) -> None:
        for place, hits in enumerate(self._hits):
            for (endpoint, status), tally in hits().items():
                requests, size = self._hits_seen.get((place, endpoint, status), (0, 0))
                if tally.requests != requests:
                    self.hit(endpoint, status, 0)  # makes the cell
                    cell = self._requests[endpoint, "hit", status, ""]
                    cell[_COUNT] += tally.requests - requests - 1
                    cell[_BYTES] += tally.bytes - size
                    self._hits_seen[place, endpoint, status] = tally.requests, tally.bytes

    def _take_upstream(self, counts: dict[Series, float], savings: dict[Item, int]) -> None:
        for (host, status), buckets in self._exchanges.items():
            counts[table.UPSTREAM_REQUESTS.name, host, status] += sum(buckets)
            for bound, count in zip(table.bounds(table.UPSTREAM_SECONDS), buckets, strict=True):
                if count:
                    counts[table.UPSTREAM_SECONDS.name, host, bound] += count
        for host, seconds in self._seconds.items():
            counts[table.UPSTREAM_SECONDS.name, host, table.SUM] += seconds
        for endpoint, count in self._asked.items():
            if not endpoint:
                continue  # what the proxy asks for itself is in no row's book
            savings[Item(Subject.ENDPOINT, endpoint, Field.ASKED)] += count
        for endpoint, size in self._fetched.items():
            counts[table.BYTES.name, Direction.FETCHED.value] += size
            if endpoint:
                savings[Item(Subject.ENDPOINT, endpoint, Field.FETCHED)] += size
        for taken in (self._exchanges, self._seconds, self._asked, self._fetched):
            taken.clear()


def _told(counts: dict[Series, float], key: tuple[str, str, int, str], cell: list[float]) -> None:
    endpoint, verdict, status, _ = key
    counts[table.REQUESTS.name, endpoint, str(verdict), f"{status:03}"] += cell[_COUNT]
    counts[table.BYTES.name, Direction.SERVED.value] += cell[_BYTES]
    if cell[_COLLAPSED]:
        counts[table.COLLAPSED.name, endpoint] += cell[_COLLAPSED]
    buckets = cell[_BUCKETS:]
    buckets[0] += cell[_COUNT] - sum(buckets)  # those of `hit`
    for bound, count in zip(table.bounds(table.REQUEST_SECONDS), buckets, strict=True):
        if count:
            counts[table.REQUEST_SECONDS.name, endpoint, str(verdict), bound] += count
    counts[table.REQUEST_SECONDS.name, endpoint, str(verdict), table.SUM] += cell[_SECONDS]


def _booked(savings: dict[Item, int], key: tuple[str, str, int, str], cell: list[float]) -> None:
    endpoint, verdict, status, client = key
    count, size = int(cell[_COUNT]), int(cell[_BYTES])
    answered = status < 500 and status != 429
    savings[Item(Subject.ENDPOINT, endpoint, Field(verdict))] += count
    savings[Item(Subject.ENDPOINT, endpoint, Field.SERVED)] += size
    if answered:
        savings[Item(Subject.ENDPOINT, endpoint, Field.ANSWERED)] += count
    if not client:
        return
    savings[Item(Subject.CLIENT, client, Field(verdict))] += count
    savings[Item(Subject.CLIENT, client, Field.SERVED)] += size
    if not answered:
        return
    from_store = verdict in (Verdict.HIT, Verdict.STALE)
    spared = count if from_store else int(cell[_COLLAPSED])
    spared_bytes = size if from_store or verdict == Verdict.REVALIDATED else int(cell[_COLLAPSED_BYTES])
    savings[Item(Subject.CLIENT, client, Field.SPARED)] += spared
    savings[Item(Subject.CLIENT, client, Field.SPARED_BYTES)] += spared_bytes
