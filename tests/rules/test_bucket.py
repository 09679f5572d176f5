"""The budget's arithmetic: tables for what it says, and arbitrary crowds for what it never does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.rules import bucket
from proxy.rules.bucket import FURTHEST, WINDOW, Booked, Bucket, Limits, Refused, Urgency

MACHINE, REFRESH, CONTENT, CLIENT, CALLER = Urgency
LIMITS = Limits(rate=1.0, burst=4, window=600, max_wait=5.0)
NOW = 1000.0

Step = tuple[float, Urgency]


def told(steps: list[Step], limits: Limits = LIMITS) -> list[float | str]:
    """What each is told who comes at that time: its wait, or "no"."""
    state, answers = Bucket(), list[float | str]()
    for now, urgency in steps:
        state, answer = bucket.book(state, limits, now, urgency)
        answers.append(answer.at - now if isinstance(answer, Booked) else "no")
    return answers


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([(0, CLIENT)] * 4, [0, 0, 0, 0]),
        ([*[(0, CONTENT)] * 6, (0, CLIENT)], [0, 0, 0, 0, 1, 2, 3]),
        ([(0, CLIENT)] * 11, [0, 0, 0, 0, 1, 2, 3, 4, 5, "no", "no"]),
        # What was spent comes back at the rate, and no more than the burst of it.
        ([*[(0, CLIENT)] * 4, (1, CLIENT), (1, CLIENT)], [0, 0, 0, 0, 0, 1]),
        ([(0, CLIENT), *[(100, CLIENT)] * 5], [0, 0, 0, 0, 0, 1]),
        # A refresh where half the burst is left, a machine where all of it is; neither ever waits.
        ([(0, REFRESH)] * 4, [0, 0, 0, "no"]),
        ([(0, MACHINE)] * 2, [0, "no"]),
        ([(0, MACHINE), (0.99, MACHINE), (1, MACHINE)], [0, "no", 0]),
        ([*[(0, CLIENT)] * 3, (0, REFRESH), (0, CLIENT), (0, REFRESH)], [0, 0, 0, "no", 0, "no"]),
        # Those in their caller's name wait for nobody, and push back whoever comes after them.
        ([*[(0, CALLER)] * 6, (0, CLIENT)], [0, 0, 0, 0, 0, 0, 3]),
        ([*[(0, CLIENT)] * 6, (0, CALLER), (0, CLIENT)], [0, 0, 0, 0, 1, 2, 0, 4]),
    ],
)
def test_who_goes_when(steps: list[Step], expected: list[float | str]) -> None:
    assert told([(NOW + at, urgency) for at, urgency in steps]) == expected


def test_a_burst_of_one_lets_a_refresh_go_where_nobody_waits() -> None:
    assert told([(NOW, REFRESH), (NOW, CLIENT), (NOW + 5, REFRESH)], Limits(burst=1, window=600)) == [0, 1, 0]


def test_the_window_is_spent_no_faster_than_it_comes_back() -> None:
    limits = Limits(rate=5.0, burst=10, window=300)
    assert limits.spacing == 2.0
    assert Limits().spacing == pytest.approx(1.0526, abs=0.001)


def test_where_the_window_is_full_a_read_waits_for_its_oldest_and_machines_leave_it_to_people() -> None:
    limits = Limits(rate=10.0, burst=10, window=20, max_wait=5.0)  # one in 30 s, after the burst
    state = Bucket()
    for _ in range(20):
        state, answer = bucket.book(state, limits, NOW, CALLER)
    assert bucket.free(state, limits, NOW) == 0
    state, answer = bucket.book(state, limits, NOW + 400, CLIENT)
    assert isinstance(answer, Refused) and answer.retry_after == pytest.approx(WINDOW - 400)
    state, answer = bucket.book(state, limits, NOW + WINDOW - 3, CLIENT)
    assert answer == Booked(NOW + WINDOW)
    quiet = Bucket(times=tuple(NOW - each for each in range(11, 1, -1)))
    assert isinstance(bucket.book(quiet, limits, NOW, REFRESH)[1], Refused)
    assert isinstance(bucket.book(quiet, limits, NOW, CLIENT)[1], Booked)
    assert bucket.free(quiet, limits, NOW) == 10


def test_each_of_a_crowd_that_is_refused_is_told_a_time_of_its_own() -> None:
    state = Bucket()
    for _ in range(9):
        state, _ = bucket.book(state, LIMITS, NOW, CLIENT)
    promises = []
    for _ in range(100):
        state, answer = bucket.book(state, LIMITS, NOW, CLIENT)
        assert isinstance(answer, Refused)
        promises.append(answer.retry_after)
    assert promises == pytest.approx([6.0 + number for number in range(100)])
    # Later the queue alone counts again: whoever was promised a time has come or has not.
    state, answer = bucket.book(state, LIMITS, NOW + 200, CLIENT)
    assert answer == Booked(NOW + 200)


def test_promises_have_an_end_and_then_begin_anew() -> None:
    state = Bucket(full_at=NOW + 100, promised=NOW + FURTHEST + 96.5)
    state, answer = bucket.book(state, LIMITS, NOW, CLIENT)
    assert answer == Refused(97.0)
    state, answer = bucket.book(state, LIMITS, NOW, CLIENT)
    assert answer == Refused(98.0)


def test_during_a_hold_only_callers_go_and_the_crowd_is_told_times_after_its_end() -> None:
    state, answers = Bucket(), []
    for urgency in (CLIENT, CLIENT, CONTENT, REFRESH, CALLER):
        state, answer = bucket.book(state, LIMITS, NOW, urgency, held_until=NOW + 300)
        answers.append(answer)
    assert answers == [Refused(300.0), Refused(301.0), Refused(300.0), Refused(300.0), Booked(NOW)]
    assert isinstance(bucket.book(state, LIMITS, NOW + 300, CLIENT, held_until=NOW + 300)[1], Booked)


def test_only_the_last_booking_can_be_given_back() -> None:
    state, times = Bucket(), []
    for _ in range(6):
        state, answer = bucket.book(state, LIMITS, NOW, CLIENT)
        assert isinstance(answer, Booked)
        times.append(answer.at)
    assert bucket.given_back(state, LIMITS, times[4]) is state
    assert bucket.given_back(Bucket(), LIMITS, times[4]) == Bucket()
    state = bucket.given_back(state, LIMITS, times[5])
    assert bucket.book(state, LIMITS, NOW, CLIENT)[1] == Booked(times[5])


def test_how_many_could_go_now() -> None:
    state = Bucket()
    assert bucket.free(state, LIMITS, NOW) == 4
    for left in (3, 2, 1, 0, 0):
        state, _ = bucket.book(state, LIMITS, NOW, CLIENT)
        assert bucket.free(state, LIMITS, NOW) == left
    assert [bucket.free(state, LIMITS, NOW + each) for each in (1, 2, 4, 100)] == [0, 1, 3, 4]


def test_a_clock_that_went_back_blocks_nobody_for_longer_than_a_window() -> None:
    state = Bucket()
    for _ in range(700):
        state, _ = bucket.book(state, LIMITS, NOW + 100_000, CALLER)
    _, answer = bucket.book(state, LIMITS, NOW, CLIENT)
    assert isinstance(answer, Refused) and answer.retry_after <= WINDOW + 4


def test_parts_of_a_budget_are_no_more_than_the_whole() -> None:
    whole = Limits(rate=1.0, burst=10, window=570, max_wait=10.0)
    assert whole.shared(3) == Limits(rate=1 / 3, burst=1, window=190, max_wait=10.0)
    assert whole.shared(1) == Limits(rate=1.0, burst=1, window=570, max_wait=10.0)
    assert whole.shared(1000).window == 1


arrivals = st.lists(
    st.tuples(st.sampled_from([0.0, 0.0, 0.001, 0.3, 1.0, 2.5, 40.0, 700.0]), st.sampled_from(list(Urgency))),
    max_size=150,
)
limits_ = st.builds(
    Limits,
    rate=st.sampled_from([0.1, 1.0, 7.0, 1000.0]),
    burst=st.integers(1, 20),
    window=st.integers(1, 30),
    max_wait=st.sampled_from([0.0, 3.0, 30.0, 400.0]),
)


@given(limits_, arrivals)
def test_never_more_than_the_window_however_they_come(limits: Limits, steps: list[tuple[float, Urgency]]) -> None:
    """Reads alone never pass it. Whoever must go at once passes it by themselves alone, and by the reads that had
    been told their times before."""
    state, now = Bucket(), NOW
    sent: list[tuple[float, float, Urgency]] = []  # when it goes, when it was booked, for whom
    last = now
    for pause, urgency in steps:
        now += pause
        state, answer = bucket.book(state, limits, now, urgency)
        if isinstance(answer, Refused):
            assert urgency is not CALLER and answer.retry_after > 0
            continue
        at = answer.at
        if urgency is CALLER:
            assert at == now
        else:
            assert now <= at <= now + limits.max_wait + 1e-6, "nobody waits longer than max_wait"
            assert urgency in (CLIENT, CONTENT) or at == now, "only people wait"
            assert at >= last, "in the order of asking"
            last = at
            known = [each for each, _, _ in sent if at - WINDOW < each <= at]
            assert len(known) < limits.window, "a read goes only where the window has room, as far as is known"
        sent.append((at, now, urgency))
    for at, _, _ in sent:
        within = [each for each in sent if at - WINDOW < each[0] <= at]
        pushed = sum(urgency is CALLER for _, _, urgency in within)
        assert len(within) <= limits.window + pushed


@given(limits_, arrivals)
def test_in_the_long_run_never_faster_than_the_rate(limits: Limits, steps: list[tuple[float, Urgency]]) -> None:
    state, now, reads = Bucket(), NOW, list[float]()
    for pause, urgency in steps:
        now += pause
        state, answer = bucket.book(state, limits, now, CLIENT if urgency is CALLER else urgency)
        if isinstance(answer, Booked):
            reads.append(answer.at)
    for first, start in enumerate(reads):
        for number, end in enumerate(reads[first:], start=1):
            assert number <= limits.burst + (end - start) / limits.spacing + 1e-3


@given(st.permutations([-700.0, -599.0, -80.0, -3.0, -3.0, -2.0, 0.0, 1.0, 4.0]))
def test_what_is_heard_of_late_counts_as_if_it_had_been_known(heard: list[float]) -> None:
    state, known = Bucket(), Bucket()
    for at in heard:
        state = bucket.noted(state, LIMITS, NOW, NOW + at)
    for at in sorted(heard):
        known = bucket.sent(known, LIMITS, NOW + at)
    assert set(state.times) - set(known.times) == set()
    assert [at for at in state.times if at > NOW - WINDOW] == [at for at in known.times if at > NOW - WINDOW]
    assert bucket.free(state, LIMITS, NOW) == bucket.free(known, LIMITS, NOW) == 0
    assert bucket.book(state, LIMITS, NOW, CLIENT)[1] == bucket.book(known, LIMITS, NOW, CLIENT)[1]
