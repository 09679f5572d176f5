"""What is told to Prometheus is what Prometheus' own parsers understand."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from prometheus_client import Metric, parser
from prometheus_client.openmetrics import parser as openmetrics_parser

from proxy.metrics import exposition, table
from proxy.metrics.table import Series

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
EVERYTHING: dict[Series, float] = {
    ("requests_total", "crate", "hit", "200"): 3,
    ("request_seconds", "crate", "hit", "0.001"): 2,
    ("request_seconds", "crate", "hit", "0.5"): 1,
    ("request_seconds", "crate", "hit", "sum"): 0.25,
    ("bytes_total", "served"): 12345678901,
    ("upstream_requests_total", "api", "000"): 1,
    ("upstream_seconds", "api", "20.0"): 1,
    ("upstream_seconds", "api", "sum"): 20.0,
    ("collapsed_total", "crate"): 1,
    ("upstream_budget",): 9,
    ("upstream_hold_seconds", "api"): 12.5,
    ("store_bytes", "json"): 4096,
    ("store_entries", "json"): 2,
    ("store_errors_total", "json"): 1,
    ("checksum_failures_total",): 1,
    ("evictions_total", "tarball"): 7,
}
PARSERS = {
    "": ("text/plain; version=0.0.4; charset=utf-8", parser.text_string_to_metric_families),
    OPENMETRICS: ("application/openmetrics-text", openmetrics_parser.text_string_to_metric_families),
}


def families(text: str, accept: str = "") -> dict[str, Metric]:
    found: Iterable[Metric] = PARSERS[accept][1](text)
    return {family.name: family for family in found}


@pytest.mark.parametrize("accept", PARSERS)
def test_every_metric_of_the_table_is_understood(accept: str) -> None:
    text, content_type = exposition.rendered(EVERYTHING, accept)
    assert content_type.startswith(PARSERS[accept][0])
    found = families(text.decode(), accept)
    assert set(found) == {table.PREFIX + row.name.removesuffix("_total") for row in table.TABLE}
    for row in table.TABLE:
        family = found[table.PREFIX + row.name.removesuffix("_total")]
        assert (family.type, family.documentation) == (row.kind.value, row.help)
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(row.labels)
    samples: dict[tuple[object, ...], float] = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in found.values()
        for sample in family.samples
    }
    labels = [("endpoint", "crate"), ("verdict", "hit")]
    name = "crates_proxy_request_seconds"
    assert samples["crates_proxy_bytes_total", ("direction", "served")] == 12345678901
    assert samples[(f"{name}_bucket", ("endpoint", "crate"), ("le", "0.25"), ("verdict", "hit"))] == 2
    assert samples[(f"{name}_bucket", ("endpoint", "crate"), ("le", "+Inf"), ("verdict", "hit"))] == 3
    assert samples[(f"{name}_count", *labels)] == 3
    assert samples[(f"{name}_sum", *labels)] == 0.25
    assert not [name for name, *_ in samples if str(name).endswith("_created")]


def test_what_alerts_wait_for_is_zero_before_it_happens_and_what_is_not_known_is_not_told() -> None:
    text, _ = exposition.rendered({}, "")
    values: dict[tuple[str, ...], float] = {
        (sample.name, *sample.labels.values()): sample.value
        for family in families(text.decode()).values()
        for sample in family.samples
    }
    stores = ("memory", "json", "index", "tarball")
    expected: dict[tuple[str, ...], float] = {
        **{("crates_proxy_bytes_total", direction): 0 for direction in ("served", "fetched")},
        **{("crates_proxy_upstream_hold_seconds", host): 0 for host in ("api", "index", "static")},
        **{("crates_proxy_store_errors_total", store): 0 for store in stores},
        **{("crates_proxy_evictions_total", store): 0 for store in stores},
        ("crates_proxy_checksum_failures_total",): 0,
        ("crates_proxy_renewals_total",): 0,
    }
    assert values == expected


def test_series_of_another_release_are_passed_over() -> None:
    strange: dict[Series, float] = {
        ("requests_total", "crate"): 1,
        ("request_seconds", "0.001"): 1,
        ("weather_total", "sun"): 1,
    }
    text = exposition.rendered(strange, "")[0].decode()
    assert "weather" not in text
    assert not [
        sample for family in families(text).values() for sample in family.samples if "crate" in sample.labels.values()
    ]


def test_bounds_are_written_as_prometheus_writes_them() -> None:
    assert table.bounds(table.REQUEST_SECONDS)[:3] == ("0.001", "0.0025", "0.005")
    assert table.bounds(table.UPSTREAM_SECONDS)[-3:] == ("20.0", "60.0", "+Inf")
