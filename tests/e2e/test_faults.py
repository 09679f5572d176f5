"""What the machine may do to a running server: a disk that is really full, no descriptors left, a damaged database."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import httpx
import pytest

from tests.e2e.harness import Proxy, proxy
from tests.soak.census import cpu_seconds, descriptors
from tests.soak.machine import fill
from tests.soak.stage import ROOM, small_file_system
from tests.upstream import Source, Upstream, samples
from tests.waiting import until

PACKAGES = [f"large-{number}" for number in range(6)]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own."""
    with ExitStack() as stack:
        try:
            stack.enter_context(small_file_system(tmp_path / "disk"))
        except RuntimeError as error:  # nobody but root may have one
            if os.environ.get("CI") == "true":
                raise
            pytest.skip(str(error))
        yield tmp_path / "disk"


@pytest.fixture
def large(upstream: Upstream) -> dict[str, bytes]:
    """Tarballs, by their paths at the proxy."""
    found = {}
    for name in PACKAGES:
        tarball = upstream.registry.add(Source(name, "1.0.0", padding=400_000), samples.OWNER).tarball
        found[f"/files/crates/{name}/1.0.0/{hashlib.sha256(tarball).hexdigest()}/download"] = tarball
    return found


def get(url: str) -> httpx.Response:
    return httpx.get(url, trust_env=False, timeout=30)


def test_a_full_disk_is_passed_by_and_used_again_once_there_is_room(
    tmp_path: Path, upstream: Upstream, disk: Path, large: dict[str, bytes]
) -> None:
    settings = {
        **upstream.settings_env(),
        "CRATES_PROXY_CACHE__DIR": str(disk / "cache"),
        "CRATES_PROXY_CACHE__MIN_FREE": "1MiB",
        "CRATES_PROXY_CACHE__MAX_SIZE": f"{ROOM // 2}MiB",
        "CRATES_PROXY_CACHE__MAX_OBJECT": "8MiB",
        "CRATES_PROXY_SERVER__WORKERS": "2",
    }
    (first, *others), bodies = list(large), large
    with proxy(tmp_path / "proxy", settings) as running:
        assert get(running.url + first).content == bodies[first]
        fill(disk / "filler")
        for path in (*others, first):
            assert get(running.url + path).content == bodies[path]
        for path in ("/api/v1/crates/leaf", "/index/le/af/leaf", "/api/v1/crates/nothing"):
            assert get(running.url + path).status_code == (404 if "nothing" in path else 200)
        ready = get(running.url + "/readyz")
        assert ready.status_code == 200 and "tarballs: degraded" in ready.text, ready.text
        (disk / "filler").unlink()
        for path in others:
            assert get(running.url + path).content == bodies[path]
        upstream.forget()
        for path in bodies:
            assert get(running.url + path).content == bodies[path]
        assert not upstream.asked("static"), "all of it is stored now"
        until(lambda: "degraded" not in get(running.url + "/readyz").text)
        assert running.stop() == 0


def test_while_the_databases_fail_all_is_served_and_afterwards_stored_again(
    tmp_path: Path, upstream: Upstream, large: dict[str, bytes]
) -> None:
    """Nothing can be written anywhere (EFBIG), which SQLite tells as an I/O error."""
    settings = {**upstream.settings_env(), "CRATES_PROXY_CACHE__MEMORY": "0"}
    paths = [*large, "/api/v1/crates/leaf", "/index/le/af/leaf", "/files/readmes/leaf/leaf-1.0.0.html"]
    with proxy(tmp_path / "proxy", settings) as running:

        def served() -> bool:
            for path in paths:
                answer = get(running.url + path)
                assert answer.status_code == 200 and answer.content == large.get(path, answer.content)
            return True

        assert get(running.url + paths[-1]).status_code == 200
        limit = resource.prlimit(running.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(running.pid, resource.RLIMIT_FSIZE, (64, limit[1]))
        assert served() and served()
        ready = get(running.url + "/readyz")
        assert ready.status_code == 200
        for name in ("json", "index"):
            assert re.search(rf"^{name}: degraded .*disk I/O error", ready.text, re.MULTILINE), ready.text
        resource.prlimit(running.pid, resource.RLIMIT_FSIZE, limit)
        assert served()
        upstream.forget()
        assert served()
        assert not upstream.asked(), "all of it is stored now"
        assert not list(running.cache.rglob("*.damaged-*"))
        assert running.stop() == 0


def test_without_descriptors_who_is_connected_goes_on_and_nothing_spins(
    tmp_path: Path, upstream: Upstream, large: dict[str, bytes]
) -> None:
    """Whoever comes meanwhile waits or is put out; afterwards all is as before."""
    path = "/api/v1/crates/leaf"
    with proxy(tmp_path / "proxy", upstream.settings_env()) as running, ExitStack() as stack:
        assert get(running.url + path).status_code == 200
        old = stack.enter_context(closing(http.client.HTTPConnection(running.url.removeprefix("http://"), timeout=30)))
        old.request("GET", path)
        assert old.getresponse().read()
        limit = resource.prlimit(running.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(running.pid, resource.RLIMIT_NOFILE, (descriptors(running.pid), limit[1]))
        for _ in range(20):
            client = stack.enter_context(closing(socket.socket()))
            client.settimeout(30)
            client.connect(("127.0.0.1", int(running.url.rpartition(":")[2])))
        begun, spent = time.monotonic(), cpu_seconds(running.pid)
        while time.monotonic() - begun < 2.0:
            old.request("GET", path)
            answer = old.getresponse()
            assert answer.status == 200 and answer.read()
            time.sleep(0.2)
        assert cpu_seconds(running.pid) - spent < 1.0, "it waits, and does not try without end"
        resource.prlimit(running.pid, resource.RLIMIT_NOFILE, limit)
        until(lambda: get(running.url + path).status_code == 200)
        for path, tarball in large.items():
            assert get(running.url + path).content == tarball
        assert running.stop() == 0


@pytest.mark.parametrize("name", ["json", "tarballs/ledger"])
def test_a_database_that_is_damaged_while_two_workers_run_is_replaced_for_both(
    tmp_path: Path, upstream: Upstream, large: dict[str, bytes], name: str
) -> None:
    settings = {**upstream.settings_env(), "CRATES_PROXY_SERVER__WORKERS": "2", "CRATES_PROXY_CACHE__MEMORY": "0"}
    with proxy(tmp_path / "proxy", settings) as running:
        paths = [*large, "/api/v1/crates/leaf", "/index/le/af/leaf"]

        def served(running: Proxy = running) -> None:
            for path in paths:
                for _ in range(3):
                    answer = get(running.url + path)
                    assert answer.status_code == 200 and answer.content == large.get(path, answer.content)

        served()
        (database,) = (running.cache / name).glob("v*/cache.db")
        with database.open("r+b") as file:
            file.write(os.urandom(64 * 1024))
        served()
        running.kill()
        running.start()
        served()
        assert list((running.cache / name).glob("v*.damaged-*"))
        upstream.forget()
        served()
        assert not upstream.asked("static") and not upstream.asked("api"), "what was stored since is stored for both"
        assert running.stop() == 0
