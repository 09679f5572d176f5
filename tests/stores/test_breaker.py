from __future__ import annotations

from proxy.stores.breaker import FAILURES, PAUSE, Breaker
from proxy.stores.faults import Faults


def test_three_failures_in_a_row_open_it_and_a_success_between_does_not() -> None:
    breaker = Breaker(lambda: 0.0)
    for _ in range(FAILURES - 1):
        breaker.failed()
    breaker.succeeded()
    for _ in range(FAILURES - 1):
        breaker.failed()
    assert breaker.admits()
    breaker.failed()
    assert not breaker.admits()


def test_after_the_pause_one_probe_goes_and_its_success_closes_it() -> None:
    now = [0.0]
    breaker = Breaker(lambda: now[0])
    for _ in range(FAILURES):
        breaker.failed()
    now[0] = PAUSE - 0.001
    assert breaker.rests()
    now[0] = PAUSE
    assert not breaker.rests()
    assert [breaker.admits() for _ in range(3)] == [True, False, False]
    breaker.succeeded()
    assert [breaker.admits() for _ in range(3)] == [True, True, True]


def test_a_probe_that_fails_or_never_reports_costs_one_more_pause() -> None:
    now = [0.0]
    breaker = Breaker(lambda: now[0])
    for _ in range(FAILURES):
        breaker.failed()
    now[0] = PAUSE
    assert breaker.admits()
    breaker.failed()
    now[0] = 2 * PAUSE - 0.001
    assert not breaker.admits()
    now[0] = 2 * PAUSE
    assert [breaker.admits(), breaker.admits()] == [True, False]
    now[0] = 3 * PAUSE
    assert [breaker.admits(), breaker.admits()] == [True, False]


def test_each_kind_of_fault_is_told_once_until_it_works_again() -> None:
    told: list[str] = []
    faults = Faults("disk", lambda name, what: told.append(f"{name}: {what}"))
    for _ in range(2):
        faults.failed("put", "full", "no space")
        faults.failed("put", "broken", "I/O error")
        faults.failed("get", "broken", "I/O error")
        faults.worked("delete")
    assert told == ["disk: put: no space", "disk: put: I/O error", "disk: get: I/O error"]
    assert faults.detail == "put: no space; put: I/O error; get: I/O error"
    faults.worked("put")
    faults.worked("put")
    faults.failed("put", "full", "no space")
    assert told[3:] == ["disk: put: works again", "disk: put: no space"]
