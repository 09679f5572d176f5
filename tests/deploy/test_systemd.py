"""The unit: systemd takes it, it is as closed as it says, and what it starts tells when it serves and when it stops."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy import settings
from proxy.rules.endpoints import TIMED
from proxy.server import notify
from tests.deploy import files
from tests.deploy.test_files import program, ran
from tests.upstream import Upstream

UNIT = files.SYSTEMD / "crates-proxy.service"
ENVIRONMENT = files.SYSTEMD / "crates-proxy.env"
TOKEN = files.SYSTEMD / "admin-token.conf"
INSTALLED = "/opt/crates-proxy/bin/crates-proxy"


def values(key: str, file: Path = UNIT) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", file.read_text(), flags=re.MULTILINE)


def variables(file: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in file.read_text().splitlines() if line and not line.startswith("#"))


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit and its drop-in, for a program that is there."""
    path = tmp_path / UNIT.name
    path.write_text(UNIT.read_text().replace(INSTALLED, sys.executable))
    (tmp_path / f"{UNIT.name}.d").mkdir()
    (tmp_path / f"{UNIT.name}.d" / TOKEN.name).write_text(TOKEN.read_text())
    return path


def test_systemd_understands_every_line(unit: Path) -> None:
    done = ran(program("systemd-analyze"), "verify", "--man=no", unit)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    unit.write_text(unit.read_text().replace("PrivateTmp=", "PrivateTemp="))
    assert "PrivateTemp" in ran(program("systemd-analyze"), "verify", "--man=no", unit).stderr


def test_it_is_hardened(unit: Path) -> None:
    done = ran(program("systemd-analyze"), "security", "--offline=true", "--threshold=15", unit)
    assert done.returncode == 0, done.stdout


def test_what_the_environment_file_sets_are_settings() -> None:
    told = variables(ENVIRONMENT)
    loaded = settings.load({}, None, told, endpoints=TIMED)
    assert loaded.notes == ()
    assert set(told) - {"ARGUMENTS"} <= set(loaded.origins.values())


def test_the_token_comes_as_a_credential(tmp_path: Path) -> None:
    (tmp_path / "admin_token").write_text("c2VjcmV0\n")
    (assignment,) = values("Environment", TOKEN)
    name, _, path = assignment.partition("=")
    (credential,) = values("LoadCredential", TOKEN)
    assert path == "%d/" + credential.partition(":")[0]
    loaded = settings.load({}, None, {name: path.replace("%d", str(tmp_path))}, endpoints=TIMED)
    assert loaded.settings.access.admin_token == "c2VjcmV0"


def test_it_stops_later_than_the_proxy_drains() -> None:
    drains = settings.load({}, None, {}, endpoints=TIMED).settings.server.drain_timeout
    (stops,) = values("TimeoutStopSec")
    assert float(stops.removesuffix("s")) > drains


class Manager:
    """The socket on which a service manager hears how its services are."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(45)  # of a machine that is busy with other tests
        self._socket.bind(str(path))

    def hears(self) -> list[str]:
        return self._socket.recv(4096).decode().split("\n")

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    listening = Manager(tmp_path / "notify")
    yield listening
    listening.close()


@pytest.mark.parametrize(
    "arguments",
    ["--workers 1", "--workers 2", *(f"--config config/{name}.toml" for name in ("ci", "office", "shield"))],
)
def test_the_manager_is_told_when_it_serves_and_when_it_stops(tmp_path: Path, manager: Manager, arguments: str) -> None:
    (start,) = values("ExecStart")
    command = shlex.split(start.replace("$ARGUMENTS", f"--port 0 {arguments}"))
    assert command[0] == INSTALLED
    with Upstream.running() as upstream:
        environment = {
            **variables(ENVIRONMENT),
            **upstream.settings_env(),
            "PATH": os.environ["PATH"],
            "CACHE_DIRECTORY": str(tmp_path / "cache"),
            "NOTIFY_SOCKET": str(manager.path),
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "proxy", *command[1:]], cwd=files.ROOT, env=environment, stderr=subprocess.DEVNULL
        )
        try:
            ready = manager.hears()
            assert ready[0] == "READY=1"
            assert re.fullmatch(r"STATUS=serving on http://127\.0\.0\.1:\d+", ready[1])
            (reload,) = values("ExecReload")
            subprocess.run(shlex.split(reload.replace("$MAINPID", str(process.pid))), check=True)
            assert [manager.hears()[0] for _ in range(2)] == ["RELOADING=1", "READY=1"]
            process.send_signal(signal.SIGTERM)
            assert manager.hears()[0] == "STOPPING=1"
            assert process.wait(20) == 0
        finally:
            process.kill()
            process.wait()
    assert (tmp_path / "cache").is_dir(), "it keeps its files where systemd says"


def test_an_abstract_socket_is_told_too_and_nobody_is_no_fault(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.settimeout(5)
        listening.bind(f"\0{tmp_path}")
        notify.tell("READY=1", environ={"NOTIFY_SOCKET": f"@{tmp_path}"})
        assert listening.recv(64) == b"READY=1"
    for address in ("", "vsock:2:1234", str(tmp_path / "nobody")):
        notify.tell("READY=1", environ={"NOTIFY_SOCKET": address})
