"""Plays about time: a request, a wait, a request; what was served and what upstream was asked."""

from __future__ import annotations

import concurrent.futures
from dataclasses import dataclass
from functools import partial

import pytest

from tests.proxied import Proxied
from tests.scenarios.plays import Wait, answered
from tests.upstream import Upstream, faults
from tests.waiting import WITHIN, until

DAY = 86400


@dataclass(frozen=True)
class Get:
    """A request, the X-Cache it must get, and a part of its Cache-Status."""

    path: str
    verdict: str
    status: int = 200
    says: str = ""
    no_cache: bool = False
    soon: bool = False
    """What a fetch in the background brings about: asked again until it has."""


@dataclass(frozen=True)
class Asked:
    """How often upstream has been asked by now."""

    times: int


@dataclass(frozen=True)
class Broken:
    """From here on upstream answers everything like this; None heals it."""

    fault: faults.Fault | None


Step = Get | Wait | Asked | Broken
CRATE, INDEX, OTHER = "/api/v1/crates/leaf", "/index/le/af/leaf", "/api/v1/something/new"
DOWN = Broken(faults.Status(500))

PLAYS: dict[str, list[Step]] = {
    "a JSON answer is fresh for its ttl": [
        Get(CRATE, "MISS", says="fwd=uri-miss; stored"),
        Wait(299),
        Get(CRATE, "HIT", says="hit; ttl=1"),
        Asked(1),
    ],
    "then it is served stale while a new copy is fetched behind": [
        Get(CRATE, "MISS"),
        Wait(301),
        Get(CRATE, "STALE", says="hit; ttl=-1; detail=stale-while-revalidate"),
        Asked(2),
        Get(CRATE, "HIT", soon=True),
        Asked(2),
    ],
    "after that window it is fetched while the client waits": [
        Get(CRATE, "MISS"),
        Wait(601),
        Get(CRATE, "MISS", says="fwd=stale; stored"),
        Asked(2),
    ],
    "an index file is always revalidated once its minute has passed": [
        Get(INDEX, "MISS"),
        Wait(59),
        Get(INDEX, "HIT"),
        Wait(2),
        Get(INDEX, "REVALIDATED", says="fwd=stale; fwd-status=304"),
        Get(INDEX, "HIT", says="ttl=60"),
        Asked(2),
    ],
    "a crate's JSON outlives an outage for thirty days": [
        Get(CRATE, "MISS"),
        DOWN,
        Wait(30 * DAY),
        Get(CRATE, "STALE", says="fwd=stale; fwd-status=500; detail=stale-if-error"),
        Wait(DAY),
        Get(CRATE, "MISS", status=502),
        Broken(None),
        Get(CRATE, "MISS"),
    ],
    "an index file outlives any outage": [
        Get(INDEX, "MISS"),
        DOWN,
        Wait(3650 * DAY),
        Get(INDEX, "STALE", says="detail=stale-if-error"),
    ],
    "upstream's refusals are served over by what is stored": [
        Get(CRATE, "MISS"),
        Wait(4000),
        Broken(faults.Status(403)),
        Get(CRATE, "STALE", says="fwd-status=403"),
        Broken(faults.Garbage()),
        Get(CRATE, "STALE", says="detail=stale-if-error"),
        Broken(faults.Status(200, (("content-type", "text/html"),), b"<html>log in to the hotel</html>")),
        Get(CRATE, "STALE", says="detail=stale-if-error"),
        Broken(faults.Status(429)),
        Get(CRATE, "STALE", says="fwd-status=429"),
    ],
    "with nothing stored a refusal is told as it is, and not remembered": [
        Broken(faults.Status(403)),
        Get(CRATE, "MISS", status=403, says="fwd-status=403"),
        DOWN,
        Get(CRATE, "MISS", status=502),
        Broken(None),
        Get(CRATE, "MISS"),
        Broken(faults.Status(429)),
        Get("/api/v1/crates/abc", "MISS", status=429, says="fwd-status=429"),
    ],
    "a crate that does not exist is remembered for a minute": [
        Get("/api/v1/crates/nope", "MISS", status=404),
        Wait(59),
        Get("/api/v1/crates/nope", "HIT", status=404),
        Asked(1),
        Wait(2),
        Get("/api/v1/crates/nope", "MISS", status=404),
        Asked(2),
    ],
    "an index file that does not exist is remembered for half a minute": [
        Get("/index/no/pe/nope", "MISS", status=404),
        Wait(29),
        Get("/index/no/pe/nope", "HIT", status=404),
        Wait(2),
        Get("/index/no/pe/nope", "MISS", status=404),
        Asked(2),
    ],
    "an outage is never remembered as an absence": [
        Get("/api/v1/crates/nope", "MISS", status=404),
        Wait(61),
        DOWN,
        Get("/api/v1/crates/nope", "MISS", status=502),
    ],
    "no-cache is honoured, but at most once in ten seconds": [
        Get(CRATE, "MISS"),
        Wait(9),
        Get(CRATE, "HIT", no_cache=True),
        Wait(2),
        Get(CRATE, "MISS", no_cache=True),
        Get(CRATE, "HIT", no_cache=True),
        Asked(2),
    ],
    "newest-first searches live for a minute and are never served stale behind a fetch": [
        Get("/api/v1/crates?sort=new", "MISS"),
        Wait(59),
        Get("/api/v1/crates?sort=new", "HIT"),
        Wait(2),
        Get("/api/v1/crates?sort=new", "MISS", says="fwd=stale"),
        Asked(2),
    ],
    "spellings of a name share an answer where upstream does not echo them": [
        Get("/api/v1/crates/Mixed_Name-rs", "MISS"),
        Get("/api/v1/crates/mixed-name_RS", "HIT"),
        Get("/api/v1/crates/Mixed_Name-rs/versions", "MISS"),
        Get("/api/v1/crates/mixed_name_rs/versions", "MISS"),
        Asked(3),
    ],
    "parameters are sorted by name, and each of them counts": [
        Get("/api/v1/crates?q=leaf&per_page=5", "MISS"),
        Get("/api/v1/crates?per_page=5&q=%6ceaf", "HIT"),
        Get("/api/v1/crates?per_page=6&q=leaf", "MISS"),
        Get("/api/v1/crates/leaf?include=", "MISS"),
        Get("/api/v1/crates/leaf", "MISS"),
        Asked(4),
    ],
    "private reads are never stored": [
        Get("/api/v1/me", "PASS", status=403),
        Get("/api/v1/me", "PASS", status=403),
        Get("/api/v1/crates?following=1", "PASS", status=403),
        Asked(3),
    ],
    "a clock that goes back an hour makes nothing fresh for longer": [
        Get(INDEX, "MISS"),
        Wait(-3600),
        Get(INDEX, "REVALIDATED"),
    ],
}


@pytest.mark.parametrize("name", PLAYS)
def test_play(name: str, proxy: Proxied, upstream: Upstream) -> None:
    for number, step in enumerate(PLAYS[name]):
        where = f"step {number}: {step}"
        match step:
            case Get():
                fields = {"cache_control": "no-cache"} if step.no_cache else {}
                answer = answered(partial(proxy.get, step.path, **fields), step.verdict, soon=step.soon)
                assert answer.status_code == step.status, where
                assert answer.headers["x-cache"] == step.verdict, where
                assert step.says in answer.headers["cache-status"], where
            case Wait():
                proxy.clock.now += step.seconds
            case Asked():
                assert len(upstream.wait_for(step.times)) == step.times, where
            case Broken():
                upstream.heal()
                if step.fault is not None:
                    upstream.fault("", step.fault)


@pytest.mark.parametrize("path", [CRATE, INDEX, OTHER])
def test_a_clock_that_jumps_while_upstream_answers_makes_nothing_fresh_for_longer(
    path: str, proxy: Proxied, upstream: Upstream
) -> None:
    """An hour ahead when the answer comes, and back after it."""
    if path == OTHER:
        upstream.fault("api", faults.Status(200, (("cache-control", "max-age=60"),), b"other"))
    upstream.hold()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        asked = pool.submit(proxy.get, path)
        until(lambda: upstream.held == 1)
        proxy.clock.now += 3600
        upstream.release()
        assert asked.result(WITHIN).headers["x-cache"] == "MISS"
    proxy.clock.now -= 3595
    assert proxy.get(path).headers["x-cache"] != "HIT"
