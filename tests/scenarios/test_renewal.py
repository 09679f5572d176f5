"""Plays about the index as a witness: when a crate's JSON is renewed without asking the API, and when not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from proxy import settings, wiring
from proxy.engine.renewing import COLD_WITHIN
from proxy.rules import endpoints, keys, routes
from proxy.rules.endpoints import TIMED
from proxy.rules.renewal import LAG
from proxy.stores import codec
from proxy.stores.disk import DiskStore
from tests.proxied import ManualClock, Proxied, proxied
from tests.upstream import Upstream, faults, samples
from tests.waiting import until

CRATE, VERSIONS = "/api/v1/crates/leaf", "/api/v1/crates/leaf/versions"
VERSION, DEPENDENCIES = "/api/v1/crates/leaf/1.0.0", "/api/v1/crates/leaf/1.0.0/dependencies"
INDEX = "/index/le/af/leaf"
AUTH = {"authorization": samples.TOKEN}
HOUR, DAY = 3600.0, 86400.0
RENEWED = "crates-proxy; fwd=stale; detail=index-unchanged"
TOO_MANY = faults.Status(429, (("retry-after", "1"),))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(samples.BEGINNING + 100 * DAY)


@pytest.fixture
def upstream(clock: ManualClock) -> Iterator[Upstream]:
    """A crates.io that has the proxy's time, and in which nothing has changed for months."""
    registry = samples.registry()
    registry.clock = clock
    with Upstream.running(registry) as running:
        yield running


@pytest.fixture
def proxy(upstream: Upstream, clock: ManualClock, tmp_path: Path) -> Iterator[Proxied]:
    with proxied(upstream, tmp_path, clock, upstream__renew_ceiling="6h") as running:
        yield running


def api(upstream: Upstream) -> int:
    """How often the API has been asked by now."""
    return len(upstream.asked(host="api"))


def said(answer: httpx.Response) -> tuple[str, str]:
    return answer.headers["x-cache"], answer.headers["cache-status"]


@pytest.mark.parametrize("path", [CRATE, CRATE + "?include=", VERSIONS, VERSION])
def test_json_is_renewed_for_six_hours_without_a_request_to_the_api(
    path: str, proxy: Proxied, upstream: Upstream
) -> None:
    first = proxy.get(path)
    assert said(first) == ("MISS", "crates-proxy; fwd=uri-miss; stored")
    begun = proxy.clock.now
    while proxy.clock.now - begun < 6 * HOUR - 1201:
        proxy.clock.now += 1201  # past the ttl, and past what may be served stale meanwhile
        answer = proxy.get(path)
        assert said(answer) == ("REVALIDATED", RENEWED)
        assert (answer.content, answer.headers["age"]) == (first.content, "0")
        assert answer.headers["cache-control"] in ("public, max-age=300", "public, max-age=600")
        assert said(proxy.get(path))[0] == "HIT"
    assert api(upstream) == 1
    proxy.clock.now += 1201
    assert said(proxy.get(path)) == ("MISS", "crates-proxy; fwd=stale; stored"), "counters move"
    assert api(upstream) == 2


SLOW: dict[str, Any] = {
    "upstream__renew_ceiling": "6h",
    "upstream__requests_per_second": 0.25,  # four seconds from one to the next: much longer than anything else takes
    "upstream__burst": 1,
    "upstream__stale_after": "200ms",
}


def test_past_the_ceiling_an_unchanged_crate_is_renewed_where_the_api_cannot_be_asked_and_asked_about_behind(
    upstream: Upstream, clock: ManualClock, tmp_path: Path
) -> None:
    with proxied(upstream, tmp_path, clock, **SLOW) as proxy:
        first = proxy.get(CRATE)
        upstream.registry.package("leaf").latest.metadata["description"] = "which the index does not have"
        clock.now += DAY
        begun = time.monotonic()
        answer = proxy.get(CRATE)
        assert time.monotonic() - begun < 3.0, "nobody waits for download counters"
        assert (said(answer), answer.content) == (("REVALIDATED", RENEWED), first.content)
        assert (answer.headers["age"], answer.headers["cache-control"]) == ("0", "public, max-age=300")
        assert (said(proxy.get(CRATE))[0], api(upstream)) == ("HIT", 1)
        until(lambda: b"which the index does not have" in proxy.client.get(proxy.url + CRATE).content)
        clock.now += 6 * HOUR - 1
        assert said(proxy.get(CRATE)) == ("REVALIDATED", RENEWED)
        assert api(upstream) == 2, "it has been asked, so that there is no hurry"


def test_past_the_ceiling_an_unchanged_crate_is_asked_about_where_a_slot_is_free(
    upstream: Upstream, clock: ManualClock, tmp_path: Path
) -> None:
    with proxied(upstream, tmp_path, clock, **SLOW | {"upstream__burst": 4}) as proxy:
        proxy.get(CRATE)
        clock.now += DAY
        assert (said(proxy.get(CRATE))[0], api(upstream)) == ("MISS", 2)


def test_a_crate_that_has_changed_is_worth_its_turn_and_another_is_not(
    upstream: Upstream, clock: ManualClock, tmp_path: Path
) -> None:
    with proxied(upstream, tmp_path, clock, **SLOW | {"upstream__burst": 2, "upstream__max_wait": "9s"}) as proxy:
        proxy.get(CRATE)
        proxy.get("/api/v1/crates/leaf/owners")
        upstream.registry.yank("leaf", "1.0.0")
        clock.now += DAY
        begun = time.monotonic()
        assert said(proxy.get("/api/v1/crates/leaf/owners"))[1].endswith("detail=throttled")
        assert said(proxy.get(CRATE)) == ("MISS", "crates-proxy; fwd=stale; stored")
        assert time.monotonic() - begun > 1.0


def test_a_crate_that_has_changed_is_served_from_the_copy_where_its_turn_is_too_far_away(
    upstream: Upstream, clock: ManualClock, tmp_path: Path
) -> None:
    with proxied(upstream, tmp_path, clock, **SLOW | {"upstream__max_wait": "500ms"}) as proxy:
        first = proxy.get(CRATE)
        upstream.registry.yank("leaf", "1.0.0")
        clock.now += DAY
        answer = proxy.get(CRATE)
        assert said(answer) == ("STALE", f"crates-proxy; hit; ttl={300 - int(DAY)}; detail=throttled")
        assert answer.content == first.content
        until(lambda: api(upstream) == 2)
        until(lambda: said(proxy.get(CRATE))[0] == "HIT")
        assert proxy.get(CRATE).content != first.content


def test_a_crate_that_has_changed_is_served_from_the_copy_where_upstream_is_silent_in_its_turn(
    upstream: Upstream, clock: ManualClock, tmp_path: Path
) -> None:
    with proxied(upstream, tmp_path, clock, **SLOW | {"upstream__max_wait": "9s"}) as proxy:
        proxy.get(CRATE)
        upstream.registry.yank("leaf", "1.0.0")
        clock.now += DAY
        upstream.hold("api")
        begun = time.monotonic()
        assert said(proxy.get(CRATE))[1].endswith("detail=stale-if-error")
        assert 1.0 < time.monotonic() - begun < 15.0
        upstream.release()


def test_with_the_api_left_alone_the_index_keeps_an_answer_fresh_past_the_ceiling(
    proxy: Proxied, upstream: Upstream
) -> None:
    proxy.get(CRATE)
    proxy.clock.now += DAY
    upstream.fault("api", faults.Status(429), times=1)
    assert proxy.get("/api/v1/crates/abc").status_code == 429
    asked = api(upstream)
    assert (said(proxy.get(CRATE)), api(upstream)) == (("REVALIDATED", RENEWED), asked)


def test_a_refresh_behind_a_stale_answer_asks_the_index_too(proxy: Proxied, upstream: Upstream) -> None:
    proxy.get(CRATE)
    proxy.clock.now += 301
    assert said(proxy.get(CRATE))[0] == "STALE"
    until(lambda: said(proxy.get(CRATE))[0] == "HIT")
    assert api(upstream) == 1


def test_an_answer_is_as_old_as_the_look_at_the_index_that_renewed_it(proxy: Proxied, upstream: Upstream) -> None:
    proxy.get(CRATE)
    proxy.clock.now += 601
    proxy.get(INDEX)
    proxy.clock.now += 50
    upstream.forget()
    answer = proxy.get(CRATE)
    assert said(answer) == ("REVALIDATED", RENEWED)
    assert (answer.headers["age"], answer.headers["cache-control"]) == ("50", "public, max-age=300")
    assert upstream.asked() == [], "the copy of the index file is fresh"


def test_a_changed_index_file_sends_to_the_api_and_so_does_the_time_in_which_upstream_lags(
    proxy: Proxied, upstream: Upstream
) -> None:
    proxy.get(CRATE)
    proxy.clock.now += 601
    upstream.registry.yank("leaf", "1.0.0")
    proxy.clock.now += LAG - 1
    lagging = proxy.get(CRATE)
    assert (said(lagging)[0], api(upstream)) == ("MISS", 2)
    proxy.clock.now += 601
    settled = proxy.get(CRATE)
    assert (said(settled)[0], api(upstream)) == ("MISS", 3), "it was fetched while a replica may have lagged"
    proxy.clock.now += 601
    assert (said(proxy.get(CRATE)), api(upstream)) == (("REVALIDATED", RENEWED), 3)


def test_a_yank_that_was_taken_back_is_a_change(proxy: Proxied, upstream: Upstream) -> None:
    proxy.get(CRATE)
    proxy.clock.now += 601
    upstream.registry.yank("leaf", "1.0.0")
    upstream.registry.yank("leaf", "1.0.0", yanked=False)
    proxy.clock.now += 601
    assert (said(proxy.get(CRATE))[0], api(upstream)) == ("MISS", 2)


def test_a_change_through_this_proxy_sends_to_the_api_although_the_index_does_not_show_it(
    proxy: Proxied, upstream: Upstream
) -> None:
    proxy.get(CRATE)
    proxy.clock.now += 601
    body = {"crate": {"trustpub_only": True}}
    assert proxy.client.patch(proxy.url + CRATE, headers=AUTH, json=body).status_code == 200
    proxy.clock.now += 1
    asked = api(upstream)
    assert (said(proxy.get(CRATE))[0], api(upstream)) == ("MISS", asked + 1)
    proxy.clock.now += LAG
    assert (said(proxy.get(CRATE))[0], api(upstream)) == ("MISS", asked + 2)
    proxy.clock.now += 601
    assert (said(proxy.get(CRATE)), api(upstream)) == (("REVALIDATED", RENEWED), asked + 2)


def test_a_client_that_insists_gets_the_api_at_most_once_in_ten_seconds(proxy: Proxied, upstream: Upstream) -> None:
    proxy.get(CRATE)
    proxy.clock.now += 601
    assert said(proxy.get(CRATE))[0] == "REVALIDATED"
    insisting = proxy.get(CRATE, cache_control="no-cache")
    assert said(insisting) == ("MISS", "crates-proxy; fwd=request; stored"), "what the index says does not count"
    assert api(upstream) == 2
    proxy.clock.now += 9
    assert said(proxy.get(CRATE, cache_control="no-cache"))[0] == "HIT"


@pytest.mark.parametrize(
    "fault", [faults.Status(500), faults.Status(404), faults.Reset(), faults.Garbage(), TOO_MANY], ids=repr
)
def test_with_an_index_that_fails_the_api_is_asked_as_ever(
    fault: faults.Fault, proxy: Proxied, upstream: Upstream
) -> None:
    upstream.fault("index", fault)
    assert said(proxy.get(CRATE))[0] == "MISS"
    proxy.clock.now += 601
    assert (said(proxy.get(CRATE))[0], api(upstream)) == ("MISS", 2)
    upstream.heal()
    until(lambda: "not asked" not in proxy.get("/readyz").text)  # a hold passes by itself
    proxy.clock.now += 601
    assert (said(proxy.get(CRATE))[0], api(upstream)) == ("MISS", 3), "what was fetched then has no witness"
    proxy.clock.now += 601
    assert (said(proxy.get(CRATE))[0], api(upstream)) == ("REVALIDATED", 3)
    upstream.fault("index", fault)
    proxy.clock.now += 601
    assert (said(proxy.get(CRATE))[0], api(upstream)) == ("MISS", 4)


def test_an_index_that_says_nothing_delays_a_cold_miss_by_half_a_second_at_most(
    proxy: Proxied, upstream: Upstream
) -> None:
    upstream.hold("index")
    begun = time.monotonic()
    assert said(proxy.get(CRATE))[0] == "MISS"
    assert COLD_WITHIN <= time.monotonic() - begun < COLD_WITHIN + 2.0
    upstream.release()


def test_with_api_and_index_down_the_copy_is_served(proxy: Proxied, upstream: Upstream) -> None:
    proxy.get(CRATE)
    proxy.clock.now += DAY
    upstream.stop()
    answer = proxy.get(CRATE)
    assert (answer.status_code, said(answer)[0]) == (200, "STALE")


def test_with_the_api_down_the_index_alone_keeps_an_answer_fresh(proxy: Proxied, upstream: Upstream) -> None:
    proxy.get(CRATE)
    proxy.clock.now += HOUR
    upstream.stop("api")
    assert said(proxy.get(CRATE)) == ("REVALIDATED", RENEWED)


@pytest.mark.parametrize("name", ["Mixed_Name-rs", "mixed-name-rs", "mixed_name_rs"])
def test_a_crate_is_found_in_the_index_by_the_spelling_that_the_client_knows(
    name: str, proxy: Proxied, upstream: Upstream
) -> None:
    """The last two are not how the crate itself is spelt, and no client that has the name from anywhere writes them."""
    path = f"/api/v1/crates/{name}"
    proxy.get(path)
    proxy.clock.now += 601
    renewed = name == "Mixed_Name-rs"
    assert (said(proxy.get(path))[0], api(upstream)) == (("REVALIDATED", 1) if renewed else ("MISS", 2))


def test_a_crate_of_hyphens_or_underscores_is_found_by_either(proxy: Proxied, upstream: Upstream) -> None:
    proxy.get("/api/v1/crates/meta_build")
    proxy.clock.now += 601
    assert (said(proxy.get("/api/v1/crates/meta_build"))[0], api(upstream)) == ("REVALIDATED", 1)


@pytest.mark.parametrize("path", ["/api/v1/crates/leaf/owners", "/api/v1/crates/leaf/downloads", "/api/v1/crates?q=x"])
def test_what_the_index_knows_nothing_of_is_asked_of_the_api(path: str, proxy: Proxied, upstream: Upstream) -> None:
    proxy.get(path)
    proxy.clock.now += DAY
    assert said(proxy.get(path))[0] == "MISS"
    assert (api(upstream), upstream.asked(host="index")) == (2, [])


def test_what_does_not_exist_is_not_renewed(proxy: Proxied, upstream: Upstream) -> None:
    path = "/api/v1/crates/leaf/9.9.9"
    assert proxy.get(path).status_code == 404
    proxy.clock.now += 61
    assert (said(proxy.get(path))[0], api(upstream)) == ("MISS", 2)


def test_a_ceiling_of_nothing_leaves_the_index_alone(upstream: Upstream, clock: ManualClock, tmp_path: Path) -> None:
    with proxied(upstream, tmp_path, clock, upstream__renew_ceiling=0) as running:
        running.get(CRATE)
        clock.now += 601
        assert said(running.get(CRATE))[0] == "MISS"
    assert (api(upstream), upstream.asked(host="index")) == (2, [])


def test_renewal_goes_on_after_a_restart_and_dependencies_take_part_where_their_ttl_lets_them(
    upstream: Upstream, clock: ManualClock, tmp_path: Path
) -> None:
    given: dict[str, Any] = {"upstream__renew_ceiling": "6h", "endpoints__dependencies__ttl": "1h"}
    with proxied(upstream, tmp_path, clock, **given) as first:
        first.get(INDEX)  # it is at hand then, however busy this machine is
        first.get(DEPENDENCIES)
    clock.now += 2 * HOUR + 1
    with proxied(upstream, tmp_path, clock, **given) as second:
        assert said(second.get(DEPENDENCIES)) == ("REVALIDATED", RENEWED)
    assert api(upstream) == 1


def test_entries_of_an_older_release_are_served_but_have_no_witness(
    upstream: Upstream, clock: ManualClock, tmp_path: Path
) -> None:
    with proxied(upstream, tmp_path, clock, upstream__renew_ceiling="6h") as first:
        first.get(CRATE)
    asyncio.run(_made_old(tmp_path / "json", f"crate {CRATE}"))
    clock.now += 10
    with proxied(upstream, tmp_path, clock, upstream__renew_ceiling="6h") as second:
        assert said(second.get(CRATE))[0] == "HIT"
        clock.now += 601
        assert (said(second.get(CRATE))[0], api(upstream)) == ("MISS", 2)
        clock.now += 601
        assert (said(second.get(CRATE))[0], api(upstream)) == ("REVALIDATED", 2)


async def _made_old(directory: Path, key: str) -> None:
    """What an entry without a witness is written as has not changed (see the tests of the codec)."""
    store = DiskStore.opened(directory, "json", lambda what, happened: None)
    entry = codec.decoded(await store.get(key) or b"")
    assert entry is not None and entry.witness is not None
    await store.put(key, codec.encoded(replace(entry, witness=None)), tag="leaf", keep=None)
    await store.aclose()


@pytest.mark.anyio
@pytest.mark.parametrize("ceiling", [6 * HOUR, 0.0])
async def test_the_calls_that_were_avoided_are_counted(
    ceiling: float, upstream: Upstream, clock: ManualClock, tmp_path: Path
) -> None:
    given = {"upstream.renew_ceiling": ceiling, "cache.min_free": 0, **upstream.settings()}
    loaded = settings.load(given, None, {}, endpoints=TIMED).settings
    async with wiring.opened(loaded, tmp_path, clock) as engine:
        for _ in range(3):
            for path in (CRATE, VERSIONS, "/api/v1/crates/leaf/owners"):
                match = routes.match("GET", path, ())
                await engine.answers.get(keys.read(match, endpoints.policy(match.endpoint, ())))
            clock.now += 2 * HOUR - 1
        assert engine.answers.avoided == (4 if ceiling else 0)
        assert api(upstream) == 9 - engine.answers.avoided
