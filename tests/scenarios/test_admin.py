"""The routes for operators: alive, ready, purge."""

from __future__ import annotations

import concurrent.futures
from pathlib import Path

import pytest

from tests.proxied import Proxied, proxied
from tests.upstream import Upstream, faults

TOKEN = "admin-token-of-these-tests"
CRATE, INDEX, TARBALL = "/api/v1/crates/leaf", "/index/le/af/leaf", "/api/v1/crates/leaf/1.0.0/download"
EVERYTHING = (CRATE, INDEX, TARBALL, "/api/v1/crates/abc", "/api/v1/summary")


def purge(proxy: Proxied, asked: object, token: str = TOKEN) -> tuple[int, dict[str, object]]:
    fields = {"authorization": f"Bearer {token}"} if token else {}
    answer = proxy.client.post(f"{proxy.url}/-/purge", json=asked, headers=fields)
    return answer.status_code, answer.json()


def test_healthz_touches_nothing(proxy: Proxied, upstream: Upstream) -> None:
    upstream.stop()
    assert proxy.get("/healthz").status_code == 200


def test_readyz_tells_of_each_component_and_a_dead_upstream_only_degrades(proxy: Proxied, upstream: Upstream) -> None:
    lines = dict(line.split(": ", 1) for line in proxy.get("/readyz").text.splitlines())
    assert lines.pop("budget") == "ok 1000 requests to the API could go now, 0 went in the last 10 minutes"
    assert lines == dict.fromkeys(
        ("json", "index", "tarballs", "fleet", "upstream api", "upstream index", "upstream static"), "ok"
    )
    upstream.fault("api", faults.Status(500))
    proxy.get(CRATE)
    answer = proxy.get("/readyz")
    assert answer.status_code == 200
    assert "upstream api: degraded it answered with status 500" in answer.text
    upstream.heal()
    proxy.get(CRATE)
    assert "upstream api: ok" in proxy.get("/readyz").text


@pytest.mark.parametrize(
    ("asked", "purged", "misses"),
    [
        ({"crate": "LEAF"}, 3, (CRATE, INDEX, TARBALL)),
        ({"endpoint": "index"}, 1, (INDEX,)),
        ({"endpoint": "crate"}, 2, (CRATE, "/api/v1/crates/abc")),
        ({"endpoint": "download"}, 1, (TARBALL,)),
        ({"all": True}, 5, EVERYTHING),
    ],
    ids=str,
)
def test_a_purge_deletes_what_it_names_and_nothing_else(
    asked: object, purged: int, misses: tuple[str, ...], upstream: Upstream, tmp_path: Path
) -> None:
    with proxied(upstream, tmp_path, access__admin_token=TOKEN) as proxy:
        for path in EVERYTHING:
            proxy.get(path)
        proxy.clock.now += 1
        assert purge(proxy, asked) == (200, {"purged": purged})
        proxy.clock.now += 1
        assert tuple(path for path in EVERYTHING if proxy.get(path).headers["x-cache"] == "MISS") == misses


def test_a_soft_purge_deletes_nothing_but_asks_afresh_and_still_serves_when_upstream_fails(
    upstream: Upstream, tmp_path: Path
) -> None:
    with proxied(upstream, tmp_path, access__admin_token=TOKEN) as proxy:
        for path in EVERYTHING:
            proxy.get(path)
        proxy.clock.now += 1
        assert purge(proxy, {"crate": "leaf", "soft": True}) == (200, {"purged": 2})
        proxy.clock.now += 1
        assert proxy.get(INDEX).headers["x-cache"] == "REVALIDATED"
        upstream.stop()
        assert proxy.get(CRATE).headers["x-cache"] == "STALE"
        assert proxy.get("/api/v1/crates/abc").headers["x-cache"] == "HIT"


def test_a_purge_during_a_fetch_wins_over_its_result(upstream: Upstream, tmp_path: Path) -> None:
    with proxied(upstream, tmp_path, access__admin_token=TOKEN) as proxy:
        upstream.hold("api")
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            pending = pool.submit(proxy.get, CRATE)
            upstream.wait_for(1)
            proxy.clock.now += 1
            purge(proxy, {"crate": "leaf"})
            upstream.release()
            assert pending.result(5).status_code == 200
        assert proxy.get(CRATE).headers["x-cache"] == "MISS"


@pytest.mark.parametrize("token", ["", "wrong", TOKEN + "x"])
def test_without_the_token_nothing_is_purged(token: str, upstream: Upstream, tmp_path: Path) -> None:
    with proxied(upstream, tmp_path, access__admin_token=TOKEN) as proxy:
        proxy.get(CRATE)
        proxy.clock.now += 1
        assert purge(proxy, {"all": True}, token)[0] == 401
        assert proxy.get(CRATE).headers["x-cache"] == "HIT"


def test_where_no_token_is_set_nobody_can_purge_over_http(proxy: Proxied) -> None:
    status, said = purge(proxy, {"all": True})
    assert status == 403
    assert "access.admin_token" in str(said)


@pytest.mark.parametrize(
    "asked", [{}, [], {"crate": "-"}, {"endpoint": "nothing"}, {"all": False}, {"all": True, "x": 1}, {"soft": True}]
)
def test_what_cannot_be_purged_is_told(asked: object, upstream: Upstream, tmp_path: Path) -> None:
    with proxied(upstream, tmp_path, access__admin_token=TOKEN) as proxy:
        assert purge(proxy, asked)[0] == 400
        nested = proxy.client.post(
            f"{proxy.url}/-/purge", content="[" * 60000, headers={"authorization": f"Bearer {TOKEN}"}
        )
        assert nested.status_code == 400
        assert proxy.get("/-/purge").status_code == 405
        assert proxy.get("/-/other").status_code == 404
        assert proxy.ask("POST", "/-%2Fpurge", authorization=f"Bearer {TOKEN}").status_code == 400
