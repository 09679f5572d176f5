"""`setup`, `completion` and `doctor` as a user types them; what doctor says of cargo is what a real cargo does."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import harness
from tests.e2e.commands import ran
from tests.e2e.harness import ROOT, Proxy
from tests.e2e.toolchains import Toolchain
from tests.redis_server import redis_server
from tests.upstream import Upstream

MANIFEST = '[package]\nname = "mine"\nversion = "0.1.0"\nedition = "2021"\n[dependencies]\nleaf = "1"\n'
NOWHERE = "http://127.0.0.1:1"


@pytest.fixture
def mirrored(tmp_path: Path, upstream: Upstream) -> Iterator[Proxy]:
    with harness.proxy(tmp_path / "proxy", {**upstream.settings_env(), "CRATES_PROXY_SERVER__WORKERS": "2"}) as proxy:
        yield proxy


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A program that needs a crate, nowhere below a directory with a configuration of cargo."""
    (tmp_path / "project/src").mkdir(parents=True)
    (tmp_path / "project/Cargo.toml").write_text(MANIFEST)
    (tmp_path / "project/src/main.rs").write_text("fn main() {}\n")
    return tmp_path / "project"


class User:
    """Somebody with a home of his own, who runs cargo and our commands in one directory and one environment."""

    def __init__(self, toolchain: Toolchain, home: Path, cwd: Path, url: str) -> None:
        home.mkdir()
        self.home = home
        self.url = url
        self._cwd = cwd
        self._env = {
            "PATH": f"{toolchain.cargo.parent}:/usr/bin:/bin",
            "CARGO_HOME": str(home / "cargo"),
            "CARGO_NET_RETRY": "0",
            "CRATES_PROXY_SERVER__PUBLIC_URL": url,
        }

    def cargo(self, **environ: str) -> subprocess.CompletedProcess[str]:
        (self._cwd / "Cargo.lock").unlink(missing_ok=True)
        # Past the proxy there is nothing: what goes to crates.io is refused at once, and says where it wanted to go.
        env = {**self._env, "HOME": str(self.home), "https_proxy": NOWHERE, **environ}
        command = ["cargo", "generate-lockfile"]
        return subprocess.run(command, cwd=self._cwd, env=env, capture_output=True, text=True, timeout=60)

    def doctor(self, code: int, **environ: str) -> dict[str, list[str]]:
        """What is found, by what was looked at."""
        done = self.command("doctor", "--json", "--url", self.url, **environ)
        assert done.returncode == code, done.stdout + done.stderr
        return by_what(json.loads(done.stdout))

    def command(self, *args: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return ran(*args, settings={**self._env, "PYTHONPATH": str(ROOT), **environ}, home=self.home, cwd=self._cwd)


def by_what(told: Mapping[str, Any]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for each in told["findings"]:
        found.setdefault(each["what"], []).append(f"{each['grade']} {each['detail']}; {each['todo']}")
    return found


@pytest.fixture
def user(tmp_path: Path, newest: Toolchain, project: Path, mirrored: Proxy) -> User:
    return User(newest, tmp_path / "somebody", project, mirrored.url)


def test_what_doctor_says_of_cargo_is_what_cargo_does(user: User, project: Path, upstream: Upstream) -> None:
    # Nothing says anything, or only the environment, which cargo does not read sources from.
    for environ in ({}, {"CARGO_SOURCE_CRATES_IO_REPLACE_WITH": "mirror"}):
        (found,) = user.doctor(1, **environ)["cargo source"]
        assert found.startswith("fail cargo asks crates.io itself")
        assert ("from files only" in found) == bool(environ)
        went = user.cargo(**environ)
        assert went.returncode != 0 and "index.crates.io" in went.stderr
        assert not upstream.asked()

    # A URL without its last slash.
    (project / ".cargo").mkdir()
    config = project / ".cargo/config.toml"
    lines = user.command("setup").stdout
    config.write_text(lines.replace("/index/", "/index"))
    (found,) = user.doctor(1)["cargo source"]
    assert "does not end in a slash, which cargo refuses" in found and str(config) in found
    assert "must end in a slash" in user.cargo().stderr
    assert not upstream.asked()

    # Another proxy in between.
    config.write_text(lines)
    (found,) = user.doctor(0, http_proxy=NOWHERE)["cargo http.proxy"]
    assert "add 127.0.0.1 to no_proxy" in found
    assert user.cargo(http_proxy=NOWHERE).returncode != 0 and not upstream.asked()
    assert "cargo http.proxy" not in user.doctor(0, http_proxy=NOWHERE, no_proxy="127.0.0.1")
    assert user.cargo(http_proxy=NOWHERE, no_proxy="127.0.0.1").returncode == 0
    assert upstream.asked(host="index")


def test_what_setup_writes_cargo_goes_by_and_doctor_finds_nothing_wrong_with(user: User, upstream: Upstream) -> None:
    file = user.home / "cargo/config.toml"
    file.parent.mkdir()
    file.write_text("# mine\n[net]\nretry = 1\n")
    file.chmod(0o640)
    done = user.command("setup", "--write")
    assert done.returncode == 0, done.stderr
    assert file.read_text().startswith("# mine\n[net]\nretry = 1\n") and file.stat().st_mode & 0o777 == 0o640
    assert (user.home / "cargo/config.toml.before-crates-proxy").read_text() == "# mine\n[net]\nretry = 1\n"
    assert user.cargo().returncode == 0 and upstream.asked(host="index")
    found = user.doctor(0)
    assert found["cargo source"][0].startswith(f"ok crates.io is replaced by {user.url}/index/")
    assert found["cargo index"][0].startswith(f"ok {user.url}/index/ is this proxy's")
    assert found["server"][0].startswith("ok") and "server upstream index" in found
    # Again, and with another address: it is replaced, and nothing else is touched.
    assert "already" in user.command("setup", "--write").stderr
    moved = user.command("setup", "--write", CRATES_PROXY_SERVER__PUBLIC_URL="https://m.example")
    assert moved.returncode == 0 and file.read_text().count("sparse+https://m.example/index/") == 2
    assert user.url not in file.read_text()


def test_setup_writes_nothing_over_what_says_something_else(tmp_path: Path) -> None:
    file = tmp_path / "cargo/config.toml"
    file.parent.mkdir()
    file.write_text('[source.crates-io]\nreplace-with = "vendored"\n')
    done = ran("setup", "--write", settings={"CARGO_HOME": str(file.parent)}, home=tmp_path)
    assert done.returncode == 1 and "[source.crates-io] is there" in done.stderr and str(file) in done.stderr
    assert (
        file.read_text() == '[source.crates-io]\nreplace-with = "vendored"\n' and len(list(file.parent.iterdir())) == 1
    )


def test_setup_writes_where_a_link_leads_and_makes_what_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "dotfiles").mkdir()
    (tmp_path / ".cargo").mkdir()
    (tmp_path / ".cargo/config.toml").symlink_to(tmp_path / "dotfiles/cargo.toml")
    assert ran("setup", "--write", home=tmp_path).returncode == 0
    assert (tmp_path / ".cargo/config.toml").is_symlink()
    assert "sparse+http://127.0.0.1:8080/index/" in (tmp_path / "dotfiles/cargo.toml").read_text()


def test_setup_does_not_guess_an_address(tmp_path: Path) -> None:
    for settings in ({"CRATES_PROXY_SERVER__SOCKET": "/run/p.sock"}, {"CRATES_PROXY_SERVER__PORT": "0"}):
        done = ran("setup", settings=settings, home=tmp_path)
        assert done.returncode == 2 and "server.public_url" in done.stderr
    everywhere = ran("setup", settings={"CRATES_PROXY_SERVER__HOST": "0.0.0.0"}, home=tmp_path)
    assert "http://127.0.0.1:8080/index/" in everywhere.stdout and "server.public_url" in everywhere.stderr


def test_doctor_looks_at_all_parts(mirrored: Proxy, upstream: Upstream, tmp_path: Path) -> None:
    with redis_server() as server:
        settings = {
            **upstream.settings_env(),
            "CRATES_PROXY_CACHE__DIR": str(tmp_path / "cache"),
            "CRATES_PROXY_REDIS__URL": server.url,
            "CRATES_PROXY_SERVER__PUBLIC_URL": mirrored.url,
            "CRATES_PROXY_SERVER__WORKERS": "1000",
        }
        done = ran("doctor", "--json", settings=settings, home=tmp_path, cwd=tmp_path)
    found = by_what(json.loads(done.stdout))
    assert done.returncode == 1, "cargo is not set up here"
    assert any("server.workers = 1000" in line for line in found["settings"])
    assert any("upstream.contact" in line for line in found["settings"])
    assert found["redis"][0].startswith("ok") and "Valkey" in found["redis"][0]
    assert found["redis memory"][0].startswith("warn") and "set maxmemory" in found["redis memory"][0]
    assert found["redis persistence"][0].startswith("ok none")
    for host in ("api", "index", "static"):
        assert found[f"upstream {host}"][0].startswith("ok") and "TCP" in found[f"upstream {host}"][0]
        assert found[f"upstream {host} request"][0].startswith("ok")
        assert len(upstream.asked(host=host)) == 1
    assert found["clock"][0].startswith("ok")
    assert found["server"][0] == f"ok {mirrored.url} serves; "
    assert found["cache.dir"][0].startswith("ok") and found["disk"]


def test_doctor_says_which_step_of_the_way_fails(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with socket.socket() as silent:  # it takes connections, and says nothing
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        settings = {
            "CRATES_PROXY_UPSTREAM__API": NOWHERE,
            "CRATES_PROXY_UPSTREAM__INDEX": "http://no-such-host.invalid",
            "CRATES_PROXY_UPSTREAM__STATIC": f"https://127.0.0.1:{port}",
            "CRATES_PROXY_UPSTREAM__CONNECT_TIMEOUT": "1s",
            "CRATES_PROXY_REDIS__URL": "redis://:hidden@127.0.0.1:1",
            "CRATES_PROXY_CACHE__DIR": str(tmp_path / "file/cache"),
            "CRATES_PROXY_SERVER__PORT": "1",
        }
        done = ran("doctor", settings=settings, home=tmp_path, cwd=tmp_path)
    assert done.returncode == 1 and "hidden" not in done.stdout + done.stderr
    lines = done.stdout.splitlines()
    for grade, what, word in (
        ("fail", "upstream api", "TCP fails"),
        ("fail", "upstream index", "DNS fails"),
        ("fail", "upstream static", "TLS"),
        ("fail", "redis", "127.0.0.1:1"),
        ("fail", "cache.dir", "cannot write"),
        ("fail", "upstream requests", "cache.dir"),
        ("warn", "server", "none answers at http://127.0.0.1:1"),
        ("fail", "cargo source", "crates.io itself"),
    ):
        assert any(line.startswith(f"{grade} {what}: ") and word in line for line in lines), (what, done.stdout)


def test_doctor_wants_a_url_to_be_one(tmp_path: Path) -> None:
    done = ran("doctor", "--url", "crates.example.org", home=tmp_path)
    assert done.returncode == 2 and "does not begin with http:// or https://" in done.stderr


def test_offline_doctor_asks_nobody(upstream: Upstream, tmp_path: Path) -> None:
    settings = {**upstream.settings_env(), "CRATES_PROXY_UPSTREAM__OFFLINE": "true", "HOME": str(tmp_path)}
    done = ran("doctor", settings=settings, home=tmp_path, cwd=tmp_path)
    assert "upstream.offline is set" in done.stdout and not upstream.asked()


@pytest.mark.parametrize(
    ("words", "current", "offered"),
    [
        (("crates-proxy", "ver"), 1, {"verify"}),
        (("crates-proxy", "purge", "--endpoint", "owner"), 3, {"owners", "owner_user", "owner_team"}),
        (("crates-proxy", "purge", "--endpoint", "pub"), 3, set()),  # of what is never stored nothing can be purged
        (("crates-proxy", "purge", "--s"), 2, {"--soft"}),
        (("crates-proxy", "completion", ""), 2, {"bash", "zsh", "fish"}),
    ],
)
def test_a_shell_completes_commands_options_and_endpoints(
    words: tuple[str, ...], current: int, offered: set[str], tmp_path: Path
) -> None:
    env = {"_CRATES_PROXY_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(words), "COMP_CWORD": str(current)}
    program = Path(sys.executable).parent / "crates-proxy"
    done = subprocess.run(
        [program], env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), **env}, capture_output=True, text=True
    )
    assert {line.partition(",")[2] for line in done.stdout.split()} == offered, done.stderr


def test_bash_takes_the_script_that_is_printed(tmp_path: Path) -> None:
    script = ran("completion", "bash", home=tmp_path).stdout
    bash = shutil.which("bash")
    assert bash is not None
    asked = f"{script}\nCOMP_WORDS=(crates-proxy purge --endpoint key); COMP_CWORD=3\n"
    asked += '_crates_proxy_completion crates-proxy; echo "${COMPREPLY[@]}"\n'
    env = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    done = subprocess.run([bash, "--norc", "-c", asked], env=env, capture_output=True, text=True)
    assert set(done.stdout.split()) == {"keywords", "keyword"}, done.stderr
    for shell, word in (("zsh", "#compdef crates-proxy"), ("fish", "complete --no-files --command crates-proxy")):
        assert word in ran("completion", shell, home=tmp_path).stdout
    assert ran("completion", "csh", home=tmp_path).returncode == 2
