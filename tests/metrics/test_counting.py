from __future__ import annotations

import math
from dataclasses import dataclass

import pytest

from proxy.metrics import table
from proxy.metrics.counting import Counters
from proxy.metrics.savings import Field, Item, Subject
from proxy.model import Host, Verdict


def of(metric: table.Metric, counts: dict[table.Series, float]) -> dict[tuple[str, ...], float]:
    return {labels: value for (name, *rest), value in counts.items() if name == metric.name for labels in [tuple(rest)]}


def test_a_request_is_counted_by_endpoint_verdict_and_status_with_its_bytes_and_its_time() -> None:
    counters = Counters()
    for seconds in (0.0004, 0.001, 0.3):
        counters.answered("crate", Verdict.MISS, 200, size=10, seconds=seconds)
    counters.answered("crate", Verdict.PASS, 99, size=0, seconds=100.0)
    counts = counters.take().counts
    assert of(table.REQUESTS, counts) == {("crate", "miss", "200"): 3, ("crate", "pass", "099"): 1}
    assert of(table.BYTES, counts) == {("served",): 30}
    times = of(table.REQUEST_SECONDS, counts)
    assert math.isclose(times.pop(("crate", "miss", "sum")), 0.3014)
    assert times == {
        ("crate", "miss", "0.001"): 2,  # an upper bound is part of its bucket
        ("crate", "miss", "0.5"): 1,
        ("crate", "pass", "+Inf"): 1,
        ("crate", "pass", "sum"): 100.0,
    }


def test_a_hit_without_a_clock_counts_as_the_quickest() -> None:
    counters = Counters()
    counters.hit("index", 200, 7)
    counters.hit("index", 200, 7)
    counters.answered("index", Verdict.HIT, 200, size=7, seconds=0.04)
    counts = counters.take().counts
    assert of(table.REQUESTS, counts) == {("index", "hit", "200"): 3}
    assert of(table.BYTES, counts) == {("served",): 21}
    assert of(table.REQUEST_SECONDS, counts) == {
        ("index", "hit", "0.001"): 2,
        ("index", "hit", "0.05"): 1,
        ("index", "hit", "sum"): 0.04,
    }


@dataclass
class Tally:
    requests: int = 0
    bytes: int = 0


def test_hits_that_another_part_counts_are_taken_over_as_they_rise() -> None:
    counters, hits = Counters(), {("index", 200): Tally(3, 30), ("index", 304): Tally()}
    counters.adopt(lambda: hits)
    counters.hit("index", 200, 10)
    counts = counters.take().counts
    assert of(table.REQUESTS, counts) == {("index", "hit", "200"): 4}
    assert of(table.BYTES, counts) == {("served",): 40}
    assert of(table.REQUEST_SECONDS, counts) == {("index", "hit", "0.001"): 4, ("index", "hit", "sum"): 0.0}
    assert counters.take().counts == {}
    hits["index", 304].requests += 2
    taken = counters.take()
    assert of(table.REQUESTS, taken.counts) == {("index", "hit", "304"): 2}
    assert taken.savings[Item(Subject.ENDPOINT, "index", Field.ANSWERED)] == 2


def test_requests_upstream_are_counted_by_host_and_status_and_those_without_an_answer_too() -> None:
    counters = Counters()
    counters.asked(Host.API, "crate", 200, 0.2)
    counters.asked(Host.API, "crate", None, 5.0)
    counters.asked(Host.STATIC, "download", 200, 0.2)
    counters.fetched("download", 1000)
    counters.fetched("download", 24)
    taken = counters.take()
    assert of(table.UPSTREAM_REQUESTS, taken.counts) == {
        ("api", "200"): 1,
        ("api", "000"): 1,
        ("static", "200"): 1,
    }
    assert of(table.UPSTREAM_SECONDS, taken.counts)["api", "sum"] == 5.2
    assert of(table.BYTES, taken.counts) == {("fetched",): 1024}
    assert taken.savings == {
        Item(Subject.ENDPOINT, "crate", Field.ASKED): 2,
        Item(Subject.ENDPOINT, "download", Field.ASKED): 1,
        Item(Subject.ENDPOINT, "download", Field.FETCHED): 1024,
    }


def test_what_was_taken_is_not_taken_again() -> None:
    counters = Counters()
    counters.hit("index", 200, 1)
    counters.asked(Host.INDEX, "index", 304, 0.1)
    counters.fetched("index", 1)
    assert counters.take().counts
    assert counters.take() == Counters().take()


def test_what_a_part_counts_by_itself_is_told_as_it_rises() -> None:
    counters, faults = Counters(), [2, 1]
    for place in range(2):
        counters.watch(table.STORE_ERRORS, ("json",), lambda place=place: faults[place])  # type: ignore[misc]
    assert counters.take().counts == {("store_errors_total", "json"): 3}
    assert counters.take().counts == {}
    faults[0] = 4
    assert counters.take().counts == {("store_errors_total", "json"): 2}


@pytest.mark.parametrize(
    ("verdict", "status", "collapsed", "answered", "spared", "spared_bytes"),
    [
        (Verdict.HIT, 200, False, 1, 1, 10),
        (Verdict.STALE, 200, False, 1, 1, 10),
        (Verdict.REVALIDATED, 200, False, 1, 0, 10),  # it was asked for, and only its body was spared
        (Verdict.MISS, 200, False, 1, 0, 0),
        (Verdict.MISS, 200, True, 1, 1, 10),
        (Verdict.PASS, 404, False, 1, 0, 0),
        (Verdict.MISS, 429, False, 0, 0, 0),  # nobody was spared anything by a refusal
        (Verdict.MISS, 504, True, 0, 0, 0),
    ],
)
def test_a_client_is_spared_what_its_requests_did_not_cause(
    verdict: Verdict, status: int, collapsed: bool, answered: int, spared: int, spared_bytes: int
) -> None:
    counters = Counters()
    counters.answered("crate", verdict, status, size=10, seconds=0.0, client="ci", collapsed=collapsed)
    taken = counters.take()
    assert taken.savings.get(Item(Subject.ENDPOINT, "crate", Field.ANSWERED), 0) == answered
    mine = {item.field: value for item, value in taken.savings.items() if item.subject is Subject.CLIENT}
    assert mine[Field(verdict.value)] == 1
    assert (mine.get(Field.SPARED, 0), mine.get(Field.SPARED_BYTES, 0)) == (spared, spared_bytes)
    assert of(table.COLLAPSED, taken.counts) == ({("crate",): 1} if collapsed else {})


def test_without_labels_no_client_is_booked() -> None:
    counters = Counters()
    counters.hit("index", 200, 1)
    assert {item.subject for item in counters.take().savings} == {Subject.ENDPOINT}


def test_what_the_proxy_asks_for_itself_is_counted_but_in_no_rows_book() -> None:
    counters = Counters()
    counters.asked(Host.STATIC, "", 200, 0.2)
    counters.fetched("", 100)
    taken = counters.take()
    assert of(table.UPSTREAM_REQUESTS, taken.counts) == {("static", "200"): 1}
    assert of(table.BYTES, taken.counts) == {("fetched",): 100}
    assert taken.savings == {}
