"""Tarballs: verified, fetched once, never wrong; what goes wrong upstream and what the client then sees."""

from __future__ import annotations

import concurrent.futures
import hashlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.proxied import Proxied, proxied
from tests.upstream import Registry, Source, Upstream, faults, samples

PLAIN = "/api/v1/crates/leaf/1.0.0/download"
TARBALL = "/crates/leaf/leaf-1.0.0.crate"
BIG_SIZE = 600_000


def checksum(upstream: Upstream, name: str, version: str) -> str:
    return str(upstream.registry.release(name, version).line["cksum"])


def by_checksum(upstream: Upstream, name: str = "leaf", version: str = "1.0.0") -> str:
    return f"/files/crates/{name}/{version}/{checksum(upstream, name, version)}/download"


def files_below(proxy: Proxied) -> list[Path]:
    return [path for path in (proxy.directory / "tarballs").rglob("*") if path.is_file() and len(path.name) == 62]


@pytest.fixture
def big(tmp_path: Path) -> Iterator[tuple[Proxied, Upstream]]:
    """A proxy before a registry with a tarball of several pieces, which does not compress."""
    noise = "".join(f"// {os.urandom(60).hex()}\n" for _ in range(BIG_SIZE // 62))
    registry = samples.registry()
    registry.add(Source("big", "1.0.0", code=noise), samples.OWNER)
    with Upstream.running(registry) as upstream, proxied(upstream, tmp_path) as proxy:
        yield proxy, upstream


def test_every_route_gives_the_same_verified_file_and_costs_one_fetch(proxy: Proxied, upstream: Upstream) -> None:
    tarball = upstream.registry.release("leaf", "1.0.0").tarball
    routes = [by_checksum(upstream), PLAIN, "/files/crates/leaf/leaf-1.0.0.crate", "/api/v1/crates/LEAF/1.0.0/download"]
    answers = [proxy.get(route) for route in routes]
    assert [answer.content for answer in answers] == [tarball] * 4
    assert [answer.headers["x-cache"] for answer in answers] == ["MISS", "HIT", "HIT", "HIT"]
    assert {answer.headers["etag"] for answer in answers} == {f'"{hashlib.sha256(tarball).hexdigest()}"'}
    assert answers[0].headers["cache-control"] == "public, max-age=31536000, immutable"
    assert [asked.target for asked in upstream.asked(host="static")] == [TARBALL]
    assert not upstream.asked(host="api")


def test_a_plus_in_a_version_stays_one_however_it_is_written(proxy: Proxied, upstream: Upstream) -> None:
    tarball = upstream.registry.release("meta-build", "1.0.0+b1").tarball
    for version in ("1.0.0+b1", "1.0.0%2Bb1"):
        assert proxy.get(f"/api/v1/crates/meta-build/{version}/download").content == tarball
        assert proxy.get(f"/files/crates/meta-build/meta-build-{version}.crate").content == tarball
    assert len(upstream.asked(host="static")) == 1


def test_a_client_that_accepts_json_is_given_an_address_of_this_proxy(proxy: Proxied, upstream: Upstream) -> None:
    answer = proxy.get("/api/v1/crates/meta-build/1.0.0+b1/download", accept="application/json")
    assert answer.headers["vary"] == "accept"
    url = answer.json()["url"]
    assert url == f"{proxy.url}/files/crates/meta-build/meta-build-1.0.0%2Bb1.crate"
    assert httpx.get(url).content == upstream.registry.release("meta-build", "1.0.0+b1").tarball
    readme = proxy.get("/api/v1/crates/leaf/1.0.0/readme", accept="application/json").json()["url"]
    assert readme == f"{proxy.url}/files/readmes/leaf/leaf-1.0.0.html"
    assert httpx.get(readme).headers["content-security-policy"] == "sandbox"


def test_a_checksum_that_the_index_does_not_give_is_answered_with_404_and_fetches_nothing(
    proxy: Proxied, upstream: Upstream
) -> None:
    answer = proxy.get(f"/files/crates/leaf/1.0.0/{'0' * 64}/download")
    assert answer.status_code == 404
    assert "leaf" in answer.json()["errors"][0]["detail"]
    assert not upstream.asked(host="static")


def test_a_checksum_of_another_crate_is_not_served_and_does_that_crate_no_harm(
    proxy: Proxied, upstream: Upstream
) -> None:
    proxy.get(PLAIN)
    foreign = f"/files/crates/abc/1.0.0/{checksum(upstream, 'leaf', '1.0.0')}/download"
    assert proxy.get(foreign).status_code == 404
    assert proxy.get(by_checksum(upstream)).headers["x-cache"] == "HIT"


def test_a_checksum_newer_than_the_stored_index_file_makes_the_index_be_asked_once(
    proxy: Proxied, upstream: Upstream
) -> None:
    assert proxy.get("/index/le/af/leaf").status_code == 200
    upstream.registry.add(Source("leaf", "3.0.0"), samples.OWNER)
    proxy.clock.now += 20
    assert proxy.get(by_checksum(upstream, "leaf", "3.0.0")).status_code == 200
    assert len(upstream.asked(host="index")) == 2


def test_an_old_index_file_proves_no_absence_while_upstream_is_down(proxy: Proxied, upstream: Upstream) -> None:
    proxy.get("/index/le/af/leaf")
    upstream.stop()
    proxy.clock.now += 100
    answer = proxy.get("/api/v1/crates/leaf/9.9.9/download")
    assert answer.status_code == 502
    assert "leaf 9.9.9" in answer.json()["errors"][0]["detail"]


def test_a_version_that_does_not_exist_is_404(proxy: Proxied, upstream: Upstream) -> None:
    answer = proxy.get("/api/v1/crates/leaf/9.9.9/download")
    assert answer.status_code == 404
    assert answer.json()["errors"][0]["detail"] == "crate `leaf` does not have a version `9.9.9`"
    assert proxy.get("/api/v1/crates/nope/1.0.0/download").status_code == 404
    assert not upstream.asked(host="static")


def test_a_yanked_version_stays_served(proxy: Proxied) -> None:
    assert proxy.get("/api/v1/crates/leaf/1.2.0/download").status_code == 200


def test_what_the_static_host_does_not_have_is_403_there_and_404_here_and_asked_again_after_half_a_minute(
    proxy: Proxied, upstream: Upstream
) -> None:
    upstream.fault(f"static GET {TARBALL}", faults.Status(403, (), b"<Error><Code>AccessDenied</Code></Error>"))
    assert proxy.get(PLAIN).status_code == 404
    assert proxy.get(PLAIN).status_code == 404
    assert len(upstream.asked(host="static")) == 1
    upstream.heal()
    proxy.clock.now += 31
    assert proxy.get(PLAIN).status_code == 200


def test_a_part_of_a_file_is_served_from_the_whole(proxy: Proxied, upstream: Upstream) -> None:
    tarball = upstream.registry.release("leaf", "1.0.0").tarball
    cold = proxy.get(PLAIN, range="bytes=10-19")
    assert (cold.status_code, cold.content) == (206, tarball[10:20])
    assert cold.headers["content-range"] == f"bytes 10-19/{len(tarball)}"
    assert proxy.get(PLAIN, range="bytes=-5").content == tarball[-5:]
    assert proxy.get(PLAIN, range="bytes=0-1,3-4").content == tarball
    assert proxy.get(PLAIN, range="bytes=0-1", if_range='"other"').content == tarball
    past = proxy.get(PLAIN, range=f"bytes={len(tarball)}-")
    assert (past.status_code, past.headers["content-range"]) == (416, f"bytes */{len(tarball)}")
    assert len(upstream.asked(host="static")) == 1


def test_head_tells_the_size_and_fetches_no_file(proxy: Proxied, upstream: Upstream) -> None:
    size = len(upstream.registry.release("leaf", "1.0.0").tarball)
    cold = proxy.ask("HEAD", PLAIN)
    assert (cold.status_code, cold.headers["content-length"], cold.content) == (200, str(size), b"")
    assert not upstream.asked(host="static", method="GET")
    proxy.get(PLAIN)
    warm = proxy.ask("HEAD", PLAIN)
    assert (warm.headers["content-length"], warm.headers["x-cache"]) == (str(size), "HIT")


def test_a_client_that_has_the_file_is_told_so(proxy: Proxied) -> None:
    tag = proxy.get(PLAIN).headers["etag"]
    answer = proxy.get(PLAIN, if_none_match=tag)
    assert (answer.status_code, answer.content) == (304, b"")
    assert proxy.get(PLAIN, if_none_match='"other"').status_code == 200


@pytest.mark.parametrize(
    "fault",
    [
        faults.Corrupt(),
        faults.Corrupt(at=-1),
        faults.Truncate(faults.At.HEAD),
        faults.Truncate(faults.At.START),
        faults.Truncate(faults.At.MIDDLE),
        faults.Truncate(faults.At.LAST_BYTE),
        faults.Truncate(faults.At.LAST_CHUNK),
        faults.Reset(),
        faults.Reset(after=100),
        faults.Garbage(),
        faults.Length(1),
        faults.Length(-1),
        faults.Gzip(),
        faults.Status(500),
    ],
    ids=repr,
)
@pytest.mark.parametrize("name", ["leaf", "big"])
def test_wrong_bytes_are_never_stored_and_never_look_whole(
    name: str, fault: faults.Fault, big: tuple[Proxied, Upstream]
) -> None:
    proxy, upstream = big
    tarball = upstream.registry.release(name, "1.0.0").tarball
    upstream.fault(f"static GET /crates/{name}", fault)
    try:
        answer = proxy.get(f"/api/v1/crates/{name}/1.0.0/download")
    except httpx.TransportError:
        pass  # broken off: the client saw that it was not the whole
    else:
        assert answer.status_code == 502
        assert name in answer.json()["errors"][0]["detail"]
    assert not files_below(proxy)
    upstream.heal()
    healed = proxy.get(f"/api/v1/crates/{name}/1.0.0/download")
    assert healed.content == tarball
    assert len(files_below(proxy)) == 1


def test_a_stored_file_tells_its_age_and_stays_fresh_for_ever(proxy: Proxied, upstream: Upstream) -> None:
    proxy.get(by_checksum(upstream))
    proxy.clock.now += 40 * 86400
    answer = proxy.get(by_checksum(upstream))
    assert (answer.headers["age"], answer.headers["x-cache"]) == (str(40 * 86400), "HIT")
    assert answer.headers["cache-status"] == "crates-proxy; hit; ttl=31536000"


@pytest.mark.parametrize("fault", [faults.Chunked(), faults.CloseDelimited()], ids=repr)
def test_a_file_without_a_length_is_served_and_stored_since_its_checksum_proves_it(
    fault: faults.Fault, proxy: Proxied, upstream: Upstream
) -> None:
    upstream.fault("static", fault)
    assert proxy.get(PLAIN).content == upstream.registry.release("leaf", "1.0.0").tarball
    assert proxy.get(PLAIN).headers["x-cache"] == "HIT"


def test_the_first_bytes_leave_before_the_last_have_come(big: tuple[Proxied, Upstream]) -> None:
    proxy, upstream = big
    upstream.fault("static GET /crates/big", faults.Slow(rate=400_000))
    tarball = upstream.registry.release("big", "1.0.0").tarball
    with proxy.client.stream("GET", f"{proxy.url}/api/v1/crates/big/1.0.0/download") as answer:
        pieces = answer.iter_raw()
        received = next(pieces)
        assert not files_below(proxy)
        assert answer.headers["content-length"] == str(len(tarball))
        received += b"".join(pieces)
    assert received == tarball


def test_a_crowd_at_one_cold_file_is_one_fetch(big: tuple[Proxied, Upstream]) -> None:
    proxy, upstream = big
    upstream.hold("static")
    with concurrent.futures.ThreadPoolExecutor(30) as pool:
        asked = [pool.submit(httpx.get, f"{proxy.url}/api/v1/crates/big/1.0.0/download") for _ in range(30)]
        upstream.wait_for(1, host="static")
        upstream.release()
        answers = [each.result(20) for each in asked]
    assert {answer.content for answer in answers} == {upstream.registry.release("big", "1.0.0").tarball}
    assert len(upstream.asked(host="static")) == 1
    assert sum("collapsed" in answer.headers["cache-status"] for answer in answers) >= 1


def test_a_client_that_leaves_takes_nobody_along(big: tuple[Proxied, Upstream]) -> None:
    proxy, upstream = big
    upstream.hold("static")
    address = urlsplit(proxy.url)
    with socket.create_connection((address.hostname or "", address.port or 0)) as leaver:
        leaver.sendall(b"GET /api/v1/crates/big/1.0.0/download HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        upstream.wait_for(1, host="static")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        asked = pool.submit(httpx.get, f"{proxy.url}/api/v1/crates/big/1.0.0/download")
        upstream.release()
        assert asked.result(20).content == upstream.registry.release("big", "1.0.0").tarball
    assert len(upstream.asked(host="static")) == 1


def test_a_file_too_large_for_the_cache_is_checked_and_passed_on(tmp_path: Path) -> None:
    with Upstream.running() as upstream, proxied(upstream, tmp_path, cache__max_object=100) as proxy:
        tarball = upstream.registry.release("leaf", "1.0.0").tarball
        assert [proxy.get(PLAIN).content for _ in range(2)] == [tarball] * 2
        assert len(upstream.asked(host="static")) == 2
        assert not files_below(proxy)
        upstream.fault("static", faults.Corrupt())
        assert proxy.get(PLAIN).status_code == 502


def test_a_disk_without_room_passes_files_on_and_recovers(tmp_path: Path) -> None:
    with Upstream.running() as upstream:
        tarball = upstream.registry.release("leaf", "1.0.0").tarball
        with proxied(upstream, tmp_path, cache__min_free=1 << 50) as full:
            for _ in range(2):
                answer = full.get(PLAIN)
                assert (answer.status_code, answer.content) == (200, tarball)
            upstream.fault("static", faults.Corrupt())
            assert full.get(PLAIN).status_code == 502
            upstream.heal()
            assert not files_below(full)
        with proxied(upstream, tmp_path) as roomy:
            assert [roomy.get(PLAIN).headers["x-cache"] for _ in range(2)] == ["MISS", "HIT"]


def test_head_too_remembers_what_the_static_host_does_not_have(proxy: Proxied, upstream: Upstream) -> None:
    upstream.fault(lambda request: request.host == "static", faults.Status(403))
    assert [proxy.ask(method, PLAIN).status_code for method in ("HEAD", "HEAD", "GET", "HEAD")] == [404] * 4
    assert len(upstream.asked(host="static")) == 1


def test_a_version_published_anew_with_other_bytes_is_another_file(proxy: Proxied, upstream: Upstream) -> None:
    old = proxy.get(PLAIN).content
    with upstream.registry.lock:
        del upstream.registry.packages["leaf"]
    upstream.registry.add(Source("leaf", "1.0.0", code="pub fn other() {}\n"), samples.OWNER)
    proxy.clock.now += 61
    new = proxy.get(PLAIN)
    assert new.content == upstream.registry.release("leaf", "1.0.0").tarball != old


def test_a_registry_without_index_files_has_no_downloads(tmp_path: Path) -> None:
    with Upstream.running(Registry()) as upstream, proxied(upstream, tmp_path) as proxy:
        assert proxy.get(PLAIN).status_code == 404
