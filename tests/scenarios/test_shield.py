"""crates.io's limits kept for everyone, and work without crates.io: what clients see of it."""

from __future__ import annotations

import concurrent.futures
import socket
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from tests.proxied import Proxied, proxied
from tests.upstream import Upstream, faults
from tests.upstream.api import BLOCKED
from tests.waiting import until

CRATE, OTHER, INDEX = "/api/v1/crates/leaf", "/api/v1/crates/abc", "/index/le/af/leaf"
TARBALL = "/api/v1/crates/leaf/1.0.0/download"
YEAR = 365 * 86400.0


def throttled(answer: httpx.Response, seconds: int, margin: int = 3) -> None:
    assert (answer.status_code, answer.headers["cache-status"]) == (429, "crates-proxy; detail=throttled")
    assert seconds - margin <= int(answer.headers["retry-after"]) <= seconds + margin
    assert "try again in" in answer.json()["errors"][0]["detail"]


def test_while_crates_io_wants_to_be_left_alone_what_is_stored_is_served_and_changes_go_through(
    proxy: Proxied, upstream: Upstream
) -> None:
    proxy.get(CRATE)
    proxy.clock.now += YEAR  # far older than what is served on an error
    upstream.fault("api", faults.Status(429), times=1)
    stale = proxy.get(CRATE)
    assert (stale.status_code, stale.headers["x-cache"]) == (200, "STALE")
    upstream.forget()
    stale = proxy.get(CRATE)
    assert stale.headers["cache-status"] == f"crates-proxy; hit; ttl={300 - int(YEAR)}; detail=throttled"
    assert stale.headers["cache-control"] == "no-cache"
    throttled(proxy.get(OTHER), 300)
    throttled(proxy.get("/api/v1/something/new"), 300)
    assert not upstream.asked(host="api")
    assert proxy.get(INDEX).headers["x-cache"] == "MISS", "the index has nothing to do with it"
    assert proxy.get(TARBALL).status_code == 200
    assert proxy.get("/api/v1/me").headers["x-cache"] == "PASS"
    assert proxy.ask("PUT", CRATE + "/1.0.0/unyank").headers["x-cache"] == "PASS"
    assert len(upstream.asked(host="api")) == 2
    assert "upstream api: degraded it is not asked for" in proxy.get("/readyz").text


def test_a_block_for_policy_is_shouted_where_somebody_hears_it(proxy: Proxied, upstream: Upstream) -> None:
    upstream.fault("api", faults.Status(403, body=b'{"errors":[{"detail":"%s"}]}' % BLOCKED.encode()))
    answer = proxy.get(CRATE)
    assert (answer.status_code, answer.json()["errors"][0]["detail"]) == (403, BLOCKED)
    throttled(proxy.get(CRATE), 900)
    ready = proxy.get("/readyz")
    assert ready.status_code == 200
    assert "upstream api: degraded BLOCKED by crates.io, somebody must act" in ready.text


def test_it_is_asked_again_when_the_time_has_come(proxy: Proxied, upstream: Upstream) -> None:
    upstream.fault("index", faults.Status(503, (("retry-after", "4"),)), times=1)
    answer = proxy.get(INDEX)
    assert (answer.status_code, answer.headers["retry-after"]) == (502, "4")
    throttled(proxy.get(INDEX), 3, margin=2)
    assert len(upstream.asked()) == 1
    until(lambda: proxy.get(INDEX).status_code == 200)
    assert len(upstream.asked()) == 2


def test_a_hold_and_what_was_spent_outlive_a_restart(upstream: Upstream, tmp_path: Path) -> None:
    slow: dict[str, Any] = {"upstream__requests_per_second": 0.01, "upstream__burst": 3}
    with proxied(upstream, tmp_path, **slow) as proxy:
        proxy.get(CRATE)
        upstream.fault("static", faults.Status(429, (("retry-after", "60"),)))
        assert proxy.get("/files/readmes/leaf/leaf-1.0.0.html").status_code == 429
    upstream.heal()
    upstream.forget()
    with proxied(upstream, tmp_path, **slow) as proxy:
        throttled(proxy.get("/files/readmes/leaf/leaf-1.0.0.html"), 60)
        assert "budget: ok 2 requests to the API could go now, 1 went" in proxy.get("/readyz").text
    assert not upstream.asked()


def test_a_read_without_a_turn_gets_what_is_stored_at_once_else_when_to_come(
    upstream: Upstream, tmp_path: Path
) -> None:
    slow: dict[str, Any] = {"upstream__requests_per_second": 0.1, "upstream__burst": 2, "upstream__max_wait": "9s"}
    with proxied(upstream, tmp_path, **slow) as proxy:
        proxy.get(CRATE)
        proxy.get(OTHER)
        proxy.clock.now += 400
        begun = time.monotonic()
        behind = proxy.get(CRATE)  # a refresh would be due, and is dropped
        assert behind.headers["cache-status"].endswith("detail=stale-while-revalidate")
        proxy.clock.now += YEAR
        assert proxy.get(CRATE).headers["cache-status"].endswith("detail=throttled")
        throttled(proxy.get(CRATE + "/versions"), 10)
        throttled(proxy.get(CRATE + "/owners"), 20)
        assert time.monotonic() - begun < 8.0
    assert len(upstream.asked()) == 2


def test_what_was_put_off_is_fetched_when_there_is_room_without_anybody_asking_again(
    upstream: Upstream, tmp_path: Path
) -> None:
    slow: dict[str, Any] = {"upstream__requests_per_second": 1.0, "upstream__burst": 1, "upstream__max_wait": 0}
    with proxied(upstream, tmp_path, **slow) as proxy:
        proxy.get(CRATE)
        proxy.clock.now += YEAR
        for _ in range(3):
            assert proxy.get(CRATE).headers["cache-status"].endswith("detail=throttled")
        until(lambda: len(upstream.asked(host="api")) == 2)
        until(lambda: proxy.get(CRATE).headers["x-cache"] == "HIT")
        assert len(upstream.asked()) == 2


def test_what_was_put_off_waits_for_the_end_of_a_hold(upstream: Upstream, tmp_path: Path) -> None:
    with proxied(upstream, tmp_path) as proxy:
        proxy.get(CRATE)
        proxy.clock.now += YEAR
        upstream.fault("api", faults.Status(429, (("retry-after", "2"),)), times=1)
        assert proxy.get(OTHER).status_code == 429
        begun = time.monotonic()
        assert proxy.get(CRATE).headers["cache-status"].endswith("detail=throttled")
        until(lambda: len(upstream.asked(host="api")) == 3)
        assert time.monotonic() - begun > 1.0
        until(lambda: proxy.get(CRATE).headers["x-cache"] == "HIT")


def test_without_crates_io_everything_stored_is_served_by_itself_and_it_comes_back_by_itself(
    proxy: Proxied, upstream: Upstream
) -> None:
    stored = (CRATE, INDEX, TARBALL)
    for path in stored:
        proxy.get(path)
    proxy.clock.now += 86400
    upstream.stop()
    for _ in range(4):
        for path in stored:
            assert proxy.get(path).status_code == 200
    stale = proxy.get(CRATE)
    assert stale.headers["cache-status"].startswith("crates-proxy; hit; ttl=-"), "nothing is sent any more"
    missing = proxy.get(OTHER)
    assert (missing.status_code, missing.headers["cache-status"]) == (502, "crates-proxy")
    assert 1 <= int(missing.headers["retry-after"]) <= 5
    assert "upstream api: degraded it fails and is" in proxy.get("/readyz").text
    upstream.start()
    until(lambda: proxy.get(OTHER).status_code == 200)
    until(lambda: proxy.get(CRATE).headers["x-cache"] == "MISS")


def test_what_is_stored_waits_for_a_silent_upstream_once_and_not_again(upstream: Upstream, tmp_path: Path) -> None:
    with proxied(upstream, tmp_path, upstream__stale_after="3s") as proxy:
        proxy.get(CRATE)
        proxy.clock.now += 86400
        upstream.hold()
        begun = time.monotonic()
        assert proxy.get(CRATE).headers["x-cache"] == "STALE"
        first = time.monotonic() - begun
        begun = time.monotonic()
        for _ in range(5):
            assert proxy.get(CRATE).headers["x-cache"] == "STALE"
        assert time.monotonic() - begun < first
        upstream.release()


def test_a_crowd_over_real_sockets_is_served_or_told_when(upstream: Upstream, tmp_path: Path) -> None:
    slow: dict[str, Any] = {"upstream__requests_per_second": 4.0, "upstream__burst": 4, "upstream__max_wait": "2s"}
    with (
        proxied(upstream, tmp_path, **slow) as proxy,
        concurrent.futures.ThreadPoolExecutor(40) as pool,
    ):
        paths = [f"/api/v1/crates/crate-{number}" for number in range(40)]
        answers = list(pool.map(lambda path: httpx.get(proxy.url + path, timeout=20, trust_env=False), paths))
    served = [each for each in answers if each.status_code == 404]
    refused = [each for each in answers if each.status_code == 429]
    assert len(served) + len(refused) == 40 and 12 <= len(served) <= 30
    assert len(upstream.asked()) == len(served)
    told = [int(each.headers["retry-after"]) for each in refused]
    assert max(told) > min(told) and all(each.headers["x-cache"] == "MISS" for each in refused)


def test_uploads_that_are_refused_before_they_are_asked_for_are_no_fault_of_crates_io(
    proxy: Proxied,
) -> None:
    """The refusal ends what is written to their clients. Were they asked for the rest behind it, that would fail, count
    as a failure of crates.io's, and three of them would shut everybody out."""
    address = urlsplit(proxy.url)
    head = b"PUT /api/v1/crates/new HTTP/1.1\r\nHost: 127.0.0.1\r\nExpect: 100-continue\r\n"
    for _ in range(3):
        with socket.create_connection((address.hostname or "", address.port or 0), timeout=10) as client:
            client.sendall(head + b"Transfer-Encoding: chunked\r\n\r\nno number\r\n")
            with client.makefile("rb") as answer:
                assert answer.read().startswith(b"HTTP/1.1 400 ")
            until(lambda: not proxy.under_way())
    assert "upstream api: ok" in proxy.get("/readyz").text
    assert proxy.get(CRATE).status_code == 200
