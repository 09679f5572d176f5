"""New versions are announced by crates.io's feed: seen within a minute whatever the ttl, once for the whole fleet."""

from __future__ import annotations

import contextlib
import itertools
import logging
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy.engine.feed import TICK
from tests.proxied import ManualClock, Proxied, proxied
from tests.redis_server import redis_server
from tests.scenarios.follower import following
from tests.upstream import Source, Upstream, faults, samples
from tests.waiting import until

CRATE, OTHER, INDEX = "/api/v1/crates/leaf", "/api/v1/crates/abc", "/index/le/af/leaf"
FEED = "/rss/updates.xml"
DAY = 86400.0
GIVEN: dict[str, Any] = {"upstream__follow_feed": True, "endpoints__crate__ttl": "30d", "endpoints__index__ttl": "30d"}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(samples.BEGINNING + 100 * DAY)


@pytest.fixture
def upstream(clock: ManualClock) -> Iterator[Upstream]:
    registry = samples.registry()
    registry.clock = clock
    with Upstream.running(registry) as running:
        yield running


@pytest.fixture
def proxy(upstream: Upstream, clock: ManualClock, tmp_path: Path) -> Iterator[Proxied]:
    """It has looked at the feed twice, and what it says is no news."""
    with proxied(upstream, tmp_path, clock, **GIVEN) as running:
        looked(upstream, 1)
        until(lambda: b'"seen": ["' in marks(tmp_path))
        clock.now += 61  # what the first look names is not asked for afresh any more
        looked(upstream, 2)
        yield running


def looked(upstream: Upstream, times: int) -> None:
    """Wait until the feed has been asked for so often."""
    upstream.wait_for(times, host="static", contains=FEED, within=30.0)
    assert len(upstream.asked(contains=FEED)) == times


def marks(directory: Path) -> bytes:
    """All that the store of the marks has in its files."""
    return b"".join(path.read_bytes() for path in (directory / "marks").rglob("*") if path.is_file())


def readiness(proxy: Proxied) -> str:
    return proxy.get("/readyz").text


def seen(proxy: Proxied) -> bytes:
    """What the crate's JSON is now. It may change at any moment, so it is not asked for both ways."""
    return proxy.client.get(proxy.url + CRATE).content


def publish(upstream: Upstream, version: str, name: str = "leaf") -> None:
    upstream.registry.add(Source(name, version), samples.OWNER)


def filled(proxy: Proxied) -> None:
    for path in (CRATE, OTHER, INDEX):
        assert proxy.get(path).headers["x-cache"] == "MISS"
        assert proxy.get(path).headers["x-cache"] == "HIT"


def test_a_release_is_seen_after_a_minute_although_the_ttl_is_long(proxy: Proxied, upstream: Upstream) -> None:
    filled(proxy)
    publish(upstream, "3.0.0")
    proxy.clock.now += 59
    assert b"3.0.0" not in proxy.get(CRATE).content + proxy.get(INDEX).content
    proxy.clock.now += 2
    until(lambda: b"3.0.0" in seen(proxy))
    assert b'"vers":"3.0.0"' in proxy.get(INDEX).content
    assert proxy.get(OTHER).headers["x-cache"] == "HIT", "what is not named stays as it is"


def test_for_a_minute_after_that_a_copy_of_before_is_not_trusted_for_longer_than_a_second(
    proxy: Proxied, upstream: Upstream
) -> None:
    filled(proxy)
    old = proxy.get(INDEX)
    publish(upstream, "3.0.0")
    # The CDN of the index still has the old file: the validator is as it was.
    not_yet = faults.Status(200, (("content-type", "text/plain"),), old.content)
    upstream.fault("index", not_yet)
    proxy.clock.now += 61
    # It may change at any moment, so it is not asked for both ways.
    until(lambda: proxy.client.get(proxy.url + INDEX).headers["x-cache"] == "MISS")
    proxy.clock.now += 0.5
    assert proxy.get(INDEX).headers["cache-control"] == "public, max-age=1"
    upstream.heal()
    proxy.clock.now += 2
    assert b'"vers":"3.0.0"' in proxy.get(INDEX).content


def test_the_feed_is_asked_for_once_a_minute_and_conditionally(proxy: Proxied, upstream: Upstream) -> None:
    for times in (3, 4, 5):
        proxy.clock.now += 61
        looked(upstream, times)
    asked = upstream.asked(contains=FEED)
    assert [one.status for one in asked] == [200, 304, 304, 304, 304]
    assert all(one.header("if-none-match") and one.header("if-modified-since") for one in asked[1:])
    publish(upstream, "3.0.0")
    proxy.clock.now += 61
    looked(upstream, 6)
    assert upstream.asked(contains=FEED)[-1].status == 200


def test_how_far_the_feed_is_known_outlives_a_restart(upstream: Upstream, clock: ManualClock, tmp_path: Path) -> None:
    with proxied(upstream, tmp_path, clock, **GIVEN) as first:
        looked(upstream, 1)
        until(lambda: b'"seen": ["' in marks(tmp_path))
        clock.now += 61
        looked(upstream, 2)
        filled(first)
    publish(upstream, "3.0.0")
    clock.now += 30
    with proxied(upstream, tmp_path, clock, **GIVEN) as second:
        assert second.get(CRATE).headers["x-cache"] == "HIT"
        looked(upstream, 2)  # it is not a minute yet
        clock.now += 40
        until(lambda: b"3.0.0" in seen(second))
        assert second.get(OTHER).headers["x-cache"] == "HIT", "only what is new is named"
    assert upstream.asked(contains=FEED)[-1].header("if-none-match")


def test_a_gap_is_told_and_what_the_feed_names_is_asked_for_afresh(
    proxy: Proxied, upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    filled(proxy)
    proxy.clock.now += 7200 - 1
    for number in range(101):
        publish(upstream, f"0.{number}.0", "many")
    publish(upstream, "3.0.0")
    with caplog.at_level(logging.WARNING):
        proxy.clock.now += 2
        until(lambda: b"3.0.0" in seen(proxy))
    assert [record.message for record in caplog.records if "does not name any more" in record.message]
    assert proxy.get(OTHER).headers["x-cache"] == "HIT"


BOMB = b'<!DOCTYPE rss [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]><rss><channel><title>&b;</title></channel></rss>'
FAILURES: dict[str, tuple[faults.Fault, str]] = {
    "a bomb": (faults.Status(200, (("content-type", "text/xml"),), BOMB), "has a document type"),
    "a page": (faults.Status(200, (("content-type", "text/html"),), b"<html></html>"), "is no RSS"),
    "no feed": (faults.Status(403), "answered the request for its feed with status 403"),
    "half of it": (faults.Truncate(), "broke off"),
    "no end": (faults.Endless(pause=0.0), "larger than"),
    "no gzip": (
        faults.Status(200, (("content-type", "text/xml"), ("content-encoding", "gzip")), b"<rss/>"),
        "in a coding that cannot be read",
    ),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_feed_that_fails_is_told_and_harms_nothing(
    name: str, proxy: Proxied, upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    fault, why = FAILURES[name]
    filled(proxy)
    publish(upstream, "2.0.0", "abc")
    upstream.fault(FEED, fault)
    with caplog.at_level(logging.WARNING):
        proxy.clock.now += 61
        until(lambda: "feed: degraded" in readiness(proxy))
    assert why in readiness(proxy)
    (told,) = [record.message for record in caplog.records if record.message.startswith("feed: ")]
    assert why in told and "the ttls rule" in told
    assert proxy.get("/readyz").status_code == 200
    assert proxy.get(CRATE).headers["x-cache"] == "HIT"
    upstream.heal()
    publish(upstream, "3.0.0")
    proxy.clock.now += 121
    until(lambda: b"3.0.0" in seen(proxy))
    until(lambda: "feed: ok" in readiness(proxy))


def test_a_feed_that_goes_on_failing_is_told_once_and_asked_for_less_and_less_often(
    proxy: Proxied, upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    upstream.fault(FEED, faults.Status(501))  # of which there is no second attempt
    proxy.clock.now += 61
    with caplog.at_level(logging.WARNING):
        for times, pause in ((3, 120), (4, 240), (5, 480)):
            looked(upstream, times)
            until(lambda failures=times - 2: f'"failures": {failures}'.encode() in marks(proxy.directory))  # type: ignore[misc]
            proxy.clock.now += pause - 1
            time.sleep(1.5 * TICK)
            looked(upstream, times)
            proxy.clock.now += 2
        looked(upstream, 6)
    assert len([record for record in caplog.records if record.message.startswith("feed: ")]) == 1


def test_without_the_setting_and_offline_nobody_looks(upstream: Upstream, clock: ManualClock, tmp_path: Path) -> None:
    for given in ({}, {**GIVEN, "upstream__offline": True}):
        with proxied(upstream, tmp_path, clock, **given) as running:
            assert "feed" not in readiness(running)
    assert upstream.asked() == []


class Hands:
    """The time of all members, in a file that they read."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.now = samples.BEGINNING + 100 * DAY
        self.move(0)

    def move(self, seconds: float) -> None:
        self.now += seconds
        new = self.file.with_suffix(".new")
        new.write_text(str(self.now))
        new.replace(self.file)


Member = subprocess.Popen[bytes]


@pytest.fixture
def hands(tmp_path: Path) -> Hands:
    return Hands(tmp_path / "time")


@pytest.fixture(params=["workers", "replicas"])
def member(
    request: pytest.FixtureRequest, upstream: Upstream, hands: Hands, tmp_path: Path
) -> Iterator[Callable[[], Member]]:
    """Starts members that follow the feed; workers share a directory, replicas a Redis."""
    given: dict[str, object] = {
        "cache.min_free": 0,
        **upstream.settings(),
        "upstream.follow_feed": True,
    }
    numbers = itertools.count()
    with contextlib.ExitStack() as stack:
        if request.param == "replicas":
            given["redis.url"] = stack.enter_context(redis_server()).url

        def started() -> Member:
            place = str(next(numbers)) if request.param == "replicas" else "shared"
            return stack.enter_context(following(given, tmp_path / place, hands.file))

        yield started


def test_a_fleet_looks_once_a_minute_in_all(member: Callable[[], Member], upstream: Upstream, hands: Hands) -> None:
    for _ in range(3):
        member()
    for times in range(1, 5):
        looked(upstream, times)
        time.sleep(1.5 * TICK)  # nobody else takes it for his turn
        looked(upstream, times)
        hands.move(61)


def test_when_who_has_the_turn_is_killed_another_goes_on(
    member: Callable[[], Member], upstream: Upstream, hands: Hands
) -> None:
    first = member()
    looked(upstream, 1)
    member()  # it waits for the turn
    upstream.hold(FEED)
    hands.move(61)
    looked(upstream, 2)
    first.kill()  # in the midst of its look, of which nobody knows then
    looked(upstream, 3)
    upstream.release()
    hands.move(61)
    looked(upstream, 4)
