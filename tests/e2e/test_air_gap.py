"""What was made ready builds with a real cargo: upstream off, answering nonsense, or on another machine."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from backports import zstd

from tests.e2e import harness
from tests.e2e.commands import ran
from tests.e2e.harness import ROOT, Cargo
from tests.e2e.toolchains import Toolchain
from tests.redis_server import redis_server
from tests.upstream import Upstream, faults, samples
from tests.waiting import until

NewCargo = Callable[[Toolchain, str], Cargo]


@dataclass(frozen=True, slots=True)
class Warmed:
    """A cache that `warm` has filled for the sample program, whose lock file a real cargo has written."""

    upstream: Upstream
    program: Path
    settings: dict[str, str]
    home: Path

    @property
    def lock(self) -> str:
        return str(self.program / "Cargo.lock")

    def at(self, cache: str) -> dict[str, str]:
        """The settings of a machine with another `cache.dir`."""
        return {**self.settings, "CRATES_PROXY_CACHE__DIR": str(self.home / cache)}


@pytest.fixture(scope="module")
def filled(newest: Toolchain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the program, its lock file, and the cache that `warm` has filled from another such upstream."""
    home = tmp_path_factory.mktemp("filled")
    program = samples.project(home / "program")
    with Upstream.running() as upstream:
        Cargo(newest, home / "user", upstream.index).must("generate-lockfile", cwd=program)
        settings = {**upstream.settings_env(), "CRATES_PROXY_CACHE__DIR": str(home / "cache")}
        done = ran("warm", str(program / "Cargo.lock"), settings=settings, home=home)
        assert done.returncode == 0, done.stderr
    return home


@pytest.fixture
def warmed(filled: Path, upstream: Upstream, tmp_path: Path) -> Warmed:
    for part in ("program", "cache"):
        shutil.copytree(filled / part, tmp_path / part)
    settings = {**upstream.settings_env(), "CRATES_PROXY_CACHE__DIR": str(tmp_path / "cache")}
    return Warmed(upstream, tmp_path / "program", settings, tmp_path)


def builds(warmed: Warmed, toolchain: Toolchain, new_cargo: NewCargo, **settings: str) -> None:
    """A user with an empty cargo home builds the program through a proxy with these settings."""
    with harness.proxy(warmed.home / "proxy", {**warmed.settings, **settings}) as proxy:
        cargo = new_cargo(toolchain, proxy.url + "/index")
        cargo.must("build", "--locked", cwd=warmed.program)
        assert cargo.says() == samples.SAYS


@pytest.mark.parametrize("offline", ["true", "false"])
def test_what_was_warmed_builds_while_upstream_is_off(
    offline: str, warmed: Warmed, newest: Toolchain, new_cargo: NewCargo
) -> None:
    warmed.upstream.stop()
    builds(warmed, newest, new_cargo, CRATES_PROXY_UPSTREAM__OFFLINE=offline)


UNWELL = {
    "429": faults.Status(429),
    "403": faults.Status(403),
    "500": faults.Status(500),
    "a page of a captive portal": faults.Status(200, (("content-type", "text/html"),), b"<html>please log in</html>"),
    "nothing": faults.Stall(),
}


@pytest.mark.parametrize("fault", UNWELL.values(), ids=UNWELL.keys())
def test_what_was_warmed_builds_whatever_upstream_answers(
    fault: faults.Fault, warmed: Warmed, newest: Toolchain, new_cargo: NewCargo
) -> None:
    warmed.upstream.fault("", fault)
    # Index files are older than their ttl at once, so that each is asked for.
    stale = {"CRATES_PROXY_ENDPOINTS__INDEX__TTL": "0", "CRATES_PROXY_UPSTREAM__STALE_AFTER": "0.2"}
    builds(warmed, newest, new_cargo, **stale)
    assert warmed.upstream.asked(host="index")


@pytest.mark.parametrize("part", ["whole", "what the lock file needs"])
def test_an_archive_builds_on_another_machine_without_upstream(
    part: str, warmed: Warmed, newest: Toolchain, new_cargo: NewCargo
) -> None:
    file = str(warmed.home / "cache.tar.zst")
    locks = [] if part == "whole" else [warmed.lock]
    warmed.upstream.stop()
    exported = ran("export", file, *locks, settings=warmed.settings, home=warmed.home)
    assert exported.returncode == 0 and "10 tarballs" in exported.stderr, exported.stderr
    other = warmed.at("other")
    assert ran("check", warmed.lock, settings=other, home=warmed.home).returncode == 1
    imported = ran("import", file, settings=other, home=warmed.home)
    assert imported.returncode == 0 and "10 tarballs" in imported.stderr, imported.stderr
    checked = ran("check", "--json", warmed.lock, settings=other, home=warmed.home)
    assert checked.returncode == 0
    assert json.loads(checked.stdout) == {"ok": True, "packages": 10, "missing": []}
    builds(warmed, newest, new_cargo, **other, CRATES_PROXY_UPSTREAM__OFFLINE="true")


def test_export_is_the_same_each_time_and_passes_through_pipes(warmed: Warmed) -> None:
    env = {"PATH": os.environ["PATH"], "HOME": str(warmed.home), **warmed.settings}
    command = [sys.executable, "-m", "proxy"]
    made = [
        subprocess.run([*command, "export", "-"], cwd=ROOT, env=env, stdout=subprocess.PIPE, check=True).stdout
        for _ in range(2)
    ]
    assert made[0] == made[1]
    env |= warmed.at("piped")
    assert subprocess.run([*command, "import", "-"], cwd=ROOT, env=env, input=made[0]).returncode == 0
    assert ran("check", "-", settings=warmed.at("piped"), home=warmed.home, stdin=Path(warmed.lock).read_text()).stdout
    again = subprocess.run([*command, "export", "-"], cwd=ROOT, env=env, stdout=subprocess.PIPE, check=True).stdout
    assert again == made[0], "what was imported is what was exported"


def test_an_extracted_archive_is_checked_by_sha256sum(warmed: Warmed) -> None:
    file = warmed.home / "cache.tar.zst"
    assert ran("export", str(file), settings=warmed.settings, home=warmed.home).returncode == 0
    with tarfile.open(fileobj=io.BytesIO(zstd.decompress(file.read_bytes()))) as archive:
        archive.extractall(warmed.home / "extracted", filter="data")
    for line in (warmed.home / "extracted/MANIFEST").read_text().splitlines():
        sha256, name = line.split("  ")
        assert hashlib.sha256((warmed.home / "extracted" / name).read_bytes()).hexdigest() == sha256
    assert (warmed.home / "extracted/index/le/af/leaf").exists()
    assert (warmed.home / "extracted/crates/tree/tree-1.0.0.crate").exists()


def test_a_tampered_member_is_refused_by_name_and_the_rest_is_imported(warmed: Warmed) -> None:
    file = warmed.home / "cache.tar.zst"
    assert ran("export", str(file), settings=warmed.settings, home=warmed.home).returncode == 0
    tampered = bytearray(zstd.decompress(file.read_bytes()))
    with tarfile.open(fileobj=io.BytesIO(bytes(tampered))) as archive:
        tampered[archive.getmember("crates/tree/tree-1.0.0.crate").offset_data + 40] ^= 1
    file.write_bytes(zstd.compress(bytes(tampered)))
    done = ran("import", str(file), settings=warmed.at("other"), home=warmed.home)
    assert done.returncode == 1
    assert "refused: crates/tree/tree-1.0.0.crate: its bytes do not have the checksum" in done.stderr
    assert "9 tarballs" in done.stderr
    checked = ran("check", warmed.lock, settings=warmed.at("other"), home=warmed.home)
    assert checked.returncode == 1
    assert "tree 1.0.0: tarball: it is not stored" in checked.stderr and "1 of 10" in checked.stderr


def test_an_import_that_is_killed_is_run_again(warmed: Warmed) -> None:
    file = warmed.home / "cache.tar.zst"
    assert ran("export", str(file), settings=warmed.settings, home=warmed.home).returncode == 0
    data, other = file.read_bytes(), warmed.at("other")
    env = {"PATH": os.environ["PATH"], "HOME": str(warmed.home), **other}
    process = subprocess.Popen([sys.executable, "-m", "proxy", "import", "-"], cwd=ROOT, env=env, stdin=subprocess.PIPE)
    assert process.stdin is not None
    # A flushed half: it has begun to store, and waits for more.
    half = zstd.ZstdCompressor()
    plain = zstd.decompress(data)
    with tarfile.open(fileobj=io.BytesIO(plain)) as archive:
        cut = archive.getmember("crates/tree/tree-1.0.0.crate").offset_data + 100
    process.stdin.write(half.compress(plain[:cut]) + half.flush(half.FLUSH_BLOCK))
    process.stdin.flush()
    tarballs = warmed.home / "other/tarballs"
    until(lambda: any(tarballs.glob("tmp/*")))  # it is filling a file
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdin.close()
    done = ran("import", str(file), settings=other, home=warmed.home)
    assert done.returncode == 0 and "10 tarballs" in done.stderr, done.stderr
    assert "10 were there already" in done.stderr, "the index files were stored before"
    assert not any(tarballs.glob("tmp/*"))
    assert ran("check", warmed.lock, settings=other, home=warmed.home).returncode == 0


def test_a_running_server_sees_what_was_imported(
    warmed: Warmed, store: dict[str, str], tmp_path: Path, newest: Toolchain, new_cargo: NewCargo
) -> None:
    file = str(warmed.home / "cache.tar.zst")
    assert ran("export", file, settings=warmed.settings, home=warmed.home).returncode == 0
    settings = {
        **warmed.upstream.settings_env(),
        **store,
        "CRATES_PROXY_SERVER__WORKERS": "2",
        "CRATES_PROXY_ENDPOINTS__INDEX__TTL": "1h",
        "CRATES_PROXY_ENDPOINTS__INDEX__NEGATIVE_TTL": "1h",
    }
    with harness.proxy(tmp_path / "running", settings) as proxy:
        # That there is no such crate is in the memory of both workers, and would be for an hour.
        warmed.upstream.fault("index GET", faults.Status(404))
        path = proxy.url + "/index/le/af/leaf"
        until(lambda: {httpx.get(path, trust_env=False).status_code for _ in range(8)} == {404})
        asked = len(warmed.upstream.asked())
        beside = {
            **settings,
            "CRATES_PROXY_CACHE__DIR": str(proxy.cache),
            "CRATES_PROXY_REDIS__PREFIX": proxy.prefix,
        }
        done = ran("import", file, settings=beside, home=warmed.home)
        assert done.returncode == 0, done.stderr
        assert {httpx.get(path, trust_env=False).status_code for _ in range(8)} == {200}
        assert len(warmed.upstream.asked()) == asked, "an import sends nothing upstream, and neither do fresh answers"
        new_cargo(newest, proxy.url + "/index").must("fetch", "--locked", cwd=warmed.program)


def test_warm_keeps_what_it_has_and_says_what_is_missing(warmed: Warmed) -> None:
    """A run is taken up where the last one stopped, also long after."""
    assert ran("purge", "--crate", "tree", settings=warmed.settings, home=warmed.home).returncode == 0
    warmed.upstream.forget()
    settings = {**warmed.settings, "CRATES_PROXY_ENDPOINTS__INDEX__TTL": "0"}
    again = ran("warm", warmed.lock, settings=settings, home=warmed.home)
    assert again.returncode == 0, again.stderr
    assert "10 of 10 are there" in again.stderr and "9 were there before" in again.stderr
    assert {one.target.rpartition("/")[2] for one in warmed.upstream.asked()} == {"tree", "tree-1.0.0.crate"}


def test_check_reads_every_byte(warmed: Warmed) -> None:
    sha256 = warmed.upstream.registry.release("tree", "1.0.0").line["cksum"]
    path = warmed.home / "cache/tarballs" / sha256[:2] / sha256[2:]
    damaged = bytearray(path.read_bytes())
    damaged[50] ^= 1
    path.write_bytes(damaged)
    warmed.upstream.forget()
    done = ran("check", "--json", warmed.lock, settings=warmed.settings, home=warmed.home)
    assert done.returncode == 1
    (missing,) = json.loads(done.stdout)["missing"]
    assert missing.pop("reason").startswith("its bytes are damaged")
    assert missing == {"name": "tree", "version": "1.0.0", "what": "tarball"}
    assert not warmed.upstream.asked()
    out = ran("export", str(warmed.home / "x"), settings=warmed.settings, home=warmed.home)
    assert out.returncode == 1 and "tree 1.0.0: tarball: its bytes are damaged" in out.stderr
    assert "9 tarballs" in out.stderr


def in_format(number: int, lock: str) -> str:
    """A lock file of cargo's format 4 in an older one, with a package from git besides."""
    git = '\n[[package]]\nname = "forked"\nversion = "1.0.0"\nsource = "git+https://example.org/forked#0123456789"\n'
    if number > 2:
        return lock.replace("version = 4", f"version = {number}", 1) + git
    lines = [line for line in lock.splitlines() if not line.startswith("version = 4")]
    if number == 2:
        return "\n".join(lines) + git
    sums = [
        f'"checksum {each["name"]} {each["version"]} ({each["source"]})" = "{each["checksum"]}"'
        for each in tomllib.loads(lock)["package"]
        if "source" in each
    ]
    bare = [line for line in lines if not line.startswith("checksum = ")]
    return "\n".join([*bare, git, "[metadata]", *sums])


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_lock_files_of_every_format_are_read(number: int, warmed: Warmed) -> None:
    text = in_format(number, Path(warmed.lock).read_text())
    done = ran("check", "-", settings=warmed.settings, home=warmed.home, stdin=text)
    assert (done.returncode, done.stdout) == (0, "all there: 10 packages build from this cache alone\n"), done.stderr
    assert done.stderr == "left out, since they come from git or another registry: forked\n"
    wrong = text.replace(warmed.upstream.registry.release("tree", "1.0.0").line["cksum"], "0" * 64)
    done = ran("check", "-", settings=warmed.settings, home=warmed.home, stdin=wrong)
    assert done.returncode == 1
    assert "tree 1.0.0: index: the stored one gives this version the checksum" in done.stderr
    assert "tree 1.0.0: tarball: it is not stored" in done.stderr


def test_arguments_that_cannot_be_are_told(tmp_path: Path) -> None:
    settings = {"CRATES_PROXY_CACHE__DIR": str(tmp_path / "cache")}
    (tmp_path / "plain").write_text("this is no archive")
    for code, words, arguments in (
        (2, "No such file", ("check", "none.lock")),
        (2, "Missing argument", ("check",)),
        (2, "No such file", ("export", str(tmp_path / "x"), "none.lock")),
        (1, "cannot be written", ("export", str(tmp_path / "no/such/x"))),
        (1, "No such file", ("import", str(tmp_path / "none"))),
        (1, "no zstd file", ("import", str(tmp_path / "plain"))),
    ):
        done = ran(*arguments, settings=settings, home=tmp_path)
        assert done.returncode == code and words in done.stderr, (arguments, done)
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "x").exists() and not (tmp_path / "x.partial").exists()


def test_a_redis_that_is_gone_makes_an_import_fail(warmed: Warmed) -> None:
    file = str(warmed.home / "cache.tar.zst")
    assert ran("export", file, settings=warmed.settings, home=warmed.home).returncode == 0
    with redis_server() as server:
        url = server.url
    settings = {**warmed.at("other"), "CRATES_PROXY_REDIS__URL": url}
    done = ran("import", file, settings=settings, home=warmed.home)
    assert done.returncode == 1 and "not everything could be stored" in done.stderr
