"""The commands as a user types them, beside running servers and without one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.e2e import harness
from tests.e2e.commands import ran
from tests.e2e.harness import ROOT
from tests.redis_server import redis_server
from tests.upstream import Upstream, faults, samples
from tests.waiting import until

COMMANDS = (
    *("serve", "warm", "check", "export", "import", "purge", "verify", "gc"),
    *("stats", "config", "setup", "doctor", "completion"),
)
CRATE, INDEX = "/api/v1/crates/leaf", "/index/le/af/leaf"


def lock(packages: Mapping[str, str], upstream: Upstream) -> str:
    """A Cargo.lock of these packages."""
    text = "version = 4\n"
    for name, version in packages.items():
        checksum = upstream.registry.release(name, version).line["cksum"]
        text += f'\n[[package]]\nname = "{name}"\nversion = "{version}"\nchecksum = "{checksum}"\n'
        text += 'source = "registry+https://github.com/rust-lang/crates.io-index"\n'
    return text


def verdicts(url: str, path: str, times: int = 12) -> Counter[str]:
    """X-Cache of several requests, each on a connection of its own, so that they reach all workers."""
    return Counter(httpx.get(url + path, trust_env=False).headers["x-cache"] for _ in range(times))


def _warm(url: str) -> bool:
    return set(verdicts(url, INDEX)) == {"HIT"}


def test_what_was_warmed_is_served_without_upstream(tmp_path: Path, upstream: Upstream) -> None:
    (tmp_path / "Cargo.lock").write_text(lock(samples.LOCKED, upstream))
    settings = {**upstream.settings_env(), "CRATES_PROXY_CACHE__DIR": str(tmp_path / "cache")}
    first = ran("warm", str(tmp_path / "Cargo.lock"), settings=settings, home=tmp_path)
    assert (first.returncode, first.stdout) == (0, ""), first.stderr
    assert f"{len(samples.LOCKED)} of {len(samples.LOCKED)}" in first.stderr
    asked = Counter((one.host, one.target) for one in upstream.asked())
    assert len(asked) == 2 * len(samples.LOCKED) and set(asked.values()) == {1}
    upstream.forget()
    again = ran("warm", "-", settings=settings, home=tmp_path, stdin=lock(samples.LOCKED, upstream))
    assert again.returncode == 0 and "0 B fetched" in again.stderr
    assert not upstream.asked()
    upstream.stop()
    with harness.proxy(tmp_path / "proxy", {**settings, "CRATES_PROXY_UPSTREAM__OFFLINE": "true"}) as proxy:
        for name, version in samples.LOCKED.items():
            checksum = upstream.registry.release(name, version).line["cksum"]
            answer = httpx.get(f"{proxy.url}/files/crates/{name}/{version}/{checksum}/download", trust_env=False)
            assert answer.content == upstream.registry.release(name, version).tarball


def test_warm_takes_names_and_says_what_it_could_not_get(tmp_path: Path, upstream: Upstream) -> None:
    settings = {**upstream.settings_env(), "CRATES_PROXY_CACHE__DIR": str(tmp_path / "cache")}
    done = ran("warm", "leaf", "ok@0.1.0", "nope", "abc@9.9.9", settings=settings, home=tmp_path)
    assert done.returncode == 1
    assert "nope: crate `nope` does not exist" in done.stderr
    assert "abc 9.9.9: crate `abc` does not have a version `9.9.9`" in done.stderr
    assert "2 of 4 could not be had" in done.stderr
    again = ran("warm", "leaf", "ok@0.1.0", settings=settings, home=tmp_path)
    assert "2 of 2 are there: 0 B fetched for 0, 2 were there before" in again.stderr
    # The newest that is neither yanked nor a pre-release, and exactly what was named.
    assert {asked.target for asked in upstream.asked(host="static")} == {
        "/crates/leaf/leaf-1.1.0.crate",
        "/crates/ok/ok-0.1.0.crate",
    }


def test_warm_does_not_claim_what_was_not_kept(tmp_path: Path, upstream: Upstream) -> None:
    settings = {
        **upstream.settings_env(),
        "CRATES_PROXY_CACHE__DIR": str(tmp_path / "cache"),
        "CRATES_PROXY_CACHE__MAX_OBJECT": "10",
    }
    done = ran("warm", "leaf", settings=settings, home=tmp_path)
    assert done.returncode == 1
    assert "cache.max_object" in done.stderr


@pytest.mark.parametrize(
    ("argument", "says"),
    [("no-such.lock", "No such file"), ("a b", "neither NAME nor NAME@VERSION"), ("leaf@1", "NAME@VERSION")],
)
def test_an_argument_that_means_nothing_is_told_with_exit_2(argument: str, says: str, tmp_path: Path) -> None:
    done = ran("warm", argument, home=tmp_path)
    assert done.returncode == 2
    assert argument in done.stderr and says in done.stderr


def test_a_broken_lock_file_is_told_by_name(tmp_path: Path) -> None:
    (tmp_path / "broken.lock").write_text("[[package")
    done = ran("warm", str(tmp_path / "broken.lock"), home=tmp_path)
    assert done.returncode == 2 and "broken.lock" in done.stderr


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_purge_reaches_every_worker_of_a_running_server(
    workers: str, tmp_path: Path, upstream: Upstream, store: dict[str, str]
) -> None:
    settings = {**upstream.settings_env(), **store, "CRATES_PROXY_SERVER__WORKERS": workers}
    with harness.proxy(tmp_path / "proxy", settings) as proxy:
        beside = {
            **settings,
            "CRATES_PROXY_CACHE__DIR": str(proxy.cache),
            "CRATES_PROXY_REDIS__PREFIX": proxy.prefix,
        }
        until(lambda: set(verdicts(proxy.url, CRATE)) == {"HIT"})
        until(lambda: set(verdicts(proxy.url, INDEX)) == {"HIT"})
        done = ran("purge", "--crate", "LEAF", settings=beside, home=tmp_path)
        assert (done.returncode, done.stdout.strip()) == (0, "2"), done.stderr
        # Whichever worker is asked next has nothing, and one upstream request later all of them share the new copy.
        assert verdicts(proxy.url, CRATE, 1) == {"MISS": 1}
        assert set(verdicts(proxy.url, CRATE)) == {"HIT"}
        soft = ran("purge", "--all", "--soft", settings=beside, home=tmp_path)
        # The crate's JSON, and its index file, which was asked for to know how long the JSON holds.
        assert (soft.returncode, soft.stdout.strip()) == (0, "2"), soft.stderr
        upstream.fault("", faults.Status(500))
        assert set(verdicts(proxy.url, CRATE)) == {"STALE"}


def test_a_change_through_one_replica_is_seen_by_the_other_at_once(tmp_path: Path, upstream: Upstream) -> None:
    with redis_server() as server:
        settings = {
            **upstream.settings_env(),
            "CRATES_PROXY_REDIS__URL": server.url,
            "CRATES_PROXY_SERVER__WORKERS": "2",
        }
        with (
            harness.proxy(tmp_path / "one", {**settings, "CRATES_PROXY_REDIS__PREFIX": "shared:"}) as one,
            harness.proxy(tmp_path / "two", {**settings, "CRATES_PROXY_REDIS__PREFIX": "shared:"}) as two,
        ):
            for url in (one.url, two.url):
                until(partial(_warm, url))
            assert len(upstream.asked(host="index")) == 1, "what one replica has fetched, the other need not"
            answer = httpx.delete(
                f"{one.url}/api/v1/crates/leaf/1.0.0/yank",
                headers={"authorization": samples.TOKEN},
                trust_env=False,
            )
            assert answer.status_code == 200
            for _ in range(8):
                first = httpx.get(two.url + INDEX, trust_env=False).content.splitlines()[0]
                assert b'"yanked":true' in first


def test_purge_without_a_server_works_on_the_stores_and_needs_to_be_told_what(tmp_path: Path) -> None:
    settings = {"CRATES_PROXY_CACHE__DIR": str(tmp_path / "cache")}
    assert ran("purge", "--all", settings=settings, home=tmp_path).stdout == "0\n"
    for arguments in ((), ("--all", "--crate", "a"), ("--crate", "-"), ("--endpoint", "nothing")):
        done = ran("purge", *arguments, settings=settings, home=tmp_path)
        assert done.returncode == 2 and done.stderr, arguments


def test_a_purge_that_does_not_reach_everything_says_so_with_exit_1(tmp_path: Path) -> None:
    settings = {
        "CRATES_PROXY_CACHE__DIR": str(tmp_path / "cache"),
        "CRATES_PROXY_REDIS__URL": "redis://:hidden@127.0.0.1:1",
    }
    done = ran("purge", "--all", settings=settings, home=tmp_path)
    assert done.returncode == 1
    assert "redis" in done.stderr and "hidden" not in done.stderr


def test_config_prints_what_is_in_force_and_hides_secrets(tmp_path: Path) -> None:
    file = tmp_path / "proxy.toml"
    file.write_text('[server]\nport = 9000\n[access]\nadmin_token = "very-secret"\n')
    done = ran("config", "--config", str(file), settings={"CRATES_PROXY_LOG__LEVEL": "debug"}, home=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = {line.split(" ")[0]: line for line in done.stdout.splitlines()}
    assert "9000" in lines["server.port"] and f"{file}:server.port" in lines["server.port"]
    assert "CRATES_PROXY_LOG__LEVEL" in lines["log.level"]
    assert "very-secret" not in done.stdout
    assert ran("config", "--check", "--config", str(file), home=tmp_path).stdout == ""


def test_every_wrong_setting_is_told_at_once_with_exit_2(tmp_path: Path) -> None:
    file = tmp_path / "proxy.toml"
    file.write_text('[server]\nport = "many"\nprot = 1\n[blobs]\nurl = "s3://crates"\n')
    for command in ("serve", "config"):
        done = ran(command, "--config", str(file), settings={"CRATES_PROXY_LOG__LEVEL": "loud"}, home=tmp_path)
        assert done.returncode == 2
        for word in ("server.port", "prot", "blobs.url", "not supported by this version yet", "log.level"):
            assert word in done.stderr, (word, done.stderr)
    assert ran("serve", "--config", str(tmp_path / "missing"), home=tmp_path).returncode == 2


def test_a_cache_directory_that_cannot_be_used_is_told_with_exit_2_by_commands(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    settings = {"CRATES_PROXY_CACHE__DIR": str(tmp_path / "file" / "cache")}
    done = ran("purge", "--all", settings=settings, home=tmp_path)
    assert done.returncode == 2 and "cache.dir" in done.stderr
    served = ran("serve", "--port", "0", settings=settings, home=tmp_path)
    assert served.returncode == 1 and "cache.dir" in served.stderr


def test_setup_prints_the_lines_that_the_readme_tells(tmp_path: Path) -> None:
    done = ran("setup", home=tmp_path)
    readme = (ROOT / "README.md").read_text()
    assert done.returncode == 0
    lines = [line for line in done.stdout.splitlines() if not line.startswith("#")]
    assert "\n".join(lines) in readme
    elsewhere = ran("setup", settings={"CRATES_PROXY_SERVER__PUBLIC_URL": "https://m.example"}, home=tmp_path)
    assert 'registry = "sparse+https://m.example/index/"' in elsewhere.stdout


def test_version_and_help(tmp_path: Path) -> None:
    assert ran("--version", home=tmp_path).stdout.startswith("crates-proxy, version ")
    listed = ran("--help", home=tmp_path).stdout
    assert "..." not in listed.partition("Commands:")[2], "a line of the list is cut short"
    for command in COMMANDS:
        assert f"\n  {command} " in listed
        told = ran(command, "--help", home=tmp_path)
        # What it does, and how it is typed.
        assert told.returncode == 0 and f"crates-proxy {command}" in told.stdout.partition("\n")[2], command
