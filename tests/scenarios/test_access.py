"""Who may use the proxy, and what front servers are believed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.proxied import proxied
from tests.upstream import Upstream

CRATE = "/api/v1/crates/leaf"
LOCAL = ["127.0.0.0/8"]
"""The networks of these tests' own client."""


def test_a_client_of_no_allowed_network_is_refused_and_nothing_is_fetched(upstream: Upstream, tmp_path: Path) -> None:
    with proxied(upstream, tmp_path, access__networks=["192.0.2.0/24"]) as proxy:
        for method, path in (("GET", CRATE), ("GET", "/index/config.json"), ("PUT", "/api/v1/crates/new")):
            answer = proxy.ask(method, path)
            assert answer.status_code == 403
            detail = answer.json()["errors"][0]["detail"]
            assert detail == "127.0.0.1 is in none of the networks that may use this proxy (access.networks)"
            assert answer.headers["cache-control"] == "no-store"
        assert upstream.asked() == []


def test_a_client_of_an_allowed_network_is_served(upstream: Upstream, tmp_path: Path) -> None:
    with proxied(upstream, tmp_path, access__networks=["192.0.2.0/24", *LOCAL]) as proxy:
        assert proxy.get(CRATE).status_code == 200


def test_probes_are_answered_to_everybody(upstream: Upstream, tmp_path: Path) -> None:
    with proxied(upstream, tmp_path, access__networks=["192.0.2.0/24"]) as proxy:
        assert proxy.get("/healthz").status_code == 200
        assert proxy.get("/readyz").status_code == 200
        assert proxy.ask("POST", "/-/purge").status_code == 403


@pytest.mark.parametrize(
    ("forwarded", "status"),
    [("192.0.2.7", 200), ("198.51.100.7", 403), ("192.0.2.7, 198.51.100.7", 403), ("198.51.100.7, 192.0.2.7", 200)],
)
def test_behind_a_trusted_front_server_its_client_counts(
    forwarded: str, status: int, upstream: Upstream, tmp_path: Path
) -> None:
    with proxied(upstream, tmp_path, access__networks=["192.0.2.0/24"], server__trusted_proxies=LOCAL) as proxy:
        assert proxy.get(CRATE, x_forwarded_for=forwarded).status_code == status


def test_what_a_client_says_of_itself_is_not_believed(upstream: Upstream, tmp_path: Path) -> None:
    with proxied(upstream, tmp_path, access__networks=["192.0.2.0/24"]) as proxy:
        assert proxy.get(CRATE, x_forwarded_for="192.0.2.7").status_code == 403


def test_a_trusted_front_server_tells_by_which_url_it_was_asked(upstream: Upstream, tmp_path: Path) -> None:
    said = {"x_forwarded_proto": "https", "x_forwarded_host": "crates.example.org"}
    with proxied(upstream, tmp_path, server__hosts=["crates.example.org"]) as proxy:
        assert proxy.get("/index/config.json", **said).json()["api"] == proxy.url
    with proxied(upstream, tmp_path, server__hosts=["crates.example.org"], server__trusted_proxies=LOCAL) as proxy:
        assert proxy.get("/index/config.json", **said).json()["api"] == "https://crates.example.org"
        said["x_forwarded_proto"] = "gopher"
        assert proxy.get("/index/config.json", **said).json()["api"] == "http://crates.example.org"
        said["x_forwarded_host"] = "evil.example"
        assert proxy.get("/index/config.json", **said).status_code == 400


CHAINS: list[tuple[list[str], int]] = [
    (["192.0.2.7", "198.51.100.7"], 403),
    (["198.51.100.7", "192.0.2.7"], 200),
    (["198.51.100.7, 192.0.2.7", "127.0.0.9"], 200),
    (["192.0.2.7, unknown"], 403),
    (["192.0.2.7,"], 403),
    (["[::ffff:192.0.2.7]:80"], 200),
    (["198.51.100.7," * 60 + "192.0.2.7"], 200),
    (["192.0.2.7," * 60 + "198.51.100.7"], 403),
]


def test_of_a_chain_of_front_servers_the_last_that_is_not_trusted_counts(upstream: Upstream, tmp_path: Path) -> None:
    with proxied(upstream, tmp_path, access__networks=["192.0.2.0/24"], server__trusted_proxies=LOCAL) as proxy:
        for lines, status in CHAINS:
            fields = [("x-forwarded-for", line) for line in lines]
            assert proxy.client.get(proxy.url + CRATE, headers=fields).status_code == status, lines


def test_a_proxy_that_only_reads_passes_nothing_else_on(upstream: Upstream, tmp_path: Path) -> None:
    with proxied(upstream, tmp_path, access__read_only=True) as proxy:
        for method in ("PUT", "POST", "PATCH", "DELETE", "OPTIONS", "TRACE", "PURGE"):
            for path in ("/api/v1/crates/new", "/api/v1/me", CRATE, "/index/config.json", "/nothing"):
                answer = proxy.ask(method, path, authorization="cioSomebodysToken")
                assert (answer.status_code, "access.read_only" in answer.text) == (403, True)
        assert proxy.get("/index/config.json").json()["api"] == proxy.url
        assert proxy.get(CRATE).status_code == 200
    assert {asked.method for asked in upstream.asked()} == {"GET"}


def test_nothing_of_the_operators_changes_anything_without_the_token(upstream: Upstream, tmp_path: Path) -> None:
    paths = ("/-/purge", "/-/purge?token=secret", "/-/stats", "/metrics", "/readyz", "/-/", "/-/purge/all")
    tokens: list[dict[str, str]] = [
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": "secret"},
        {"cookie": "token=secret"},
    ]
    with proxied(upstream, tmp_path, access__admin_token="secret") as proxy:
        proxy.get(CRATE)
        proxy.clock.now += 1
        for method in ("GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS"):
            for path in paths:
                for fields in tokens:
                    answer = proxy.client.request(method, proxy.url + path, headers=fields, content=b'{"all": true}')
                    assert "purge" not in path or answer.status_code in (401, 404, 405)
        assert proxy.get(CRATE).headers["x-cache"] == "HIT"
