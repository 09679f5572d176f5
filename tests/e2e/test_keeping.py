"""`verify` and `gc` beside a running server and without one, and what scripts read of the commands."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e import harness
from tests.e2e.commands import ran
from tests.e2e.harness import Proxy
from tests.upstream import Source, Upstream, samples
from tests.waiting import until

SIZE = 700_000  # more than what is held in memory: it is held open instead
CRATES = ("one", "two", "three")


@dataclass(frozen=True, slots=True)
class Running:
    """A server with two workers, and the settings of commands beside it."""

    proxy: Proxy
    upstream: Upstream
    beside: dict[str, str]

    def tarball(self, name: str) -> bytes:
        return self.upstream.registry.release(name, "1.0.0").tarball

    def stored(self, name: str) -> Path:
        sha256 = str(self.upstream.registry.release(name, "1.0.0").line["cksum"])
        return self.proxy.cache / "tarballs" / sha256[:2] / sha256[2:]

    def served(self, name: str, times: int = 8) -> set[bytes]:
        """What several requests get, each on a connection of its own, so that they reach both workers."""
        path = f"{self.proxy.url}/api/v1/crates/{name}/1.0.0/download"
        return {httpx.get(path, trust_env=False).content for _ in range(times)}


@pytest.fixture
def running(tmp_path: Path, upstream: Upstream, store: dict[str, str]) -> Iterator[Running]:
    for name in CRATES:
        noise = "".join(f"// {os.urandom(60).hex()}\n" for _ in range(SIZE // 62))
        upstream.registry.add(Source(name, "1.0.0", code=noise), samples.OWNER)
    settings = {**upstream.settings_env(), **store, "CRATES_PROXY_SERVER__WORKERS": "2"}
    with harness.proxy(tmp_path / "proxy", settings) as proxy:
        beside = {"CRATES_PROXY_CACHE__DIR": str(proxy.cache), "CRATES_PROXY_REDIS__PREFIX": proxy.prefix}
        yield Running(proxy, upstream, {**settings, **beside})


def told(*args: str, settings: dict[str, str], home: Path, code: int = 0) -> Any:
    """What a command prints for scripts."""
    done = ran(*args, "--json", settings=settings, home=home)
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


def damaged(path: Path) -> None:
    """Change a byte where it lies, as a failing disk does: who has it open reads that too."""
    with path.open("r+b") as file:
        file.seek(100)
        byte = file.read(1)
        file.seek(100)
        file.write(bytes([byte[0] ^ 1]))


def test_what_verify_sets_aside_no_worker_serves_any_more(running: Running, tmp_path: Path) -> None:
    for name in CRATES:
        assert running.served(name) == {running.tarball(name)}
    damaged(running.stored("two"))
    running.upstream.forget()
    done = ran("verify", settings=running.beside, home=tmp_path)
    assert done.returncode == 1
    assert "two 1.0.0: its bytes do not have its checksum" in done.stderr and "one 1.0.0" not in done.stderr
    assert "1 tarballs and 0 others were damaged, of 3 tarballs" in done.stdout
    assert not running.upstream.asked(), "it is nobody else's business"
    assert [path.name.partition("-")[2][:2] for path in (running.proxy.cache / "tarballs/corrupt").iterdir()] == [
        running.stored("two").parent.name
    ]
    assert running.served("two") == {running.tarball("two")}
    assert len(running.upstream.asked(host="static")) == 1
    again = ran("verify", settings=running.beside, home=tmp_path)
    assert (again.returncode, again.stdout.partition(":")[0]) == (0, "all right"), again.stderr


def test_verify_tells_scripts_what_is_damaged_and_drops_values_that_cannot_be_read(tmp_path: Path) -> None:
    with Upstream.running() as upstream:
        settings = {**upstream.settings_env(), "CRATES_PROXY_CACHE__DIR": str(tmp_path / "cache")}
        assert ran("warm", "leaf", "ok", settings=settings, home=tmp_path).returncode == 0
        (database,) = (tmp_path / "cache" / "index").glob("v*/cache.db")
        with closing(sqlite3.connect(database)) as cache:
            cache.execute("UPDATE Cache SET value = substr(value, 2) WHERE key LIKE 'index %le/af/leaf'")
            cache.commit()
        release = upstream.registry.release("leaf", "1.1.0")
        damaged(tmp_path / "cache" / "tarballs" / release.line["cksum"][:2] / release.line["cksum"][2:])
        found = told("verify", settings=settings, home=tmp_path, code=1)
        assert (found["ok"], found["tarballs"], found["entries"]) == (False, 2, 2)
        assert [(each["name"], each["version"]) for each in found["corrupt"]] == [("leaf", "1.1.0")]
        assert found["corrupt"][0]["sha256"] == release.line["cksum"]
        (key,) = found["unreadable"]
        assert key.endswith("le/af/leaf")
        clean = told("verify", settings=settings, home=tmp_path)
        assert (clean["ok"], clean["tarballs"], clean["entries"]) == (True, 1, 1)
        warmed = told("warm", "leaf", "ok", settings=settings, home=tmp_path)
        assert (warmed["fetched"], warmed["failures"]) == (1, [])


def test_gc_trims_what_was_not_used_for_longest_beside_a_running_server(running: Running, tmp_path: Path) -> None:
    for name in CRATES:
        assert running.served(name) == {running.tarball(name)}
    free = told("gc", settings=running.beside, home=tmp_path)
    assert (free["ok"], free["freed"]["tarballs"]) == (True, {"files": 0, "bytes": 0})
    small = {
        **running.beside,
        "CRATES_PROXY_CACHE__MAX_SIZE": str(free["stored"] - SIZE),
        "CRATES_PROXY_CACHE__MAX_OBJECT": "1MiB",
    }
    held = [running.stored(name) for name in CRATES]
    done = ran("gc", settings=small, home=tmp_path)
    assert done.returncode == 0 and "1 tarballs not used for longest" in done.stdout, done.stderr
    assert [path.exists() for path in held].count(False) == 1
    # Nobody holds it open any more: the room is free.
    gone = next(path for path in held if not path.exists())
    until(lambda: not _open_in(running.proxy, str(gone)))
    for name in CRATES:
        assert running.served(name, 2) == {running.tarball(name)}
    none = {**running.beside, "CRATES_PROXY_CACHE__MIN_FREE": "1000TiB"}
    full = told("gc", settings=none, home=tmp_path, code=1)
    assert full["freed"]["tarballs"]["files"] == len(CRATES) and "cache.min_free" in full["problems"][0]


def _open_in(proxy: Proxy, path: str) -> bool:
    """Does a process of it have this file open? A deleted one's name ends so in /proc."""
    links = (link for pid in proxy.pids for link in Path(f"/proc/{pid}/fd").iterdir())
    return any(_target(link).startswith(path) for link in links)


def _target(link: Path) -> str:
    try:
        return os.readlink(link)
    except FileNotFoundError:
        return ""


def test_what_cannot_be_reached_is_told_with_exit_1(tmp_path: Path) -> None:
    settings = {"CRATES_PROXY_CACHE__DIR": str(tmp_path / "cache"), "CRATES_PROXY_REDIS__URL": "redis://127.0.0.1:1"}
    for command in ("verify", "gc"):
        done = ran(command, settings=settings, home=tmp_path)
        assert done.returncode == 1 and "redis" in done.stderr, command


def test_scripts_can_read_what_commands_tell(tmp_path: Path, upstream: Upstream) -> None:
    settings = {**upstream.settings_env(), "CRATES_PROXY_CACHE__DIR": str(tmp_path / "cache")}
    warmed = told("warm", "leaf", "nope", settings=settings, home=tmp_path, code=1)
    assert (warmed["ok"], warmed["wanted"], [each["name"] for each in warmed["failures"]]) == (False, 2, ["nope"])
    archive = str(tmp_path / "all.tar.zst")
    exported = told("export", archive, settings=settings, home=tmp_path)
    assert (exported["ok"], exported["tarballs"], exported["copies"]) == (True, 1, 1)
    inside = {"CRATES_PROXY_CACHE__DIR": str(tmp_path / "inside")}
    imported = told("import", archive, settings=inside, home=tmp_path)
    assert (imported["ok"], imported["tarballs"], imported["copies"]) == (True, 1, 1)
    assert told("purge", "--all", settings=settings, home=tmp_path) == {"purged": 2}
    assert told("stats", settings=settings, home=tmp_path)["requests"]["hit"] == 0
    shown = told("config", settings={**settings, "CRATES_PROXY_ACCESS__ADMIN_TOKEN": "very-secret"}, home=tmp_path)
    assert shown["settings"]["server.port"] == {"value": 8080, "origin": "default"}
    assert shown["settings"]["cache.dir"]["origin"] == "CRATES_PROXY_CACHE__DIR"
    assert "very-secret" not in json.dumps(shown)
    wrong = told("config", "--check", settings={"CRATES_PROXY_SERVER__PORT": "many"}, home=tmp_path, code=2)
    assert wrong["ok"] is False and "server.port" in wrong["problems"][0]
    assert ran("export", "-", "--json", settings=settings, home=tmp_path).returncode == 2
