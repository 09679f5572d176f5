"""The front servers of deploy/front, as they stand there but for names, ports and the certificate: cargo fetches
through TLS and HTTP/2, and what is for operators stays with them."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.e2e import harness
from tests.e2e.harness import ROOT, Cargo
from tests.e2e.toolchains import Toolchain
from tests.upstream import Upstream, samples
from tests.waiting import came

FRONT = ROOT / "deploy" / "front"


def program(name: str) -> str:
    """A program of the system. CI must have it."""
    if found := shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin"):
        return found
    if os.environ.get("CI") == "true":
        pytest.fail(f"no {name}: install it with the system's packages")
    pytest.skip(f"no {name}: install it with the system's packages")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@dataclass(frozen=True, slots=True)
class Certificate:
    cert: Path
    key: Path


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """One for `localhost` that signs itself."""
    folder = tmp_path_factory.mktemp("certificate")
    made = Certificate(folder / "fullchain.pem", folder / "privkey.pem")
    command = f"{program('openssl')} req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(made.key), "-out", str(made.cert)]
    subprocess.run([*command.split(), *names], check=True, capture_output=True)
    return made


def replaced(text: str, *pairs: tuple[str, str]) -> str:
    """With each text that must be there replaced: a file that says something else is noticed."""
    for old, new in pairs:
        assert old in text, old
        text = text.replace(old, new)
    return text


def nginx(folder: Path, proxy: str, port: int, certificate: Certificate) -> list[str]:
    site = replaced(
        (FRONT / "nginx.conf").read_text(),
        ("127.0.0.1:8080", proxy),
        ("listen 443 ssl http2;", f"listen 127.0.0.1:{port} ssl http2;"),
        ("listen [::]:443 ssl http2;", ""),
        ("server_name crates.example.org;", "server_name localhost;"),
        ("/etc/ssl/crates-proxy/fullchain.pem", str(certificate.cert)),
        ("/etc/ssl/crates-proxy/privkey.pem", str(certificate.key)),
    )
    (folder / "site.conf").write_text(site)
    paths = "".join(
        f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/pid; error_log {folder}/error.log; worker_processes 1; events {{}}\n"
        f"http {{ {paths} log_format protocol '$server_protocol $status $request_uri';\n"
        f"access_log {folder}/access.log protocol; include {folder}/site.conf; }}\n"
    )
    command = [program("nginx"), "-e", str(folder / "error.log"), "-c", str(folder / "nginx.conf")]
    subprocess.run([*command, "-t"], check=True, capture_output=True)
    return command


def caddy(folder: Path, proxy: str, port: int, certificate: Certificate) -> list[str]:
    # Its own certificates would come from an authority on the net.
    extra = f"tls {certificate.cert} {certificate.key}\n\tlog {{\n\t\toutput stderr\n\t}}"
    site = replaced(
        (FRONT / "Caddyfile").read_text(),
        ("{$SITE:crates.example.org} {", f"https://localhost:{port} {{\n\tbind 127.0.0.1"),
        ("{$PROXY:127.0.0.1:8080}", proxy),
        ("\treverse_proxy", f"\t{extra}\n\treverse_proxy"),
    )
    (folder / "Caddyfile").write_text("{\n\tadmin off\n\tauto_https disable_redirects\n}\n" + site)
    command = [program("caddy"), "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]
    subprocess.run([command[0], "validate", *command[2:]], check=True, capture_output=True, env=_home(folder))
    return command


FRONTS = {"nginx": nginx, "caddy": caddy}


def _home(folder: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(folder), "XDG_DATA_HOME": str(folder)}


@dataclass(frozen=True, slots=True)
class Front:
    url: str
    trusted: Path
    folder: Path

    @property
    def log(self) -> str:
        return "".join(path.read_text() for path in sorted(self.folder.glob("*.log")))


@pytest.fixture(params=FRONTS)
def front(
    request: pytest.FixtureRequest, tmp_path: Path, upstream: Upstream, certificate: Certificate
) -> Iterator[Front]:
    """A front server before a proxy that knows the name by which it is called."""
    port, folder = free_port(), tmp_path / "front"
    folder.mkdir()
    url = f"https://localhost:{port}"
    with harness.proxy(
        tmp_path / "proxy", {**upstream.settings_env(), "CRATES_PROXY_SERVER__PUBLIC_URL": url}
    ) as proxy:
        command = FRONTS[request.param](folder, proxy.url.removeprefix("http://"), port, certificate)
        with (folder / "stderr.log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, env=_home(folder))
        try:
            assert came(lambda: _serves(port)), (folder / "stderr.log").read_text()
            yield Front(url, certificate.cert, folder)
        finally:
            process.terminate()
            process.wait(10)


def _serves(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def test_cargo_fetches_through_tls_and_http2(
    front: Front, newest: Toolchain, new_cargo: Callable[[Toolchain, str], Cargo], tmp_path: Path
) -> None:
    program = samples.project(tmp_path / "program")
    user = new_cargo(newest, front.url + "/index")
    (user.home / "config.toml").write_text(f'[http]\ncainfo = "{front.trusted}"\n')
    user.must("fetch", cwd=program)
    assert came(lambda: front.log.count("/download") >= len(samples.LOCKED)), front.log
    assert "HTTP/2.0" in front.log
    assert "HTTP/1.1" not in front.log.replace('"Via"', "")


@pytest.mark.parametrize(("source", "status"), [("127.0.0.1", 405), ("127.0.0.2", 403)])
def test_what_is_for_operators_is_not_for_the_network(front: Front, source: str, status: int) -> None:
    trust = ssl.create_default_context(cafile=front.trusted)
    transport = httpx.HTTPTransport(verify=trust, http2=True, local_address=source)
    with httpx.Client(transport=transport) as client:
        healthy = client.get(front.url + "/healthz")
        assert (healthy.status_code, healthy.http_version) == (200, "HTTP/2")
        assert client.get(front.url + "/-/purge").status_code == status
