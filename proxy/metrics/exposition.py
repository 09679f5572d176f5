"""Counts and states as Prometheus reads them. The only module that knows prometheus_client.

It is given sums and knows nothing of where they come from: no registry lives longer than one answer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from proxy.metrics import table
from proxy.metrics.table import Kind, Metric, Series


def rendered(values: Mapping[Series, float], accept: str) -> tuple[bytes, str]:
    """All metrics in the text format, or OpenMetrics where `accept` asks for it; and the content type.

    A metric of which `values` holds nothing, and that has no series from the start, is left out: what is not known is
    not told as 0. It takes milliseconds where there are thousands of series.
    """
    registry = CollectorRegistry()
    registry.register(_Collector(values))
    try:
        encoder, content_type = choose_encoder(accept)
    except (TypeError, ValueError):  # a version that is none
        encoder, content_type = choose_encoder("")
    return encoder(registry), content_type


class _Collector(Collector):
    def __init__(self, values: Mapping[Series, float]) -> None:
        self._rows: defaultdict[str, dict[tuple[str, ...], float]] = defaultdict(dict)
        for (name, *labels), value in values.items():
            self._rows[name][tuple(labels)] = value

    def describe(self) -> Iterable[Family]:
        """Nothing: names need no check against those of other collectors, of which there are none."""
        return ()

    def collect(self) -> Iterator[Family]:
        for row in table.TABLE:
            found = {labels: 0.0 for labels in row.starts} | self._rows[row.name]
            if found:
                yield _family(row, found)


def _family(row: Metric, found: Mapping[tuple[str, ...], float]) -> Family:
    name = table.PREFIX + row.name
    if row.kind is Kind.HISTOGRAM:
        return _histogram(row, name, found)
    family: CounterMetricFamily | GaugeMetricFamily
    family = (CounterMetricFamily if row.kind is Kind.COUNTER else GaugeMetricFamily)(name, row.help, labels=row.labels)
    for labels, value in sorted(found.items()):
        if len(labels) == len(row.labels):  # else it is of a worker of another release
            family.add_metric(labels, value)
    return family


def _histogram(row: Metric, name: str, found: Mapping[tuple[str, ...], float]) -> HistogramMetricFamily:
    family = HistogramMetricFamily(name, row.help, labels=row.labels)
    for labels in sorted({labels[:-1] for labels in found if len(labels) == len(row.labels) + 1}):
        count, buckets = 0.0, []
        for bound in table.bounds(row):
            count += found.get((*labels, bound), 0)
            buckets.append((bound, count))
        family.add_metric(labels, buckets, found.get((*labels, table.SUM), 0.0))
    return family
