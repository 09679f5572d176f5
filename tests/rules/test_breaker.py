from __future__ import annotations

from proxy.rules.breaker import FAILURES, PAUSE, Breaker


def opened(at: float = 0.0) -> Breaker:
    breaker = Breaker()
    for _ in range(FAILURES):
        breaker.failed(at)
    return breaker


def test_three_failures_in_a_row_open_it_and_a_success_between_does_not() -> None:
    breaker = Breaker()
    for _ in range(FAILURES - 1):
        breaker.failed(0.0)
    breaker.succeeded()
    for _ in range(FAILURES - 1):
        breaker.failed(0.0)
    assert not breaker.is_open() and breaker.admits(0.0)
    breaker.failed(0.0)
    assert breaker.is_open() and not breaker.admits(0.0)


def test_after_the_pause_one_probe_goes_and_its_success_closes_it() -> None:
    breaker = opened()
    assert breaker.rest(1.0) == PAUSE - 1.0
    assert breaker.rest(PAUSE - 0.001) > 0
    assert breaker.rest(PAUSE) == 0
    assert [breaker.admits(PAUSE) for _ in range(3)] == [True, False, False]
    assert breaker.is_open()
    breaker.succeeded()
    assert not breaker.is_open()
    assert [breaker.admits(PAUSE) for _ in range(3)] == [True, True, True]


def test_a_probe_that_fails_or_never_reports_costs_one_more_pause() -> None:
    breaker = opened()
    assert breaker.admits(PAUSE)
    breaker.failed(PAUSE)
    assert not breaker.admits(2 * PAUSE - 0.001)
    assert [breaker.admits(2 * PAUSE), breaker.admits(2 * PAUSE)] == [True, False]
    assert [breaker.admits(3 * PAUSE), breaker.admits(3 * PAUSE)] == [True, False]


def test_the_first_pause_may_be_another_than_those_that_follow() -> None:
    breaker = Breaker(failures=1, first=0.5)
    assert breaker.admits(10.0)
    breaker.failed(10.0)
    assert breaker.is_open() and breaker.rest(10.25) == 0.25
    assert breaker.admits(10.5)
    breaker.failed(11.0)
    assert breaker.rest(11.0) == PAUSE
    breaker.succeeded()
    assert breaker.rest(11.0) == 0.0
