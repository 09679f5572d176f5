from __future__ import annotations

import math
from typing import Any

import pytest

from proxy.metrics.incidents import Incident
from proxy.metrics.lately import Record
from proxy.metrics.savings import Field, Item, Subject, report
from proxy.model import Health, Host, State
from proxy.web.dashboard import figures, shown

DAY = 86400


def stats(**days: dict[str, tuple[int, int]]) -> dict[str, Any]:
    """(day, endpoint) -> hits and misses."""
    book = {}
    for day, endpoints in days.items():
        for name, (hits, misses) in endpoints.items():
            book[day.replace("_", "-")[1:], Item(Subject.ENDPOINT, name, Field.HIT)] = hits
            book[day.replace("_", "-")[1:], Item(Subject.ENDPOINT, name, Field.MISS)] = misses
    return report(1.0, book)


def seconds(endpoint: str, **buckets: int) -> dict[tuple[str, ...], float]:
    return {
        ("request_seconds", endpoint, "hit", bound.removeprefix("le_").replace("_", ".")): count
        for bound, count in buckets.items()
    }


@pytest.mark.parametrize(
    ("counts", "share", "expected"),
    [
        ([0] * 15, 0.5, 0.0),
        ([10] + [0] * 14, 0.5, 0.0005),
        ([10, 10] + [0] * 13, 0.5, 0.001),
        ([10, 10] + [0] * 13, 0.75, 0.00175),
        ([0] * 14 + [1], 0.95, 25.0),
    ],
)
def test_a_quantile_is_in_between_as_prometheus_puts_it(counts: list[int], share: float, expected: float) -> None:
    assert math.isclose(figures.quantile(counts, share), expected)


def test_the_slowest_endpoints_come_first_over_all_verdicts() -> None:
    values = (
        seconds("index", le_0_001=99, le_0_5=1)
        | seconds("crate", le_2_5=10)
        | {
            ("request_seconds", "index", "miss", "1.0"): 9.0,
            ("request_seconds", "index", "miss", "sum"): 900.0,
            ("requests_total", "index", "hit", "200"): 109.0,
        }
    )
    rows = figures.slow(values)
    assert [(row.endpoint, row.requests) for row in rows] == [("crate", 10), ("index", 109)]
    assert rows[1].median < 0.001 and 0.5 < rows[1].p95 <= 1.0


def test_what_fails_is_429_and_5xx() -> None:
    values: dict[tuple[str, ...], float] = {
        ("requests_total", "index", "miss", "502"): 2,
        ("requests_total", "index", "miss", "504"): 3,
        ("requests_total", "index", "hit", "200"): 95,
        ("requests_total", "crate", "miss", "429"): 9,
        ("requests_total", "owners", "miss", "404"): 7,
    }
    assert [(row.endpoint, row.failed, row.requests, row.statuses) for row in figures.failing(values)] == [
        ("crate", 9, 9, [("429", 9)]),
        ("index", 5, 100, [("502", 2), ("504", 3)]),
    ]


def test_now_is_the_mean_of_the_last_minutes() -> None:
    busy = {"index": {"hit": 90, "miss": 10, "served": 1000, "fetched": 100, "asked": 10}}
    passed = {"private": {"pass": 50, "served": 500}}
    record = Record(minutes=[(0, busy), (540, busy), (600, {}), (660, busy), (720, passed), (780, busy)])
    now = figures.now(record, 810.0)
    assert (now.requests, now.served, now.asked) == (350 / 270, 3500 / 270, 30 / 270)
    assert now.ratio == 0.9
    assert figures.now(Record(), 810.0).ratio is None


def test_spellings_of_one_crate_count_together() -> None:
    crates = {
        "serde_json": {"requests": 10, "bytes": 100},
        "serde-json": {"requests": 1, "bytes": 5},
        "serde": {"requests": 10},
        "toml": {"requests": 5},
    }
    rows = figures.top(Record(crates=crates))
    assert [(row.crate, row.requests, row.bytes) for row in rows] == [
        ("serde_json", 11, 105),
        ("serde", 10, 0),
        ("toml", 5, 0),
    ]


def test_a_trouble_is_told_once_and_says_what_to_do() -> None:
    record = Record(
        incidents=[
            Incident("index", "Late", 504, "/se/rd/serde was late", 1.0, 2.0),
            Incident("index host", "", 0, "index serde: /se/rd/serde was late", 1.0, 2.0),
            Incident("redis", "", 0, "reaching the server: refused", 1.0, 2.0),
        ]
    )
    told = figures.troubles(record)
    assert [each.incident.where for each in told] == ["index", "redis"]
    assert "doctor" in told[0].advice and "reachable" in told[1].advice


def test_a_host_that_fails_for_another_worker_is_not_well() -> None:
    healths = [Health("upstream api", State.OK), Health("upstream index", State.DEGRADED, "it was late")]
    found = figures.group([*healths, Health("index", State.OK)], {Host.API: 2, Host.INDEX: 1})
    assert [(each.state, each.detail) for each in found] == [
        (State.DEGRADED, "it failed when 2 other workers asked it last"),
        (State.DEGRADED, "it was late"),
        (State.OK, ""),
    ]


@pytest.mark.parametrize("span", ["hours", "days"])
def test_the_history_has_a_column_for_all_and_for_those_asked_most(span: str) -> None:
    many = {f"endpoint-{number}": {"hit": number} for number in range(9)}
    line = [(0, {"index": {"hit": 3, "miss": 1}}), (300, {}), (600, {**many, "private": {"pass": 5}})]
    record = Record(hours=line) if span == "hours" else Record(days=line)
    found = figures.history(record, stats(), span)
    assert found["times"] == [0, 300, 600]
    assert found["requests"] == [4, 0, 41]
    assert found["series"][0] == {"name": "all", "ratios": [0.75, None, 1.0]}
    assert [each["name"] for each in found["series"][1:]] == [f"endpoint-{number}" for number in (8, 7, 6, 5)] + [
        "endpoint-4"
    ]
    for each in found["series"]:
        assert len(each["ratios"]) == 3


def test_the_history_of_a_month_is_the_book_of_savings() -> None:
    found = figures.history(Record(), stats(_2023_11_14={"index": (3, 1)}, _2023_11_15={"crate": (0, 2)}), "month")
    assert found["times"] == [1_699_920_000, 1_699_920_000 + DAY]
    assert found["series"] == [
        {"name": "all", "ratios": [0.75, 0.0]},
        {"name": "index", "ratios": [0.75, None]},
        {"name": "crate", "ratios": [None, 0.0]},
    ]


@pytest.mark.parametrize(
    ("function", "value", "expected"),
    [
        (shown.size, None, "–"),
        (shown.size, 0, "0 B"),
        (shown.size, 1023, "1,023 B"),
        (shown.size, 1536, "1.5 KiB"),
        (shown.size, -5 * 2**20, "-5.0 MiB"),
        (shown.size, 250 * 2**30, "250 GiB"),
        (shown.size, 3 * 2**60, "3,072 PiB"),
        (shown.number, 1234567, "1,234,567"),
        (shown.number, None, "–"),
        (shown.rate, 0, "0/s"),
        (shown.rate, 0.5, "30/min"),
        (shown.rate, 1234.5, "1,234/s"),
        (shown.share, None, "–"),
        (shown.share, 0.0, "0 %"),
        (shown.share, 1.0, "100 %"),
        (shown.share, 0.99999, "> 99.9 %"),
        (shown.share, 0.00001, "< 0.1 %"),
        (shown.share, 0.4567, "45.7 %"),
        (shown.duration, math.inf, "for ever"),
        (shown.duration, 0.2, "0 s"),
        (shown.duration, 59.9, "59 s"),
        (shown.duration, 61, "1 min"),
        (shown.duration, 3600 + 1800, "1 h 30 min"),
        (shown.duration, 2 * 86400, "2 d"),
        (shown.duration, 29.9 * 86400, "29 d"),
        (shown.ago, 1.0, "just now"),
        (shown.ago, 200.0, "3 min ago"),
        (shown.latency, 0.0004, "< 1 ms"),
        (shown.latency, 0.25, "250 ms"),
        (shown.latency, 2.51, "2.5 s"),
        (shown.date, None, ""),
        (shown.date, "2026-11-03T10:00:00Z", "3 Nov 2026"),
        (shown.moment, 1_700_000_000.0, "2023-11-14 22:13:20 UTC"),
        (shown.coded, "run `<x>` & <b>", "run <code>&lt;x&gt;</code> &amp; &lt;b&gt;"),
        (shown.coded, "one ` alone <b>", "one ` alone &lt;b&gt;"),
        (shown.breakable, "a_<b>_c", "a_<wbr>&lt;b&gt;_<wbr>c"),
    ],
)
def test_figures_as_people_read_them(function: Any, value: Any, expected: str) -> None:
    assert function(value) == expected
