"""What is made of samples: ratios of rounds, and whether targets hold."""

from __future__ import annotations

from tests.bench.samples import Sample, middle, ratio, saving
from tests.bench.stage import EMPTY, NGINX, OURS, TUNED
from tests.bench.targets import TARGETS, Figure, judged


def sample(value: float, micros: float = 10.0, busy: float = 1.0) -> Sample:
    return Sample(value, micros, busy, 0.5, 1.0)


def test_ratios_are_taken_round_by_round() -> None:
    rounds = {OURS: [sample(10), sample(100), sample(30)], NGINX: [sample(5), sample(10), sample(15)]}
    assert ratio(rounds, OURS, NGINX) == 2.0  # of 2, 10 and 2; the ratio of the medians would be 3


def test_saving_is_their_cost_in_terms_of_ours() -> None:
    rounds = {OURS: [sample(1, micros=5)], NGINX: [sample(1, micros=20)]}
    assert saving(rounds, OURS, NGINX) == 4.0


def test_the_middle_of_samples_is_that_of_each_figure() -> None:
    assert middle([sample(1, 30), sample(2, 10), sample(9, 20)]) == sample(2, 20)


def test_a_server_that_had_its_core_is_judged_by_its_rate() -> None:
    rounds = {name: [sample(value)] for name, value in ((OURS, 150), (NGINX, 100), (TUNED, 125), (EMPTY, 300))}
    found = judged({"json": rounds}, {})
    assert [(each.target.against, each.value, each.by, each.holds) for each in found] == [
        (NGINX, 1.5, "rate", True),
        (TUNED, 1.2, "rate", False),
        (EMPTY, 0.5, "rate", False),
    ]


def test_a_server_that_had_to_wait_is_judged_by_what_a_request_cost() -> None:
    rounds = {
        OURS: [sample(150, micros=10)],
        NGINX: [sample(100, micros=16, busy=0.6)],
        TUNED: [sample(100, micros=12)],
        EMPTY: [sample(100, micros=9, busy=0.2)],
    }
    found = judged({"index": rounds}, {})
    assert [(each.value, each.by, each.holds) for each in found] == [
        (1.6, "CPU", True),
        (1.5, "rate", True),
        (0.9, "CPU", True),
    ]


def test_what_waits_for_upstream_is_judged_by_its_rate_alone() -> None:
    rounds = {name: [sample(value, busy=0.1)] for name, value in ((OURS, 95), (NGINX, 100), (TUNED, 100))}
    assert [(each.value, each.by) for each in judged({"cold": rounds}, {})] == [(0.95, "rate"), (0.95, "rate")]


def test_times_hold_when_they_are_no_longer() -> None:
    rounds = {name: [sample(value)] for name, value in ((OURS, 103), (NGINX, 100), (TUNED, 103))}
    assert [each.holds for each in judged({"fetch": rounds}, {})] == [False, True]


def test_figures_are_judged_by_name_and_what_was_not_measured_is_not() -> None:
    figure = Figure("ready", "ready to serve after", 0.9, "s")
    (found,) = judged({}, {"ready": figure, "growth-start-1000": figure})
    assert (found.value, found.by, found.holds) == (0.9, "s", True)


def test_no_target_is_there_twice() -> None:
    pairs = [(target.case, target.against) for target in TARGETS]
    assert len(set(pairs)) == len(pairs)
