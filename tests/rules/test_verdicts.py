from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import http_sf
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import Declined, Down, Error, Faulty, Late, Offline, Refused, Throttled, UpstreamError
from proxy.model import Entry, Outcome, Verdict
from proxy.rules import renewal, verdicts

ENTRY = Entry("key", 200, (), b"", '"a"', 0.0, 0.0)
HIT = Outcome(Verdict.HIT, ENTRY, fresh_for=40.0, age=20.0)
STALE = Outcome(Verdict.STALE, ENTRY, fresh_for=-10.0, age=70.0)
MISS = Outcome(Verdict.MISS, ENTRY, fresh_for=60.0, age=0.0, forwarded="uri-miss", stored=True)
REVALIDATED = Outcome(
    Verdict.REVALIDATED, ENTRY, fresh_for=60.0, age=0.0, forwarded="stale", forwarded_status=304, stored=True
)

CACHE_STATUS: list[tuple[Outcome, str]] = [
    (HIT, "hit; ttl=40"),
    (replace(HIT, fresh_for=40.9), "hit; ttl=40"),
    (replace(HIT, fresh_for=0.0), "hit; ttl=0"),
    (replace(HIT, fresh_for=math.inf), "hit; ttl=31536000"),
    (replace(STALE, detail="stale-while-revalidate"), "hit; ttl=-10; detail=stale-while-revalidate"),
    (replace(STALE, fresh_for=-0.1, detail="offline"), "hit; ttl=-1; detail=offline"),
    (replace(STALE, detail="throttled"), "hit; ttl=-10; detail=throttled"),
    (
        replace(STALE, forwarded="stale", forwarded_status=503, detail="stale-if-error"),
        "fwd=stale; fwd-status=503; detail=stale-if-error",
    ),
    (replace(STALE, forwarded="stale", detail="stale-if-error"), "fwd=stale; detail=stale-if-error"),
    (MISS, "fwd=uri-miss; stored"),
    (replace(MISS, stored=False), "fwd=uri-miss"),
    (replace(MISS, collapsed=True), "fwd=uri-miss; collapsed"),
    (replace(MISS, forwarded="stale"), "fwd=stale; stored"),
    (REVALIDATED, "fwd=stale; fwd-status=304"),
    (replace(REVALIDATED, collapsed=True), "fwd=stale; fwd-status=304; collapsed"),
    (replace(REVALIDATED, forwarded_status=None, detail=renewal.DETAIL), "fwd=stale; detail=index-unchanged"),
]

# Verdict, collapsed, stored -> Cache-Status of a tarball.
TARBALL: dict[tuple[Verdict, bool, bool], str] = {
    (Verdict.HIT, False, True): "hit; ttl=31536000",
    (Verdict.MISS, False, True): "fwd=uri-miss; stored",
    (Verdict.MISS, True, True): "fwd=uri-miss; collapsed",
    (Verdict.MISS, False, False): "fwd=uri-miss",
}

CACHE_CONTROL: list[tuple[Outcome, bytes]] = [
    (HIT, b"public, max-age=60"),
    (replace(HIT, fresh_for=39.6, age=20.4), b"public, max-age=60"),
    (replace(HIT, fresh_for=0.7, age=0.3), b"public, max-age=1"),
    (replace(HIT, fresh_for=math.inf), b"public, max-age=31536000"),
    (replace(HIT, fresh_for=0.0), b"no-cache"),
    (STALE, b"no-cache"),
    (replace(STALE, fresh_for=10.0, age=5.0), b"no-cache"),
    (MISS, b"public, max-age=60"),
    (replace(MISS, collapsed=True), b"public, max-age=60"),
    (replace(MISS, stored=False), b"no-store"),
    (replace(MISS, fresh_for=0.0), b"no-cache"),
    (REVALIDATED, b"public, max-age=60"),
]


def answered(error: UpstreamError, status: int) -> UpstreamError:
    error.answered = status
    return error


REFUSED: list[tuple[Error, str]] = [
    (Refused("no"), ""),
    (Error("no"), ""),
    (Offline("no"), "detail=offline"),
    (Throttled("not now"), "detail=throttled"),
    (Down("it fails"), ""),
    (Late("no"), "fwd=uri-miss"),
    (Faulty("no"), "fwd=uri-miss"),
    (answered(Faulty("no"), 503), "fwd=uri-miss; fwd-status=503"),
    (answered(Declined("no", status=404), 404), "fwd=uri-miss; fwd-status=404"),
]


def field(parameters: str) -> bytes:
    return ("crates-proxy" + (f"; {parameters}" if parameters else "")).encode()


@pytest.mark.parametrize(("outcome", "parameters"), CACHE_STATUS)
def test_cache_status_tells_how_an_answer_was_come_by(outcome: Outcome, parameters: str) -> None:
    assert verdicts.cache_status(outcome) == field(parameters)


@pytest.mark.parametrize("case", TARBALL)
def test_cache_status_of_a_tarball_never_tells_of_staleness(case: tuple[Verdict, bool, bool]) -> None:
    verdict, collapsed, stored = case
    assert verdicts.tarball_status(verdict, collapsed=collapsed, stored=stored) == field(TARBALL[case])


@pytest.mark.parametrize(("error", "parameters"), REFUSED)
def test_cache_status_of_an_error_tells_whether_upstream_was_asked(error: Error, parameters: str) -> None:
    assert verdicts.refused(error) == field(parameters)


def test_an_error_tells_why_upstream_was_asked() -> None:
    error = Faulty("no")
    error.forwarded = "stale"
    assert verdicts.refused(error) == field("fwd=stale")
    assert verdicts.refused(error, verdicts.BYPASS) == field("fwd=bypass")
    assert verdicts.refused(Offline("no"), verdicts.BYPASS) == field("detail=offline")


def test_what_passes_tells_why() -> None:
    assert verdicts.passed(verdicts.BYPASS) == b"crates-proxy; fwd=bypass"


@pytest.mark.parametrize(("outcome", "expected"), CACHE_CONTROL)
def test_a_client_may_keep_an_answer_as_long_as_this_proxy_calls_it_fresh(outcome: Outcome, expected: bytes) -> None:
    assert verdicts.cache_control(outcome) == expected


def test_a_tarball_by_checksum_may_be_kept_for_ever() -> None:
    assert verdicts.FOR_EVER == "public, max-age=31536000, immutable"


OUTCOMES = st.builds(
    Outcome,
    st.sampled_from(Verdict),
    st.just(ENTRY),
    fresh_for=st.floats(-1e9, 1e9),
    age=st.floats(0, 1e9),
    forwarded=st.sampled_from(["", "uri-miss", "stale", "bypass"]),
    forwarded_status=st.none() | st.integers(200, 599),
    detail=st.sampled_from(["", "stale-if-error", "stale-while-revalidate", "offline", "throttled"]),
    stored=st.booleans(),
    collapsed=st.booleans(),
)


@given(OUTCOMES)
def test_every_cache_status_is_a_structured_field(outcome: Outcome) -> None:
    parsed: Any = http_sf.parse(verdicts.cache_status(outcome), tltype="list")
    ((name, told),) = parsed
    assert str(name) == verdicts.CACHE
    assert ("hit" in told) is not ("fwd" in told)
    assert set(told) <= {"hit", "ttl", "fwd", "fwd-status", "stored", "collapsed", "detail"}
    assert told.get("fwd-status") == (outcome.forwarded_status if outcome.forwarded else None)


@given(OUTCOMES)
def test_nobody_keeps_what_is_stale_or_was_not_stored(outcome: Outcome) -> None:
    told = verdicts.cache_control(outcome)
    if outcome.fresh_for <= 0 or outcome.verdict is Verdict.STALE:
        assert told in (b"no-cache", b"no-store")
    if outcome.verdict is Verdict.MISS and not outcome.stored:
        assert told == b"no-store"
