from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from proxy.errors import Error, SettingsError
from proxy.server import sockets


def test_port_0_chooses_one() -> None:
    [[sock]] = sockets.tcp("127.0.0.1", 0)
    with sock:
        assert sock.getsockname()[0] == "127.0.0.1" and sock.getsockname()[1] > 0
        assert sock.proto == socket.IPPROTO_TCP and not sock.get_inheritable()
        assert sockets.url(sock) == f"http://127.0.0.1:{sock.getsockname()[1]}"


def test_every_worker_gets_a_socket_on_the_same_port() -> None:
    groups = sockets.tcp("127.0.0.1", 0, workers=3)
    assert len({sock.getsockname() for (sock,) in groups}) == 1 and len(groups) == 3
    assert all(sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) for (sock,) in groups)
    sockets.close(groups)


def test_ipv6_is_served_and_written_in_brackets() -> None:
    [[sock]] = sockets.tcp("::1", 0)
    with sock:
        assert sockets.url(sock, tls=True) == f"https://[::1]:{sock.getsockname()[1]}"


def test_all_ipv6_addresses_are_all_ipv4_ones_too() -> None:
    [[sock]] = sockets.tcp("::", 0)
    with sock:
        sock.listen()
        socket.create_connection(("127.0.0.1", sock.getsockname()[1])).close()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_name_with_two_addresses_is_served_on_both(monkeypatch: pytest.MonkeyPatch, workers: int) -> None:
    both = [("127.0.0.1", 0), ("::1", 0, 0, 0), ("127.0.0.1", 0), ("192.0.2.1", 0)]
    found = [(socket.AF_INET6 if len(to) == 4 else socket.AF_INET, 1, 6, "", to) for to in both]
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: found)
    groups = sockets.tcp("localhost", 0, workers=workers)
    assert [[sock.getsockname()[0] for sock in group] for group in groups] == [["127.0.0.1", "::1"]] * workers
    assert len({sock.getsockname()[1] for group in groups for sock in group}) == 1
    sockets.close(groups)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("theirs", [1, 2])
def test_an_address_in_use_is_told_with_its_settings(workers: int, theirs: int) -> None:
    taken = sockets.tcp("127.0.0.1", 0, workers=theirs)
    for (sock,) in taken:
        sock.listen()
    port = taken[0][0].getsockname()[1]
    with pytest.raises(Error, match=rf"server\.host = '127\.0\.0\.1', server\.port = {port}: the address is in use"):
        sockets.tcp("127.0.0.1", port, workers=workers)
    sockets.close(taken)


def test_an_address_of_another_machine_is_told() -> None:
    with pytest.raises(Error, match="no such address"):
        sockets.tcp("192.0.2.1", 0)


@pytest.mark.parametrize("host", ["no such host", "a" * 300, "\u00fc" * 80])
def test_a_host_that_is_none_is_a_mistake_in_the_settings(host: str) -> None:
    with pytest.raises(SettingsError, match=r"server\.host"):
        sockets.tcp(host, 0)


@pytest.mark.parametrize("number, words", [("EACCES", "not permitted"), ("ENOBUFS", "cannot listen there")])
def test_other_refusals_are_told(monkeypatch: pytest.MonkeyPatch, number: str, words: str) -> None:
    import errno

    def refused(*_: object, **__: object) -> None:
        raise OSError(getattr(errno, number), "so it is")

    monkeypatch.setattr("proxy.server.sockets._bound", refused)
    with pytest.raises(Error, match=words):
        sockets.tcp("127.0.0.1", 80)


def test_a_unix_socket_is_for_its_owner_and_group(tmp_path: Path) -> None:
    path = str(tmp_path / "a b.sock")
    [[sock]] = sockets.unix(path)
    with sock:
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o660
        assert sockets.url(sock) == "http+unix://" + path.replace("/", "%2F").replace(" ", "%20")
    sockets.remove(path)
    sockets.remove(path)
    assert not os.path.exists(path)


def test_all_workers_share_a_unix_socket(tmp_path: Path) -> None:
    groups = sockets.unix(str(tmp_path / "s"), workers=2, mode=0o600)
    assert len({os.fstat(sock.fileno()).st_ino for (sock,) in groups}) == 1 and len(groups) == 2
    sockets.close(groups)


def test_what_a_dead_server_left_is_removed(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    sockets.close(sockets.unix(path))
    assert os.path.exists(path)
    sockets.close(sockets.unix(path))


def test_a_living_server_is_not_robbed(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    [[sock]] = sockets.unix(path)
    with sock:
        sock.listen()
        with pytest.raises(Error, match=r"server\.socket = .*: another server answers there"):
            sockets.unix(path)
    assert os.path.exists(path)


def test_a_server_too_busy_to_answer_is_not_robbed_either(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    [[sock]] = sockets.unix(path)
    with sock, socket.socket(socket.AF_UNIX) as waiting:
        sock.listen(0)
        waiting.connect(path)
        with pytest.raises(Error, match=r"server\.socket = .* cannot be used"):
            sockets.unix(path)


def test_a_file_that_is_no_socket_stays(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("precious")
    with pytest.raises(SettingsError, match="something else than a socket"):
        sockets.unix(str(tmp_path / "s"))
    assert (tmp_path / "s").read_text() == "precious"


@pytest.mark.parametrize("path", ["/nowhere/at/all", "/tmp/" + "x" * 200])
def test_a_path_that_cannot_be_is_told(path: str) -> None:
    with pytest.raises(Error, match=r"server\.socket = .* cannot be used"):
        sockets.unix(path)
