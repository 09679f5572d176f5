"""The dashboard as a client without JavaScript gets it: what the pages hold, for whom, and what they never hold.

How they look and what their scripts do is tried in a browser, in tests/e2e.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.metered import metrics, stats
from tests.proxied import ManualClock, Proxied, proxied
from tests.redis_server import redis_server
from tests.upstream import Registry, Source, Upstream, faults

CRATE, INDEX, TARBALL = "/api/v1/crates/leaf", "/index/le/af/leaf", "/api/v1/crates/leaf/1.0.0/download"
PAGES = ("/", "/search", "/setup", "/crates/leaf", "/crates/absent")
TOKEN = "admin-token-of-these-tests"
EVIL = "<script>alert(1)</script>&\"'"


@pytest.fixture
def proxy(upstream: Upstream, tmp_path: Path) -> Iterator[Proxied]:
    with proxied(upstream, tmp_path, both_ways=False) as running:
        yield running


class Elements(HTMLParser):
    """Every element of a page with its attributes, and the text of scripts and styles that stand in it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.inside: list[str] = []
        self._open = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._open = tag

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open in ("script", "style") and data.strip():
            self.inside.append(data)


def figures(page: str) -> dict[str, float]:
    """The figures that a page tells exactly."""
    elements = Elements(page).found
    return {
        str(attributes["data-figure"]): float(attributes["data-value"] or 0)
        for _, attributes in elements
        if attributes.get("data-figure") and attributes.get("data-value") is not None
    }


def text(page: str) -> str:
    """What a reader sees, near enough."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page.partition("<main")[2])).split())


def used(proxy: Proxied) -> None:
    for path in (INDEX, INDEX, INDEX, CRATE, CRATE, TARBALL, TARBALL, "/api/v1/crates?q=leaf", "/index/3/a/abc"):
        assert proxy.get(path).status_code == 200, path
    assert proxy.get("/api/v1/crates/absent").status_code == 404


def test_a_page_holds_no_script_and_no_style_and_names_no_other_host(proxy: Proxied) -> None:
    used(proxy)
    for path in PAGES:
        _sound(proxy, proxy.get(path))


def _sound(proxy: Proxied, answer: httpx.Response) -> None:
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert "unsafe" not in answer.headers["content-security-policy"]
    elements = Elements(answer.text)
    assert elements.inside == []
    for tag, attributes in elements.found:
        assert tag != "style" and "style" not in attributes, (tag, attributes)
        assert not [name for name in attributes if name.startswith(("on", "hx-on", "data-hx-on"))], (tag, attributes)
        for name in ("src", "href", "action"):
            target = attributes.get(name)
            assert target is None or (target.startswith(("/", "#")) and not target.startswith("//")), (tag, attributes)
        if tag in ("script", "link", "img"):
            asset = proxy.get(str(attributes.get("src") or attributes.get("href")))
            assert asset.status_code == 200
            assert asset.headers["cache-control"] == "public, max-age=31536000, immutable"


def test_assets_are_revalidated_where_their_version_is_not_named(proxy: Proxied) -> None:
    whole = proxy.get("/assets/dashboard.js")
    assert (whole.status_code, whole.headers["cache-control"]) == (200, "no-cache")
    assert whole.headers["content-type"] == "text/javascript; charset=utf-8"
    assert proxy.get("/assets/dashboard.js?v=another").headers["cache-control"] == "no-cache"
    same = proxy.get("/assets/dashboard.js", if_none_match=whole.headers["etag"])
    assert (same.status_code, same.content) == (304, b"")
    for name in ("absent.js", "%2e%2e%2fpages.py", "__init__.py"):
        assert proxy.get(f"/assets/{name}").status_code in (400, 404)


def test_the_licences_of_what_comes_from_elsewhere_are_there(proxy: Proxied) -> None:
    told = proxy.get("/assets/LICENSES.txt").text
    for word in ("Zero-Clause BSD", "MIT License", "Leon Sorokin"):
        assert word in told
    for name, file in (("htmx.org", "htmx.min.js"), ("uplot", "uplot.min.js")):
        version = re.search(rf"{name} (\d+\.\d+\.\d+)", told)
        assert version is not None and version[1] in proxy.get(f"/assets/{file}").text


def test_head_tells_what_get_would(proxy: Proxied) -> None:
    for path in (*PAGES, "/history", "/assets/icon.svg"):
        whole, head = proxy.get(path), proxy.ask("HEAD", path)
        assert (head.status_code, head.content) == (200, b"")
        lengths = [int(answer.headers.pop("content-length")) for answer in (whole, head)]
        assert lengths[0] == len(whole.content) and abs(lengths[1] - lengths[0]) < 100  # figures have changed
        assert {**head.headers, "date": ""} == {**whole.headers, "date": ""}


def test_pages_are_only_read(proxy: Proxied) -> None:
    for path in (*PAGES, "/history"):
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            answer = proxy.ask(method, path)
            assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD"), (method, path)


def test_a_fresh_proxy_says_what_to_do(proxy: Proxied) -> None:
    page = proxy.get("/").text
    assert "Nothing was asked for yet" in page and 'href="/setup"' in page
    assert set(figures(page).values()) <= {0.0, 1000.0}
    assert "Nothing is stored yet" in proxy.get("/search").text
    assert "Nothing is stored of it" in proxy.get("/crates/leaf").text


def test_the_figures_are_those_of_the_metrics_and_of_the_stats(proxy: Proxied) -> None:
    used(proxy)
    shown, counted, told = figures(proxy.get("/").text), metrics(proxy.url), stats(proxy.url)
    assert shown["requests"] == counted.total("requests_total") == 10
    assert shown["bytes_served"] == counted["bytes_total", "served"]
    assert shown["bytes_fetched"] == counted["bytes_total", "fetched"]
    assert shown["upstream_requests"] == counted.total("upstream_requests_total")
    assert shown["bytes_avoided"] == told["bytes"]["avoided"]
    assert shown["upstream_avoided"] == told["upstream"]["avoided"]
    assert shown["budget"] == counted["upstream_budget",]
    for store in ("json", "index", "tarball", "memory"):
        assert shown[f"entries_{store}"] == counted["store_entries", store]
    seen = text(proxy.get("/").text)
    assert "leaf 7 " in seen, seen  # what was answered the short way counts too
    assert "abc 1 " in seen and "absent" not in seen
    assert "crate 3 66.7 %" not in seen and "index 4 50 %" in seen.replace("50.0", "50")


def test_the_history_counts_what_was_answered_either_way(proxy: Proxied) -> None:
    used(proxy)
    for span in ("hours", "days", "month", "", "<b>"):
        answer = proxy.get(f"/history?span={span}")
        assert (answer.headers["content-type"], answer.headers["cache-control"]) == ("application/json", "no-store")
        found = answer.json()
        series = {each["name"]: each["ratios"] for each in found["series"]}
        assert set(series) == {"all", "index", "crate", "download", "search"}
        assert series["index"][-1] == 0.5 and series["download"][-1] == 0.5
        assert {len(values) for values in series.values()} == {len(found["times"])}
        assert found["times"][-1] <= proxy.clock.now and found["requests"][-1] == 10


def test_a_crate_is_shown_with_all_that_is_stored_of_it(upstream: Upstream, tmp_path: Path) -> None:
    with proxied(upstream, tmp_path, both_ways=False) as proxy:
        used(proxy)
        for spelling in ("leaf", "LEAF"):
            seen = text(proxy.get(f"/crates/{spelling}").text)
            assert "leaf 1 tarball" in seen and "of 4 versions that the index has" in seen
            assert "/le/af/leaf just now in 1 min for ever when room is needed" in seen
            assert "crate /api/v1/crates/leaf just now in 5 min 30 d in 365 d" in seen
            assert "3 versions without a stored tarball 2.0.0-beta.1 1.2.0 1.1.0" in seen
        assert '<span class="yanked" title="yanked">1.2.0</span>' in proxy.get("/crates/leaf").text
        proxy.clock.now += 400
        seen = text(proxy.get("/crates/leaf").text)
        assert "crate /api/v1/crates/leaf 6 min ago with the next request 29 d" in seen
        assert "1.0.0 " in seen and "6 min ago 6 min ago" in seen


def test_names_with_dashes_and_underscores_are_one_crate(proxy: Proxied) -> None:
    assert proxy.get("/index/mi/xe/mixed_name-rs").status_code == 200
    assert proxy.get("/api/v1/crates/mixed-name-rs").status_code == 200
    for spelling in ("mixed-name-rs", "Mixed_Name-rs", "mixed_name_rs"):
        page = proxy.get(f"/crates/{spelling}").text
        assert "<h1>Mixed_Name-rs</h1>" in page and "/mi/xe/mixed_name-rs" in page
        assert 'href="/crates/mixed_name-rs"' in proxy.get(f"/search?q={spelling[:7]}").text


def test_a_purge_is_seen_at_once(upstream: Upstream, tmp_path: Path) -> None:
    with proxied(upstream, tmp_path, both_ways=False, access__admin_token=TOKEN) as proxy:
        used(proxy)
        page = proxy.get("/crates/leaf").text
        assert TOKEN not in page and 'data-purge="leaf"' in page
        form = next(
            attributes for tag, attributes in Elements(page).found if tag == "form" and "data-purge" in attributes
        )
        assert "action" not in form and "hidden" in form
        assert all("name" not in attributes for tag, attributes in Elements(page).found if tag == "input")
        assert f"{proxy.url}/-/purge" in page  # how to do it without JavaScript
        fields = {"authorization": f"Bearer {TOKEN}"}
        assert proxy.client.post(f"{proxy.url}/-/purge", json={"crate": "leaf"}, headers=fields).status_code == 200
        assert "Nothing is stored of it" in proxy.get("/crates/leaf").text


def test_without_an_admin_token_there_is_no_form(proxy: Proxied) -> None:
    used(proxy)
    page = proxy.get("/crates/leaf").text
    assert "data-purge" not in page and "crates-proxy purge --crate leaf" in page and "access.admin_token" in page


def test_what_is_no_crates_name_is_not_found(proxy: Proxied) -> None:
    for name in ("%3Cscript%3E", "9a", "a%22b", "a" * 65):
        answer = proxy.get(f"/crates/{name}")
        assert answer.status_code == 404
        assert answer.headers["content-type"].startswith("text/html") and "<script>" not in answer.text
        assert "<h1>" in answer.text


HOSTILE = (
    "q=%3Cscript%3Ealert(1)%3C%2Fscript%3E",
    "q=%22%20onfocus%3Dalert(1)%20x%3D%22",
    "q=%27%20OR%201%3D1%20--",
    "q=%25",
    "q=" + "a" * 5000,
    "q=%F0%9F%A6%80",
    "q=leaf&after=%27%3B--",
    "q=leaf&after=zzz",
)


def test_a_hostile_search_finds_nothing_and_is_shown_as_text(proxy: Proxied) -> None:
    used(proxy)
    for query in HOSTILE:
        answer = proxy.get(f"/search?{query}")
        assert answer.status_code == 200
        elements = Elements(answer.text)
        assert elements.inside == [] and "<script>alert" not in answer.text
        assert not [attributes for _, attributes in elements.found if "onfocus" in attributes]
        assert 'href="/crates/' not in answer.text, query
    assert 'href="/crates/' in proxy.get("/search?q=&q=&after=&x=1").text


def test_a_huge_search_is_refused(proxy: Proxied) -> None:
    assert proxy.get("/search?q=" + "a" * 20_000).status_code == 414


def test_results_come_in_pages(tmp_path: Path) -> None:
    registry = Registry()
    for number in range(120):
        registry.add(Source(f"crate-{number:03}", "1.0.0"))
    with Upstream.running(registry) as upstream, proxied(upstream, tmp_path, both_ways=False) as proxy:
        for number in range(120):
            assert proxy.get(f"/index/cr/at/crate-{number:03}").status_code == 200
        found: list[str] = []
        path = "/search?q=crate"
        pages = 0
        while path:
            page = proxy.get(path).text
            found += re.findall(r'href="/crates/(crate-\d+)"', page)
            following = re.search(r'<a href="([^"]*)">Next</a>', page)
            path = html.unescape(following[1]) if following else ""
            pages += 1
        assert found == [f"crate-{number:03}" for number in range(120)] and pages == 3
        assert re.findall(r'href="/crates/(crate-\d+)"', proxy.get("/search?q=E_11").text) == [
            f"crate-{number}" for number in range(110, 120)
        ]


def test_a_host_that_is_not_ours_gets_no_figure(proxy: Proxied) -> None:
    used(proxy)
    for host in ("evil.example", EVIL.replace(" ", ""), "localhost.evil.example", ""):
        for path in (*PAGES, "/history"):
            answer = proxy.get(path, host=host)
            assert answer.status_code == 400
            assert "data-figure" not in answer.text and "<script>alert" not in answer.text
            assert host != "evil.example" or ("server.public_url" in answer.text and "server.hosts" in answer.text)


def test_set_up_names_the_address_by_which_it_was_asked_or_the_one_that_is_set(
    upstream: Upstream, tmp_path: Path
) -> None:
    with proxied(
        upstream, tmp_path / "a", server__hosts=["crates.lan"], server__trusted_proxies=["127.0.0.0/8"]
    ) as proxy:
        assert f'registry = "sparse+{proxy.url}/index/"' in html.unescape(proxy.get("/setup").text)
        said = {"x_forwarded_proto": "https", "x_forwarded_host": "crates.lan"}
        assert 'registry = "sparse+https://crates.lan/index/"' in html.unescape(proxy.get("/setup", **said).text)
        assert proxy.get("/setup", x_forwarded_host="evil.example").status_code == 400
    with proxied(upstream, tmp_path / "b", server__public_url="https://crates.example.org") as proxy:
        page = html.unescape(proxy.get("/setup", host="whatever.example").text)
        assert 'registry = "sparse+https://crates.example.org/index/"' in page and "whatever" not in page


def test_a_client_of_no_allowed_network_sees_nothing(upstream: Upstream, tmp_path: Path) -> None:
    with proxied(upstream, tmp_path, access__networks=["192.0.2.0/24"]) as proxy:
        for path in (*PAGES, "/history", "/assets/dashboard.js"):
            assert proxy.get(path).status_code == 403


def test_modes_are_shown(upstream: Upstream, tmp_path: Path) -> None:
    lock = tmp_path / "Cargo.lock"
    lock.write_text("version = 4\n")
    given: dict[str, Any] = {"access__read_only": True, "upstream__follow_feed": True, "cache__pinned": [str(lock)]}
    with proxied(upstream, tmp_path / "a", **given) as proxy:
        page = proxy.get("/").text
        assert ">read-only<" in page and ">follows the feed<" in page and ">1 pinned lock file<" in page
        assert ">offline<" not in page
        assert proxy.ask("POST", "/").status_code == 405
    with proxied(upstream, tmp_path / "b", upstream__offline=True) as proxy:
        assert proxy.get(INDEX).status_code == 504
        page = proxy.get("/").text
        assert ">offline<" in page and "not asked" in page
        seen = text(page)
        assert "index 504" in seen and "crates-proxy warm" in seen


def test_a_trouble_is_shown_with_what_to_do_and_as_text(upstream: Upstream, tmp_path: Path) -> None:
    with proxied(upstream, tmp_path, both_ways=False) as proxy:
        words = b'{"errors":[{"detail":"slow down `<img src=x onerror=alert(1)>`"}]}'
        upstream.fault("api", faults.Status(429, (("retry-after", "120"),), words))
        for number in range(3):
            assert proxy.get(f"/api/v1/crates/abc?page={number}").status_code == 429
        upstream.stop("index")
        assert proxy.get(INDEX).status_code == 502
        page = proxy.get("/").text
        assert "<img src=x" not in page and "&lt;img src=x onerror=alert(1)&gt;" in page
        seen = text(page)
        assert "Web API: held." in seen and "as it has asked for" in seen
        assert "crate 429 just now slow down <img" in seen and "crate 429 just now · 2 times" in seen, seen[
            seen.index("Recent") :
        ][:900]
        assert "index 502" in seen and "crates-proxy doctor" in seen
        assert "Failing endpoints since the server started" in seen


def test_what_a_restart_finds_is_what_was_there(upstream: Upstream, tmp_path: Path) -> None:
    clock = ManualClock()
    with proxied(upstream, tmp_path, clock, both_ways=False) as proxy:
        used(proxy)
        upstream.stop("static")
        assert proxy.get("/api/v1/crates/leaf/1.1.0/download").status_code == 502
    with proxied(upstream, tmp_path, clock, both_ways=False) as proxy:
        page = proxy.get("/").text
        assert figures(page)["requests"] == 11
        seen = text(page)
        assert "leaf 7 " in seen and "download 502" in seen
        assert proxy.get("/history").json()["requests"][-1] == 11


def test_over_redis_the_same_is_shown(upstream: Upstream, tmp_path: Path) -> None:
    with redis_server() as server, proxied(upstream, tmp_path, both_ways=False, redis__url=server.url) as proxy:
        used(proxy)
        shown, counted = figures(proxy.get("/").text), metrics(proxy.url)
        assert shown["requests"] == 10 and shown["bytes_served"] == counted["bytes_total", "served"]
        assert re.findall(r'href="/crates/(\w+)"', proxy.get("/search?q=A").text) == ["abc", "leaf"]
        seen = text(proxy.get("/crates/leaf").text)
        assert "leaf 1 tarball" in seen and "crate /api/v1/crates/leaf just now in 5 min" in seen
        server.kill()
        assert proxy.get("/").status_code == proxy.get("/search?q=leaf").status_code == 200
        assert "leaf 1 tarball" in text(proxy.get("/crates/leaf").text)


def test_a_dashboard_whose_disk_fails_still_shows_what_is_in_memory(proxy: Proxied) -> None:
    used(proxy)
    for part in ("recent", "index"):
        (proxy.directory / part / "v1" / "cache.db").write_bytes(b"this is no database" * 1000)
    answer = proxy.get("/")
    assert answer.status_code == 200
    assert httpx.get(f"{proxy.url}/search?q=leaf", trust_env=False).status_code == 200
