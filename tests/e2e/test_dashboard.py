"""The dashboard in a real browser, before two workers: what it shows, what its buttons do, and what it asks for."""

from __future__ import annotations

import asyncio
import json
import math
import shlex
import subprocess
import time
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, Request, expect

from proxy.metrics import slots
from proxy.stores.recent import Change, RecentBook, Row
from tests.e2e import browser as browser_
from tests.e2e import harness
from tests.e2e.browser import looking
from tests.e2e.toolchains import Toolchain
from tests.metered import metrics, stats
from tests.upstream import Upstream
from tests.waiting import until

TOKEN = "admin-token-of-these-tests"
TIMES = 3
CRATES = ("leaf", "abc", "ok", "a", "branch", "tooling", "tree", "Mixed_Name-rs")
REQUESTS = TIMES * (2 * len(CRATES) + 1)
"""That `used` makes."""
PAGES = {"overview": "/", "crate": "/crates/leaf", "search": "/search", "setup": "/setup"}


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser_.started() as running:
        yield running


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a proxy with two workers that has served for two days, and something just now."""
    directory = tmp_path_factory.mktemp("dashboard")
    _remembered(directory / "proxy" / "cache")
    with Upstream.running() as upstream:
        given = {"CRATES_PROXY_SERVER__WORKERS": "2", "CRATES_PROXY_ACCESS__ADMIN_TOKEN": TOKEN}
        with harness.proxy(directory / "proxy", {**upstream.settings_env(), **given}) as proxy:
            used(proxy.url)
            upstream.stop("static")
            httpx.get(f"{proxy.url}/api/v1/crates/leaf/1.1.0/download", trust_env=False, timeout=30)
            upstream.start("static")
            # Each worker writes its figures down within some seconds: from then on all tell the same.
            until(lambda: sum(stats(proxy.url)["requests"].values()) == REQUESTS + 1)
            yield proxy.url


def _remembered(cache: Path) -> None:
    """A history in which nights are quiet, for the pictures."""

    async def write() -> None:
        cache.mkdir(parents=True, mode=0o700)
        book = RecentBook.opened(cache / "recent", lambda name, what: None)
        now, changes = time.time(), dict[Row, Change]()
        for family in (slots.HOURS, slots.DAYS):
            for number in range(family.oldest(now), family.number(now)):
                busy = 1 + math.sin(family.begun(number) / 86400 * 2 * math.pi)
                sums = {
                    name: _sums(int(volume * (0.3 + busy)), ratio + 0.03 * math.sin(number * volume))
                    for name, volume, ratio in (("index", 400, 0.96), ("download", 260, 0.92), ("crate", 60, 0.82))
                }
                changes[Row(family.name, number)] = partial(slots.added, more=sums, family=family)
        assert await book.change(changes, {})
        await book.aclose()

    with ThreadPoolExecutor(1) as elsewhere:  # a browser that is driven from here has a loop in this thread
        elsewhere.submit(asyncio.run, write()).result()


def _sums(requests: int, ratio: float) -> dict[str, int]:
    hits = int(requests * ratio)
    return {"hit": hits, "miss": requests - hits, "answered": requests, "served": requests * 9000}


def used(url: str) -> None:
    """What a few builds ask for, over several connections, so that both workers have something to count."""
    for _ in range(TIMES):
        with httpx.Client(trust_env=False, timeout=30) as client:
            for name in CRATES:
                path = {1: "1", 2: "2", 3: f"3/{name[0]}"}.get(len(name), f"{name[:2]}/{name[2:4]}".lower())
                lines = client.get(f"{url}/index/{path}/{name.lower()}").text.splitlines()
                release = json.loads(lines[0])
                file = f"{release['name']}/{release['vers']}/{release['cksum']}/download"
                assert client.get(f"{url}/files/crates/{file}").status_code == 200
            assert client.get(f"{url}/api/v1/crates/leaf").status_code == 200


def figures(page: Page) -> dict[str, float]:
    found: dict[str, float] = page.eval_on_selector_all(
        "[data-figure][data-value]",
        "found => Object.fromEntries(found.map(each => [each.dataset.figure, Number(each.dataset.value)]))",
    )
    return found


def counted(url: str) -> dict[str, float]:
    samples = metrics(url)
    return {
        "requests": samples.total("requests_total"),
        "bytes_served": samples["bytes_total", "served"],
        "bytes_fetched": samples["bytes_total", "fetched"],
        "upstream_requests": samples.total("upstream_requests_total"),
        **{f"entries_{store}": samples["store_entries", store] for store in ("json", "index", "tarball")},
    }


def agree(page: Page, url: str, requests: int) -> dict[str, float]:
    """The figures of the page, once they are those of the metrics, and these have counted so many requests at least:
    what the other worker counts comes within a second, and to the page within five.
    """
    end = time.monotonic() + 45
    while True:
        expected = counted(url)
        shown = figures(page)
        if expected["requests"] >= requests and {name: shown.get(name) for name in expected} == expected:
            return shown
        assert time.monotonic() < end, (shown, expected)
        page.wait_for_timeout(300)
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")  # it looks again


def test_the_figures_are_those_of_the_metrics_and_stay_so_while_the_page_is_open(chromium: Browser, url: str) -> None:
    with looking(chromium, url) as somebody:
        page = somebody.at("/")
        before = agree(page, url, REQUESTS + 1)
        page.evaluate("window.still = 'the same page'")
        used(url)
        agree(page, url, int(before["requests"]) + REQUESTS)
        assert page.evaluate("window.still") == "the same page"
        expect(page.locator("section", has=page.locator("#top")).locator("tbody tr").first).to_contain_text("leaf")
        troubles = page.locator(".troubles")
        expect(troubles).to_contain_text("download 502")
        expect(troubles.locator(".advice").first).to_contain_text("crates-proxy doctor")


def test_the_chart_is_drawn_from_what_the_server_keeps(chromium: Browser, url: str) -> None:
    with looking(chromium, url) as somebody:
        page = somebody.at("/")
        expect(page.locator("#chart canvas")).to_be_visible()
        legend = page.locator("#chart .u-legend")
        for name in ("all", "index", "download", "crate"):
            expect(legend).to_contain_text(name)
        expect(legend).to_contain_text("%")
        for span, name in (("days", "2 days"), ("month", "31 days"), ("hours", "6 hours")):
            with page.expect_response(lambda answer, span=span: answer.url.endswith(f"/history?span={span}")) as told:  # type: ignore[misc]
                page.get_by_role("button", name=name).click()
            assert told.value.json()["times"]
            expect(page.get_by_role("button", name=name)).to_have_attribute("aria-pressed", "true")
            expect(page.locator("#chart canvas")).to_be_visible()
        page.locator("#chart .u-over").hover(position={"x": 200, "y": 60})
        page.set_viewport_size({"width": 500, "height": 800})
        expect(page.locator("#chart canvas")).to_be_visible()
        assert _overflow(page) <= 0


def test_a_crate_is_found_and_purged_with_a_token_that_is_kept_nowhere(chromium: Browser, url: str) -> None:
    with looking(chromium, url) as somebody:
        page = somebody.at("/search")
        expect(page.locator("#results tbody tr")).to_have_count(len(CRATES))
        page.get_by_role("searchbox").press_sequentially("OK")
        expect(page.locator("#results tbody tr")).to_have_count(1)
        expect(page).to_have_url(f"{url}/search?q=OK")
        page.get_by_role("link", name="ok", exact=True).click()
        expect(page.get_by_role("heading", level=1)).to_have_text("ok")
        expect(page.locator("#crate")).to_contain_text("1 tarball")

        sent: list[Request] = []
        page.on("request", lambda request: sent.append(request) if request.url.endswith("/-/purge") else None)
        told = page.locator("form output")
        page.get_by_label("Admin token").fill("another")
        page.get_by_role("button", name="Purge ok").click()
        expect(told).to_contain_text("access.admin_token")
        assert somebody.wrong.pop().endswith("401 (Unauthorized)")  # Chromium tells of each such answer
        page.get_by_label("Admin token").fill(TOKEN)
        page.get_by_role("checkbox").check()
        page.get_by_role("button", name="Purge ok").click()
        expect(told).to_have_text("1 value or file will be revalidated.")
        page.get_by_role("checkbox").uncheck()
        page.get_by_label("Admin token").fill(TOKEN)
        page.get_by_role("button", name="Purge ok").click()
        expect(told).to_have_text("2 values and files deleted.")
        expect(page.locator("#crate")).to_contain_text("Nothing is stored of it")

        assert [request.all_headers()["authorization"] for request in sent] == [
            "Bearer another",
            *[f"Bearer {TOKEN}"] * 2,
        ]
        assert not [asked for asked in somebody.asked if TOKEN in asked]
        assert page.get_by_label("Admin token").input_value() == ""
        kept = page.evaluate("[document.cookie, JSON.stringify(localStorage), JSON.stringify(sessionStorage)]")
        assert kept == ["", "{}", "{}"] and somebody.context.cookies() == []


def test_what_is_copied_from_the_set_up_page_is_what_cargo_takes(
    chromium: Browser, url: str, newest: Toolchain, tmp_path: Path
) -> None:
    with looking(chromium, url) as somebody:
        somebody.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=url)
        page = somebody.at("/setup")
        copied = {}
        for name in ("cargo", "once", "environment"):
            button = page.locator(f"#{name} button")
            button.click()
            expect(button).to_have_text("Copied")
            copied[name] = page.evaluate("navigator.clipboard.readText()")
    assert tomllib.loads(copied["cargo"])["source"]["mirror"]["registry"] == f"sparse+{url}/index/"
    (tmp_path / "src").mkdir()
    (tmp_path / "src/lib.rs").write_text("")
    (tmp_path / "Cargo.toml").write_text('[package]\nname = "mine"\nversion = "0.1.0"\n[dependencies]\nleaf = "1"\n')
    program, *arguments = shlex.split(copied["once"].replace("\\\n", ""))
    assert program == "cargo"
    environment = {
        "PATH": f"{newest.cargo.parent}:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "https_proxy": "http://127.0.0.1:1",
    }
    for command in ([str(newest.cargo), *arguments], ["sh", "-euc", copied["environment"]]):
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
    assert list(tmp_path.glob(".cargo/registry/cache/*/leaf-1.1.0.crate"))


def test_without_scripts_the_figures_are_there_and_purging_is_explained(chromium: Browser, url: str) -> None:
    with looking(chromium, url, scripts=False) as somebody:
        page = somebody.at("/")
        expect(page.locator("[data-figure=bytes_served]")).to_contain_text("KiB")
        assert "without JavaScript the page stays" in page.content()
        expect(page.locator("#chart")).to_be_hidden()
        somebody.shot("without-scripts")
        page = somebody.at("/crates/leaf")
        expect(page.locator("form[data-purge]")).to_be_hidden()
        page.get_by_text("From a shell", exact=True).click()
        expect(page.locator("#purge pre")).to_contain_text(f"{url}/-/purge")
        page = somebody.at("/search")
        page.get_by_role("searchbox").fill("lea")
        page.get_by_role("button", name="Search").click()
        expect(page.locator("#results tbody tr")).to_have_count(1)
        expect(somebody.at("/setup").locator("button")).to_have_count(7)
        assert not page.locator("button.copy").first.is_visible()


@pytest.mark.parametrize(
    ("look", "dark", "width"),
    [("light", False, 1280), ("dark", True, 1280), ("phone", False, 390), ("phone-dark", True, 390)],
)
def test_pages_look_well_in_light_and_dark_and_on_a_phone(
    look: str, dark: bool, width: int, chromium: Browser, url: str
) -> None:
    with looking(chromium, url, dark=dark, width=width, height=844 if width < 600 else 900) as somebody:
        for name, path in PAGES.items():
            page = somebody.at(path)
            if name == "overview":
                expect(page.locator("#chart canvas")).to_be_visible()
            assert _overflow(page) <= 0, "the page is wider than the screen"
            ground, ink = page.evaluate("(s => [s.backgroundColor, s.color])(getComputedStyle(document.body))")
            assert (_light(ground) < _light(ink)) == dark
            somebody.shot(f"{name}-{look}")


def test_a_fresh_proxy_looks_inviting(chromium: Browser, upstream: Upstream, tmp_path: Path) -> None:
    with harness.proxy(tmp_path / "proxy", upstream.settings_env()) as proxy, looking(chromium, proxy.url) as somebody:
        page = somebody.at("/")
        expect(page.locator("#summary .empty")).to_contain_text("Nothing was asked for yet")
        expect(page.locator("#chart")).to_be_hidden()
        somebody.shot("fresh")
        page.get_by_role("link", name="set up", exact=True).click()
        expect(page.locator("#cargo code").first).to_contain_text(f"sparse+{proxy.url}/index/")


def _overflow(page: Page) -> int:
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


def _light(color: str) -> int:
    return sum(int(part) for part in color.removeprefix("rgb(").removesuffix(")").split(","))
