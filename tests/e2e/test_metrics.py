"""Several workers are one: whichever is asked tells the same sums, and no death takes anything along."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx

from tests.e2e import harness
from tests.e2e.harness import Proxy
from tests.metered import Samples, metrics, stats
from tests.upstream import Upstream, faults, samples
from tests.waiting import until

INDEX, TARBALL, CRATE = "/index/le/af/leaf", "/api/v1/crates/leaf/1.0.0/download", "/api/v1/crates/leaf"
WORKERS = {"CRATES_PROXY_SERVER__WORKERS": "3"}


def ask(url: str, path: str, times: int) -> None:
    """Each on a connection of its own: the kernel spreads them over the workers."""

    def one(_: int) -> None:
        assert httpx.get(url + path, trust_env=False, timeout=20).status_code == 200

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(times)))


def workers(proxy: Proxy) -> list[int]:
    """Its processes but the supervisor, which is the first."""
    return [pid for pid in proxy.pids if os.getpgid(pid) != pid]


def told(url: str) -> list[Samples]:
    """What many scrapes tell, of which each goes to whichever worker."""
    return [metrics(url) for _ in range(12)]


def test_every_worker_tells_the_sum_of_all_and_a_killed_worker_takes_nothing_along(
    tmp_path: Path, upstream: Upstream
) -> None:
    with harness.proxy(tmp_path / "proxy", {**upstream.settings_env(), **WORKERS}) as proxy:
        expected = 0
        for victims in range(4):
            ask(proxy.url, INDEX, 60)
            ask(proxy.url, TARBALL, 20)
            expected += 80
            until(lambda: all(found.total("requests_total") == expected for found in told(proxy.url)))  # noqa: B023
            if victims == 3:
                break
            before = set(workers(proxy))
            os.kill(sorted(before)[victims % len(before)], signal.SIGKILL)  # one of them is the hub
            until(lambda: len(set(workers(proxy)) - before) == 1)  # noqa: B023
            # Never back, not even for the moment in which another becomes the hub.
            assert min(found.total("requests_total") for found in told(proxy.url)) >= expected
        found = metrics(proxy.url)
        assert found.total("upstream_requests_total") == len(upstream.asked())
        assert found.total("request_seconds_count", "download") == 80
        assert found["store_entries", "tarball"] == 1
        assert stats(proxy.url)["requests"]["hit"] > 0
    left = [path.name for path in proxy.cache.rglob("*") if path.suffix in (".db", ".sock", ".lock")]
    assert not [name for name in left if name not in ("cache.db", "fleet.sock", "fleet.lock", "lock")]


def test_the_book_loses_seconds_at_most_when_everything_is_killed(tmp_path: Path, upstream: Upstream) -> None:
    with harness.proxy(tmp_path / "proxy", {**upstream.settings_env(), **WORKERS}) as proxy:
        ask(proxy.url, INDEX, 30)
        # One that is asked writes down what is its own; the others do so every few seconds.
        until(lambda: sum(stats(proxy.url)["requests"].values()) == 30)
        files = {path for path in proxy.cache.rglob("*") if path.is_file()}
        proxy.kill()
        proxy.start()
        assert sum(stats(proxy.url)["requests"].values()) == 30
        ask(proxy.url, INDEX, 3)
        assert proxy.stop() == 0
        assert {path for path in proxy.cache.rglob("*") if path.is_file()} - files == set()  # no files for each process
        proxy.start()
        assert sum(stats(proxy.url)["requests"].values()) == 33  # an orderly end loses nothing
        beside = command(proxy, "stats", "--json")
        assert json.loads(beside.stdout)["requests"] == stats(proxy.url)["requests"]
        proxy.stop()
        alone = json.loads(command(proxy, "stats", "--json").stdout)
        assert sum(alone["requests"].values()) == 33
        # Without a server there is no memory: that of the command itself serves nobody.
        assert alone["stores"][0] == {"store": "memory", "entries": 0, "bytes": 0, "max_bytes": 0}
        assert set(alone) >= {"since", "requests", "hit_ratio", "bytes", "upstream", "stores", "endpoints"}
        table = command(proxy, "stats").stdout
        assert "33 requests" in table
        assert any(line.split()[:2] == ["index", "33"] for line in table.splitlines())


def command(proxy: Proxy, *args: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], "HOME": str(proxy.cache.parent), "CRATES_PROXY_CACHE__DIR": str(proxy.cache)}
    done = subprocess.run(
        [sys.executable, "-m", "proxy", *args], cwd=harness.ROOT, env=env, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done


def test_a_worker_says_nothing_secret_and_each_request_is_a_line(tmp_path: Path, upstream: Upstream) -> None:
    for form in ("text", "json"):
        settings = {
            **upstream.settings_env(),
            "CRATES_PROXY_LOG__FORMAT": form,
            "CRATES_PROXY_LOG__LEVEL": "debug",
            "CRATES_PROXY_LOG__ACCESS": "true",
            "CRATES_PROXY_ACCESS__ADMIN_TOKEN": "admin-secret",
        }
        with harness.proxy(tmp_path / form, settings) as proxy:
            everything(proxy.url, upstream)
            proxy.stop()
        text = proxy.log
        assert text.count("/api/v1/confirm/***") >= 20
        for secret in (SECRET, SECRET.lower(), "short-secret", "admin-secret", samples.TOKEN, "cargo_session"):
            assert secret not in text, next(line for line in text.splitlines() if secret in line)
        assert "crates-proxy starts" in text
        if form == "json":
            lines = [json.loads(line) for line in text.splitlines()]
            (start,) = [line for line in lines if line["message"] == "crates-proxy starts"]
            assert start["admin_token"] == "set" and "log.access (CRATES_PROXY_LOG__ACCESS)" in start["changed"]


SECRET = "cioVerySecretTokenOfNobody0123456789"
PATHS = (
    f"/api/v1/me/crate_owner_invitations/accept/{SECRET}",
    "/api/v1/me/crate_owner_invitations/accept/short-secret",
    f"/api/v1/confirm/{SECRET}",
    "/api/v1/confirm/short-secret",
    f"/api/v1/crates?q={SECRET}",
    "/api/v1/crates?q=short-secret",
    f"/api/v1/crates/{SECRET}/downloads?token=short-secret",
    f"/index/ci/ov/{SECRET.lower()}",
    f"/api/v1/trusted_publishing/tokens?x={SECRET}",
    f"/{SECRET}",
    f"/api/v1/%zz{SECRET}",
    "/api/v1/me",
    "/-/purge",
    "/api/v1/other/thing?short-secret=1",
)


def everything(url: str, upstream: Upstream) -> None:
    """Tokens in every place where somebody may put one, while upstream does everything that it may do."""
    fields = {
        "Authorization": f"Bearer {SECRET}",
        "Cookie": f"cargo_session={SECRET}",
        "X-Request-Id": SECRET,
        "X-Odd": f"\x80{SECRET}",
    }
    with httpx.Client(trust_env=False, timeout=30) as client:
        for fault in (None, faults.Status(500), faults.Garbage(), faults.Reset(), faults.Truncate()):
            upstream.heal()
            if fault is not None:
                upstream.fault("", fault)
            for path in PATHS:
                for method in ("GET", "PUT"):
                    content = f'{{"token": "{SECRET}"}}'.encode() if method == "PUT" else None
                    raw = [(name.encode(), value.encode("latin-1")) for name, value in fields.items()]
                    with suppress(httpx.RemoteProtocolError):  # what upstream cuts short comes as it is
                        client.request(method, url + path, headers=raw, content=content)
        upstream.heal()
        upstream.stop()
        for path in PATHS:
            client.get(url + path, headers={"Authorization": SECRET})
