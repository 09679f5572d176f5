"""What happens is counted once, by endpoint, verdict and status; what this proxy answers about itself is not."""

from __future__ import annotations

import concurrent.futures
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.metered import Samples, metrics, stats
from tests.proxied import ManualClock, Proxied, proxied
from tests.upstream import Upstream, faults, samples
from tests.waiting import until

CRATE, INDEX, TARBALL = "/api/v1/crates/leaf", "/index/le/af/leaf", "/api/v1/crates/leaf/1.0.0/download"

PLAIN = {"accept_encoding": "identity"}  # what is counted is what travels


@pytest.fixture
def proxy(upstream: Upstream, tmp_path: Path) -> Iterator[Proxied]:
    """One that is asked once for each thing: what the tests ask again by themselves would be counted too."""
    with proxied(upstream, tmp_path, both_ways=False) as running:
        yield running


def requests(found: Samples) -> dict[tuple[str, ...], float]:
    return {tuple(labels): value for (name, *labels), value in found.items() if name == "requests_total"}


def test_each_verdict_is_counted_with_what_it_cost(proxy: Proxied, upstream: Upstream) -> None:
    sizes = [len(proxy.get(INDEX, **PLAIN).content) for _ in range(2)]  # miss, hit
    proxy.clock.now += 61
    sizes.append(len(proxy.get(INDEX, **PLAIN).content))  # revalidated
    proxy.clock.now += 61
    upstream.stop("index")
    sizes.append(len(proxy.get(INDEX, **PLAIN).content))  # stale
    assert proxy.get("/index/ab/se/absent").status_code == 502
    sizes.append(len(proxy.get("/api/v1/me", cookie=f"cargo_session={samples.SESSION}", **PLAIN).content))
    found = metrics(proxy.url)
    assert requests(found) == {
        ("index", "200", "miss"): 1,
        ("index", "200", "hit"): 1,
        ("index", "200", "revalidated"): 1,
        ("index", "200", "stale"): 1,
        ("index", "502", "miss"): 1,
        ("private", "200", "pass"): 1,
    }
    assert found.total("request_seconds_count") == 6
    assert found["upstream_requests_total", "index", "200"] == 1
    assert found["upstream_requests_total", "index", "304"] == 1
    assert found["upstream_requests_total", "index", "000"] >= 2
    assert found["upstream_requests_total", "api", "200"] == 1
    assert found["upstream_seconds_count", "api"] == 1
    error = len(proxy.get("/index/ab/se/absent").content)
    assert found["bytes_total", "served"] == sum(sizes) + error
    assert found["bytes_total", "fetched"] > 0
    told = stats(proxy.url)
    assert told["requests"] == {"hit": 1, "stale": 1, "revalidated": 1, "miss": 3, "pass": 1}
    assert told["endpoints"]["index"]["upstream"]["requests"] >= 4


def test_own_routes_and_what_has_no_row_are_no_endpoints(proxy: Proxied) -> None:
    for path in ("/healthz", "/readyz", "/metrics", "/-/stats", "/index/config.json", "/nothing", "/api/v1//x"):
        proxy.get(path)
    assert requests(metrics(proxy.url)) == {}


def test_a_crowd_is_one_request_upstream_and_the_rest_of_it_is_collapsed(proxy: Proxied, upstream: Upstream) -> None:
    upstream.hold()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(proxy.get, CRATE) for _ in range(8)]
        upstream.wait_for()
        for _ in range(50):  # meanwhile the others come in; one that came later would find it stored
            proxy.get("/healthz")
        upstream.release()
        answers = [future.result() for future in waiting]
    collapsed = sum("collapsed" in answer.headers["cache-status"] for answer in answers)
    found = metrics(proxy.url)
    assert found.total("collapsed_total", "crate") == collapsed > 0
    assert found["upstream_requests_total", "api", "200"] == 1
    assert stats(proxy.url)["endpoints"]["crate"]["upstream"] == {"requests": 1, "avoided": 7}


def test_head_and_not_modified_send_no_bytes(proxy: Proxied) -> None:
    etag = proxy.get(INDEX).headers["etag"]
    before = metrics(proxy.url)["bytes_total", "served"]
    assert proxy.get(INDEX, if_none_match=etag).status_code == 304
    assert proxy.ask("HEAD", INDEX).status_code == 200
    found = metrics(proxy.url)
    assert found["bytes_total", "served"] == before
    assert requests(found)["index", "304", "hit"] == 1


def test_a_wrong_checksum_is_counted_and_so_is_a_file_that_was_damaged(upstream: Upstream, tmp_path: Path) -> None:
    # What is in memory cannot be damaged on the disk.
    with proxied(upstream, tmp_path, both_ways=False, cache__memory=0) as proxy:
        assert metrics(proxy.url)["checksum_failures_total",] == 0
        upstream.fault("static", faults.Corrupt(), times=1)
        assert proxy.get(TARBALL).status_code == 502
        assert metrics(proxy.url)["checksum_failures_total",] == 1
        assert proxy.get(TARBALL).status_code == 200
        whole = proxy.get(TARBALL).content
        files = [path for path in (proxy.directory / "tarballs").rglob("*") if path.is_file()]
        (stored,) = [path for path in files if path.read_bytes() == whole]
        stored.write_bytes(b"cut")
        assert proxy.get(TARBALL).headers["x-cache"] == "MISS"
        assert metrics(proxy.url)["checksum_failures_total",] == 2


def test_what_is_stored_is_told_for_each_store(proxy: Proxied) -> None:
    for path in (CRATE, INDEX, TARBALL):
        size = len(proxy.get(path).content)
    found = metrics(proxy.url)
    for store in ("memory", "json", "index", "tarball"):
        assert found["store_entries", store] == (2 if store == "memory" else 1)
        assert found["store_bytes", store] > 0
    assert found["store_bytes", "tarball"] == size
    told = {row["store"]: row for row in stats(proxy.url)["stores"]}
    assert set(told) == {"memory", "json", "index", "tarball"}
    for name, row in told.items():
        assert (row["entries"], row["bytes"]) == (found["store_entries", name], found["store_bytes", name])
        assert row["max_bytes"] > 0


def test_what_gave_way_is_counted_by_its_store(upstream: Upstream, tmp_path: Path) -> None:
    with proxied(
        upstream, tmp_path, both_ways=False, cache__memory="100KiB", cache__max_size="1KiB", cache__max_object="1KiB"
    ) as proxy:
        for number in range(20):
            assert proxy.get(f"/api/v1/crates?q=leaf&page={number + 1}").status_code == 200
        proxy.get(TARBALL)  # now the cache is measured, and far above its size

        def all_gave_way() -> bool:
            found = metrics(proxy.url)
            return all(found["evictions_total", store] >= 1 for store in ("memory", "json", "index", "tarball"))

        until(all_gave_way)  # it is trimmed behind the answer


def test_a_store_that_fails_is_counted_and_the_answer_comes_all_the_same(
    proxy: Proxied, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    shutil.rmtree(proxy.directory / "json")
    (proxy.directory / "json").write_text("no directory")
    assert proxy.get(CRATE).status_code == 200
    assert metrics(proxy.url)["store_errors_total", "json"] >= 1


def test_the_day_rolls_at_midnight_utc(upstream: Upstream, tmp_path: Path) -> None:
    clock = ManualClock(1_700_006_399.0)  # 2023-11-14T23:59:59Z
    with proxied(upstream, tmp_path, clock, both_ways=False) as proxy:
        proxy.get(INDEX)
        proxy.get(INDEX)
        assert list(stats(proxy.url)["days"]) == ["2023-11-14"]
        clock.now += 1
        proxy.get(INDEX)
        told = stats(proxy.url)
        assert {day: sum(row["requests"].values()) for day, row in told["days"].items()} == {
            "2023-11-14": 2,
            "2023-11-15": 1,
        }
        assert told["days"]["2023-11-15"]["endpoints"]["index"]["upstream"] == {"requests": 0, "avoided": 1}


def test_the_book_outlives_the_server(upstream: Upstream, tmp_path: Path) -> None:
    with proxied(upstream, tmp_path, both_ways=False) as proxy:
        proxy.get(CRATE)
        proxy.get(CRATE)
        first = stats(proxy.url)
    with proxied(upstream, tmp_path, ManualClock(1_700_000_100.0), both_ways=False) as proxy:
        again = stats(proxy.url)
        assert {**again, "stores": []} == {**first, "stores": []}
        proxy.get(CRATE)
        assert stats(proxy.url)["requests"]["hit"] == 2


def test_clients_go_by_the_header_else_by_their_network_and_a_flood_of_labels_is_bounded(
    upstream: Upstream, tmp_path: Path
) -> None:
    networks = {"127.0.0.0/8": "loopback"}
    with proxied(
        upstream, tmp_path, both_ways=False, stats__client_header="X-Project", stats__clients=networks
    ) as proxy:
        proxy.get(CRATE)
        proxy.get(CRATE, x_project="payments")
        proxy.get(CRATE, x_project='evil"\t} 1')
        clients = stats(proxy.url)["clients"]
        assert clients["loopback"]["requests"]["miss"] == 1
        assert clients["payments"]["upstream"] == {"avoided": 1}
        assert clients["payments"]["bytes"]["avoided"] == clients["payments"]["bytes"]["served"] > 0
        assert set(clients) == {"loopback", "payments", "evil_ 1"}
        for number in range(400):
            proxy.get(CRATE, x_project=f"flood-{number}")
        clients = stats(proxy.url)["clients"]
        assert len(clients) <= 201
        assert sum(sum(row["requests"].values()) for row in clients.values()) == 403
        assert clients["(others)"]["requests"]["hit"] >= 200
