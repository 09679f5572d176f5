"""SIGHUP: settings and certificates are read again, in every worker, and whoever is connected goes on."""

from __future__ import annotations

import http.client
import re
import signal
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from tests.e2e.harness import Proxy
from tests.upstream import Upstream
from tests.waiting import came, until

CONNECTIONS = 12
"""New ones, one after the other: two workers are both among those who take them, but for once in two thousand times."""


@pytest.fixture(params=[1, 2])
def proxy(request: pytest.FixtureRequest, tmp_path: Path, upstream: Upstream) -> Iterator[Proxy]:
    """With its settings in a file."""
    directory = tmp_path / "proxy"
    made = Proxy(directory, {**upstream.settings_env(), "CRATES_PROXY_SERVER__WORKERS": str(request.param)})
    made.arguments = ("--config", str(directory / "settings.toml"))
    try:
        yield made
    finally:
        made.kill()


def written(proxy: Proxy, text: str) -> None:
    (proxy.log_file.parent / "settings.toml").write_text(text)


def reloaded(proxy: Proxy, text: str, said: str) -> None:
    """After these settings were written and SIGHUP was sent: it has said so."""
    before = len(proxy.log)
    written(proxy, text)
    proxy.tell(signal.SIGHUP)
    assert came(lambda: re.search(said, proxy.log[before:])), proxy.log[before:]


def everywhere(check: Callable[[], bool]) -> bool:
    """Whether it holds for each of so many new connections, once the workers have heard."""
    return came(lambda: all(check() for _ in range(CONNECTIONS)))


def status(url: str, **fields: str) -> int:
    return httpx.get(url, headers=fields, trust_env=False, timeout=20).status_code


def again(connection: http.client.HTTPConnection, path: str) -> int:
    """On a connection that is there already, unless it was idle for so long that the server has closed it."""
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
    except (http.client.RemoteDisconnected, ConnectionError):
        connection.close()
        return again(connection, path)
    answer.read()
    return answer.status


def purges(proxy: Proxy, token: str) -> int:
    fields = {"authorization": f"Bearer {token}"}
    answer = httpx.post(f"{proxy.url}/-/purge", headers=fields, json={"crate": "leaf"}, trust_env=False, timeout=20)
    return answer.status_code


def test_what_may_change_counts_at_once_and_in_workers_that_come_later(proxy: Proxy) -> None:
    path = "/api/v1/crates/leaf"
    written(proxy, '[access]\nadmin_token = "one"\n')
    proxy.start()
    assert (purges(proxy, "one"), purges(proxy, "two")) == (200, 401)
    with closing(http.client.HTTPConnection(proxy.url.removeprefix("http://"))) as old:
        for _ in range(3):  # it is at hand by then
            assert again(old, path) == 200
        reloaded(proxy, '[access]\nadmin_token = "two"\nnetworks = ["192.0.2.0/24"]\n', r"networks.* changed")
        until(lambda: again(old, path) == 403)  # who is connected is no exception
        assert everywhere(lambda: status(proxy.url + path) == 403)
        assert everywhere(lambda: status(proxy.url + "/healthz") == 200)
        reloaded(
            proxy, '[access]\nadmin_token = "two"\n[log]\naccess = true\n', r"access\.networks, log\.access changed"
        )
        assert everywhere(lambda: status(proxy.url + path) == 200)
        assert everywhere(lambda: purges(proxy, "one") == 401 and purges(proxy, "two") == 200)
        assert again(old, path) == 200
    until(lambda: "endpoint=crate" in proxy.log)
    workers = [pid for pid in proxy.pids if pid != proxy.pid]
    for pid in workers:
        proxy.tell(signal.SIGKILL, pid)
    assert everywhere(lambda: not workers or purges(proxy, "two") == 200)
    assert purges(proxy, "one") == 401
    assert proxy.stop() == 0


def test_a_time_that_becomes_shorter_counts_for_what_is_at_hand(proxy: Proxy, upstream: Upstream) -> None:
    path = "/api/v1/crates/leaf/owners"
    written(proxy, '[endpoints.owners]\nttl = "1d"\n')
    proxy.start()
    assert everywhere(lambda: status(proxy.url + path) == 200)
    asked = len(upstream.asked("api", contains="owners"))
    reloaded(proxy, "[endpoints.owners]\nttl = 0\nstale_while_revalidate = 0\n", r"endpoints\.owners\.ttl")
    assert everywhere(lambda: status(proxy.url + path) == 200)
    assert len(upstream.asked("api", contains="owners")) > asked


def test_what_cannot_be_used_changes_nothing_and_what_needs_a_restart_says_so(proxy: Proxy) -> None:
    written(proxy, '[access]\nadmin_token = "one"\n')
    proxy.start()
    for broken, why in (
        ('[access]\nadmin_token = "two"\nbroken', "settings.toml"),
        ('[access]\nadmin_token = "two"\nnetworks = ["nowhere"]\n', r"access\.networks"),
        ('[access]\nadmin_token = "two"\n[server]\ntls_cert = "x"\ntls_key = "y"\n', "needs a restart"),
    ):
        reloaded(proxy, broken, f"ERROR the settings are as before: .*{why}")
        assert everywhere(lambda: purges(proxy, "one") == 200)
    both = '[access]\nadmin_token = "two"\n[cache]\nmemory = "1MiB"\n'
    reloaded(proxy, both, r"to change cache\.memory needs a restart")
    assert everywhere(lambda: purges(proxy, "two") == 200)
    reloaded(proxy, both, r"to change cache\.memory needs a restart")
    assert proxy.stop() == 0


def certificate(directory: Path, name: str) -> tuple[Path, Path]:
    cert, key = directory / f"{name}.pem", directory / f"{name}.key"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"]
    subprocess.run([*command, "-keyout", key, "-out", cert], check=True, capture_output=True)
    return cert, key


def shown(port: int) -> str:
    """The certificate that a new connection sees."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", port), timeout=20) as plain, context.wrap_socket(plain) as wrapped:
        return ssl.DER_cert_to_PEM_cert(wrapped.getpeercert(True) or b"")


def test_new_connections_see_the_new_certificate_and_old_ones_go_on(proxy: Proxy, tmp_path: Path) -> None:
    one, two = certificate(tmp_path, "one"), certificate(tmp_path, "two")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"

    def put(pair: tuple[Path, Path]) -> None:
        cert.write_bytes(pair[0].read_bytes())
        key.write_bytes(pair[1].read_bytes())

    settings = f'[server]\ntls_cert = "{cert}"\ntls_key = "{key}"\n'
    put(one)
    written(proxy, settings)
    proxy.start()
    port = int(proxy.url.rpartition(":")[2])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with closing(http.client.HTTPSConnection("127.0.0.1", port, context=context)) as old:
        old.connect()
        put((two[0], one[1]))  # half replaced
        reloaded(proxy, settings, r"ERROR the settings are as before: server\.tls_cert, server\.tls_key")
        assert everywhere(lambda: shown(port) == one[0].read_text())
        put(two)
        reloaded(proxy, settings, "the settings were read again")
        assert everywhere(lambda: shown(port) == two[0].read_text())
        assert again(old, "/healthz") == 200
    assert proxy.stop() == 0
