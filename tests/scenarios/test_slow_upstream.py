"""Upstream takes its time: where there is a copy that is served, and nobody waits longer than cargo would."""

from __future__ import annotations

import concurrent.futures
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest

from proxy.engine.flight import FIRST_BYTE
from tests.proxied import Proxied, proxied
from tests.upstream import Source, Upstream, faults, samples
from tests.upstream.steps import Pause, Step
from tests.upstream.wire import Reply, laid_out
from tests.waiting import until

CRATE, INDEX, TARBALL = "/api/v1/crates/leaf", "/index/le/af/leaf", "/api/v1/crates/leaf/1.0.0/download"
OLD = "/api/v1/something/old"
OTHER, ANOTHER = "/api/v1/something/new", "/api/v1/crates/abc/1.0.0/download"
PRIVATE = "/api/v1/me"
DAY = 86400.0


@dataclass(frozen=True)
class _Late:
    """The right answer, after so many seconds."""

    seconds: float

    def status(self, reply: Reply) -> int:
        return reply.status

    def steps(self, reply: Reply) -> Iterator[Step]:
        yield Pause(self.seconds)
        yield laid_out(reply)


@dataclass(frozen=True)
class _Halting:
    """The right answer, with a rest of so many seconds before the last byte."""

    seconds: float

    def status(self, reply: Reply) -> int:
        return reply.status

    def steps(self, reply: Reply) -> Iterator[Step]:
        whole = laid_out(reply)
        yield whole[:-1]
        yield Pause(self.seconds)
        yield whole[-1:]


@pytest.fixture
def hasty(upstream: Upstream, tmp_path: Path) -> Iterator[Proxied]:
    with proxied(upstream, tmp_path, upstream__stale_after="0.2s") as running:
        yield running


@pytest.mark.parametrize("path", [CRATE, INDEX])
def test_a_copy_is_served_and_the_fetch_goes_on_behind(path: str, hasty: Proxied, upstream: Upstream) -> None:
    hasty.get(path)
    hasty.clock.now += DAY
    upstream.hold()
    begun = time.monotonic()
    answers = [hasty.get(path) for _ in range(3)]
    assert time.monotonic() - begun < 5.0, "two seconds each, without the setting"
    assert {answer.headers["x-cache"] for answer in answers} == {"STALE"}
    ttl = DAY - (300 if path == CRATE else 60)
    assert answers[0].headers["cache-status"] == f"crates-proxy; hit; ttl={-ttl:.0f}; detail=stale-if-error"
    assert answers[0].headers["cache-control"] == "no-cache"
    assert len(upstream.asked()) == 2  # One request behind them all.
    upstream.release()
    until(lambda: hasty.get(path).headers["x-cache"] == "HIT")
    assert len(upstream.asked()) == 2


NEW, STRICT = (faults.Status(200, (("cache-control", f"max-age=60{more}"),), b"new") for more in ("", ", s-maxage=60"))


def test_where_upstreams_own_headers_rule_too_unless_they_or_the_client_forbid_it(
    hasty: Proxied, upstream: Upstream
) -> None:
    strict = OTHER + "/strict"
    upstream.fault("api", replace(NEW, body=b"old"), times=1)
    assert hasty.get(OLD).content == b"old"
    upstream.fault("api", replace(STRICT, body=b"old"), times=1)
    assert hasty.get(strict).content == b"old"
    hasty.clock.now += 61
    upstream.fault("api", NEW)
    upstream.hold("api")
    answers = [hasty.get(OLD) for _ in range(2)]
    assert [answer.content for answer in answers] == [b"old"] * 2
    assert answers[0].headers["cache-status"] == "crates-proxy; hit; ttl=-1; detail=stale-if-error"
    assert len(upstream.asked(contains=OLD)) == 2, "one request behind them"
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        asked = [
            pool.submit(httpx.get, hasty.url + path, headers=fields, trust_env=False, timeout=20)
            for path, fields in ((strict, {}), (OLD, {"cache-control": "no-cache"}))
        ]
        upstream.wait_for(4)
        assert not concurrent.futures.wait(asked, 0.6).done
        upstream.release()
        assert [each.result(10).content for each in asked] == [b"new"] * 2
    until(lambda: hasty.client.get(hasty.url + OLD).headers["x-cache"] == "HIT")
    assert hasty.client.get(hasty.url + OLD).content == b"new"


def test_what_upstream_has_begun_to_answer_is_waited_for(hasty: Proxied, upstream: Upstream) -> None:
    old = hasty.get(CRATE).content
    hasty.clock.now += DAY
    upstream.fault("api", faults.Slow(rate=len(old)))  # It takes a second.
    answer = hasty.get(CRATE)
    assert (answer.headers["x-cache"], answer.headers["age"]) == ("MISS", "0")


def test_a_copy_that_may_not_be_served_on_an_error_is_not_served(upstream: Upstream, tmp_path: Path) -> None:
    with proxied(upstream, tmp_path, upstream__stale_after="0.2s", endpoints__crate__stale_if_error="1h") as proxy:
        proxy.get(CRATE)
        proxy.clock.now += DAY
        upstream.hold()
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            asked = pool.submit(proxy.get, CRATE)
            upstream.wait_for(2)
            with pytest.raises(TimeoutError):
                asked.result(0.6)
            upstream.release()
            assert asked.result(5).headers["age"] == "0"


def test_with_nothing_stored_there_is_an_error_in_time(upstream: Upstream, tmp_path: Path) -> None:
    """However many waits there are in a row: a tarball waits for its index file, and then for itself; who wants a
    part of one waits for the whole, which goes on coming. What is private waits no longer."""
    upstream.fault("api", faults.Status(200, (("cache-control", "max-age=60"),), b"old"), times=1)
    upstream.hold("static GET /crates/leaf/")
    upstream.fault("index", _Late(10.0))
    upstream.fault("static", _Halting(FIRST_BYTE - 9.0))
    part = {"range": "bytes=0-9"}
    with (
        proxied(upstream, tmp_path, upstream__read_timeout="60s") as proxy,
        concurrent.futures.ThreadPoolExecutor(6) as pool,
    ):
        assert proxy.get(OLD).content == b"old"
        upstream.hold("api")
        proxy.clock.now += DAY
        begun = time.monotonic()
        asked = [
            pool.submit(proxy.client.get, proxy.url + path, headers=fields, timeout=40)
            for path, fields in ((CRATE, {}), (TARBALL, {}), (OTHER, {}), (ANOTHER, part), (PRIVATE, {}), (OLD, {}))
        ]
        *answers, stale = [each.result(40) for each in asked]
        assert FIRST_BYTE - 1 < time.monotonic() - begun < 30.0, "longer than cargo waits: one wait behind another"
        assert (stale.status_code, stale.headers["x-cache"], stale.content) == (200, "STALE", b"old")
        assert [answer.status_code for answer in answers] == [504] * 5
        assert all("within 24 s" in answer.json()["errors"][0]["detail"] for answer in answers)
        assert answers[3].headers["retry-after"] == "5"
        again = proxy.client.get(proxy.url + ANOTHER, headers=part)
    assert (again.status_code, len(again.content)) == (206, 10)
    assert len(upstream.asked(host="static", contains="/crates/abc/")) == 1


def test_a_new_version_is_waited_for_although_the_old_index_file_could_be_served(
    hasty: Proxied, upstream: Upstream
) -> None:
    hasty.get(INDEX)
    upstream.registry.add(Source("leaf", "3.0.0"), samples.OWNER)
    hasty.clock.now += DAY
    upstream.fault("index", _Late(0.6))
    assert hasty.get("/api/v1/crates/leaf/3.0.0/download").status_code == 200
