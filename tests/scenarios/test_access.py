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
