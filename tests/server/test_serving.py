"""A real server in a process of its own, spoken to over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy.server import serving, sockets
from proxy.server.guard import Limits
from tests.server.raw import OFFER, echo, one_answer, talk
from tests.server.served import Served, served
from tests.soak.census import descriptors
from tests.waiting import until

BODY = os.urandom(300_000)
CLOSE = b"GET /last HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
PUT = b"PUT /put HTTP/1.1\r\nHost: h\r\n" + OFFER + b"Content-Length: %d\r\n\r\n" % len(BODY)


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[Served, int]]:
    with served() as server:
        yield server, server.port()


def test_a_large_body_with_an_offer_arrives_whole(running: tuple[Served, int]) -> None:
    put, last = talk(("127.0.0.1", running[1]), PUT, BODY[:1], BODY[1:150_000], BODY[150_000:] + CLOSE)
    assert put[2]["body"].encode("latin-1") == BODY and last[2]["target"] == "/last"


def test_a_body_that_waits_to_be_asked_for_arrives(running: tuple[Served, int]) -> None:
    with socket.create_connection(("127.0.0.1", running[1]), timeout=10) as client, client.makefile("rb") as wire:
        client.sendall(PUT[:-2] + b"Expect: 100-continue\r\n\r\n")
        assert wire.readline() == b"HTTP/1.1 100 Continue\r\n" and wire.readline() == b"\r\n"
        client.sendall(BODY)
        answer = one_answer(wire)
        assert answer is not None and answer[2]["body"].encode("latin-1") == BODY


def test_an_old_client_is_told_nothing_before_its_answer(running: tuple[Served, int]) -> None:
    old = b"PUT /put HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx"
    (only,) = talk(("127.0.0.1", running[1]), old)
    assert (only[0], only[2]["body"]) == (200, "x")


def test_the_server_adds_no_fields_of_its_own(running: tuple[Served, int]) -> None:
    (only,) = talk(("127.0.0.1", running[1]), CLOSE)
    assert only[1].keys() == {"content-length", "connection"}


def test_nothing_that_a_client_does_is_logged(running: tuple[Served, int]) -> None:
    server, port = running
    for sent in (b"garbage\r\n\r\n", b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", b"\x16\x03\x01"):
        (only,) = talk(("127.0.0.1", port), sent)
        assert only[0] == 400
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(b"GET /endless HTTP/1.1\r\nHost: h\r\n\r\nGET /endless HTTP/1.1\r\nHost: h\r\n\r\n")
        client.recv(1)
    talk(("127.0.0.1", port), CLOSE)
    with pytest.raises(AssertionError, match="no 'anything'"):
        server.until("anything", 0.2)
    assert len(server.lines) == 1


def test_ipv6_is_served() -> None:
    with served(host="::1") as server:
        url = server.url()
        assert url.startswith("http://[::1]:")
        (only,) = talk(("::1", int(url.rsplit(":", 1)[1])), CLOSE, family=socket.AF_INET6)
        assert only[2]["client"] == "::1"


def test_a_unix_socket_is_served(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with served(socket=path) as server:
        assert server.url() == "http+unix://" + path.replace("/", "%2F")
        put, last = talk(path, PUT + BODY + CLOSE, family=socket.AF_UNIX)
        assert put[2]["body"].encode("latin-1") == BODY and last[2]["client"] is None
        server.signal()
        assert server.ended() == 0


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    directory = tmp_path_factory.mktemp("tls")
    cert, key = str(directory / "cert"), str(directory / "key")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        + ["-subj", "/CN=localhost", "-keyout", key, "-out", cert],
        check=True,
        capture_output=True,
    )
    return cert, key


def secured(port: int, certificate: tuple[str, str], request: bytes = CLOSE) -> bytes:
    """The first bytes of what is answered over TLS; none where the connection ends before that."""
    trust = ssl.create_default_context(cafile=certificate[0])
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            with trust.wrap_socket(client, server_hostname="localhost") as secure:
                secure.sendall(request)
                return secure.recv(12)
    return b""


def test_tls_is_served(certificate: tuple[str, str]) -> None:
    with served(tls=certificate, limits={"header_timeout": 4.0}) as server:
        url = server.url()
        assert url.startswith("https://127.0.0.1:")
        port = int(url.rsplit(":", 1)[1])
        with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
            plain.sendall(CLOSE)  # Not TLS: no news for the log.
            while plain.recv(100):
                pass
        with socket.create_connection(("127.0.0.1", port), timeout=10) as gone:
            gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # No news either.
        with socket.create_connection(("127.0.0.1", port), timeout=30) as silent:  # the loop itself gives it 60 s
            assert silent.recv(1) == b""
        assert secured(port, certificate) == b"HTTP/1.1 200"
        server.signal()
        assert server.ended() == 0
        assert [line for line in server.lines if "WARNING" in line or "ERROR" in line or "Traceback" in line] == []


def test_who_begins_a_handshake_is_counted_like_anybody_else(certificate: tuple[str, str]) -> None:
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(served(tls=certificate, limits={"connections": 4, "header_timeout": 60.0}))
        port = server.port()
        silent = [stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10)) for _ in range(5)]
        assert secured(port, certificate) == b"", "this is a quarter too many, and not told"
        silent.pop().close()
        until(lambda: secured(port, certificate) == b"HTTP/1.1 503")  # this is one too many
        silent.pop().close()
        until(lambda: secured(port, certificate) == b"HTTP/1.1 200")


def test_who_ends_its_side_over_tls_and_reads_nothing_is_put_out(certificate: tuple[str, str]) -> None:
    """TLS has handed on all of the answer, and what carries it waits until the client takes it."""
    large = b"PUT /put HTTP/1.1\r\nHost: h\r\nContent-Length: 290000\r\n\r\n" + b"x" * 290_000
    trust = ssl.create_default_context(cafile=certificate[0])
    with served(tls=certificate, limits={"write_timeout": 0.4}) as server, contextlib.ExitStack() as stack:
        address, before = ("127.0.0.1", server.port()), descriptors(server.process.pid)
        client = stack.enter_context(socket.socket())
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(10)
        client.connect(address)
        secure = stack.enter_context(trust.wrap_socket(client, server_hostname="localhost"))
        secure.sendall(large)
        assert secure.recv(12) == b"HTTP/1.1 200"
        with socket.socket(fileno=os.dup(secure.fileno())) as carrier:
            carrier.shutdown(socket.SHUT_WR)
        until(lambda: descriptors(server.process.pid) <= before)
        server.signal()
        assert server.ended(4) == 0


def test_who_is_in_the_middle_of_a_handshake_when_the_server_drains_is_served(certificate: tuple[str, str]) -> None:
    with served(tls=certificate, grace=30.0, drain_timeout=60.0) as server:
        port = server.port()
        trust = ssl.create_default_context(cafile=certificate[0])
        with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
            assert secured(port, certificate) == b"HTTP/1.1 200", "the one before it is accepted"
            server.signal()
            server.until("draining")
            time.sleep(1)  # by itself it would be gone by now
            with trust.wrap_socket(client, server_hostname="localhost") as secure:
                secure.sendall(CLOSE)
                assert secure.recv(12) == b"HTTP/1.1 200"
            assert server.ended(20) == 0


def test_who_connects_in_the_last_moment_before_a_server_closes_is_served_or_refused_and_not_reset() -> None:
    groups, started = sockets.tcp("127.0.0.1", 0), list[serving.Server]()
    address = groups[0][0].getsockname()

    def connect() -> None:
        with contextlib.suppress(ConnectionRefusedError):
            client = stack.enter_context(socket.create_connection(address, timeout=20))
            client.sendall(CLOSE)
            clients.append(client)

    def drained(app: object) -> None:
        connect()
        asyncio.get_running_loop().call_soon(connect)

    def serve() -> None:
        serving.serve(lambda: echo, sockets=groups[0], on_ready=started.append, on_drain=drained)

    with contextlib.ExitStack() as stack:
        clients: list[socket.socket] = []
        thread = threading.Thread(target=serve)
        thread.start()
        until(lambda: started)
        started[0].should_exit = True
        thread.join(20)
        answered = [client.recv(12) for client in clients]
    assert answered and set(answered) == {b"HTTP/1.1 200"}


@contextlib.contextmanager
def serving_here(**options: Any) -> Iterator[tuple[serving.Server, int]]:
    """A server in a thread of this process, and its port."""
    groups, started = sockets.tcp("127.0.0.1", 0), list[serving.Server]()
    port = groups[0][0].getsockname()[1]

    def serve() -> None:
        serving.serve(lambda: echo, sockets=groups[0], on_ready=started.append, **options)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        until(lambda: started)
        yield started[0], port
    finally:
        started[0].should_exit = True
        thread.join(20)
    assert not thread.is_alive()


def test_what_is_there_when_it_begins_to_serve_is_not_looked_through_for_cycles_again() -> None:
    threshold = gc.get_threshold()
    gc.unfreeze()  # what a server of another test has left
    try:
        with serving_here():
            assert gc.get_freeze_count() > 10_000 and gc.get_threshold()[0] == serving.YOUNG
    finally:
        gc.unfreeze()
        gc.set_threshold(*threshold)


def test_who_comes_for_ever_is_not_taken_for_ever_while_a_server_closes() -> None:
    class Endless:
        taken = 0

        def accept(self) -> tuple[socket.socket, None]:
            self.taken += 1
            here, there = socket.socketpair()
            there.close()
            return here, None

    endless: Any = Endless()
    started: list[serving.Server] = []

    def drained(app: object) -> None:
        started[0].config.backlog = 8
        started[0]._accept([endless])

    with serving_here(on_drain=drained) as (server, _):
        started.append(server)
    assert endless.taken == 8


def test_the_time_for_a_handshake_is_that_of_the_settings_read_last(certificate: tuple[str, str]) -> None:
    with (
        serving_here(tls=serving.Tls(*certificate), limits=Limits(header_timeout=600.0)) as (server, port),
        socket.create_connection(("127.0.0.1", port), timeout=30) as patient,
    ):
        until(lambda: server.server_state.connections)
        server.obey(serving.Terms(None, serving.Tls(*certificate), limits=Limits(header_timeout=1.0)))
        with socket.create_connection(("127.0.0.1", port), timeout=30) as silent:
            assert silent.recv(1) == b""
        patient.setblocking(False)
        with pytest.raises(BlockingIOError):
            patient.recv(1)
        assert secured(port, certificate) == b"HTTP/1.1 200"


def test_who_never_ends_a_handshake_is_not_waited_for(certificate: tuple[str, str]) -> None:
    with served(tls=certificate, limits={"header_timeout": 60.0}, drain_timeout=60.0) as server:
        port = server.port()
        with socket.create_connection(("127.0.0.1", port), timeout=30):
            assert secured(port, certificate) == b"HTTP/1.1 200"
            server.signal()
            assert server.ended(20) == 0


def test_a_certificate_that_cannot_be_read_is_told() -> None:
    with served(tls=["/nowhere", ""]) as server:
        assert server.ended() == 1
        assert "server.tls_cert, server.tls_key: cannot be used" in server.lines[-1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains(tmp_path: Path, number: int) -> None:
    marker = tmp_path / "held"
    with served() as server:
        address = ("127.0.0.1", server.port())
        with (
            socket.create_connection(address, timeout=10) as busy,
            socket.create_connection(address, timeout=10) as idle,
            socket.create_connection(address, timeout=10) as new,
            idle.makefile("rb") as idle_wire,
            new.makefile("rb") as new_wire,
            busy.makefile("rb") as wire,
        ):
            idle.sendall(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            assert one_answer(idle_wire)
            busy.sendall(b"GET /hold%b HTTP/1.1\r\nHost: h\r\n\r\n" % str(marker).encode())
            until(marker.exists)
            server.signal(number)
            server.until("draining")
            assert idle_wire.read() == b""
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(address, timeout=10)
            new.sendall(b"GET /new HTTP/1.1\r\nHost: h\r\n\r\n")
            last = one_answer(new_wire)
            assert last is not None and last[1]["connection"] == "close"
            marker.unlink()
            held = one_answer(wire)
            assert held is not None and held[0] == 200
        assert server.ended() == 0
    assert [line for line in server.lines if "serving on" in line] == server.lines[:1]
    assert server.lines[1:] == ["draining"]


def test_a_drain_has_an_end(tmp_path: Path) -> None:
    marker = tmp_path / "held"
    with served(drain_timeout=0.5) as server:
        with socket.create_connection(("127.0.0.1", server.port()), timeout=10) as client:
            client.sendall(b"GET /hold%b HTTP/1.1\r\nHost: h\r\n\r\n" % str(marker).encode())
            until(marker.exists)
            server.signal()
            assert server.ended() == 0
    assert [line for line in server.lines if "ERROR" in line] == [
        "uvicorn.error ERROR Cancel 1 running task(s), timeout graceful shutdown exceeded"
    ]


def test_who_interrupts_twice_does_not_wait(tmp_path: Path) -> None:
    marker = tmp_path / "held"
    with served(drain_timeout=60) as server:
        with socket.create_connection(("127.0.0.1", server.port()), timeout=10) as client:
            client.sendall(b"GET /hold%b HTTP/1.1\r\nHost: h\r\n\r\n" % str(marker).encode())
            until(marker.exists)
            server.signal(signal.SIGINT)
            server.until("draining")
            server.signal(signal.SIGINT)
            assert server.ended() == 0


@pytest.mark.parametrize(
    "broken, words",
    [("error", "the store is broken"), ("factory", "the factory is broken"), ("message", "no reason")],
)
def test_a_start_that_fails_says_why_once(broken: str, words: str) -> None:
    with served(broken=broken) as server:
        assert server.ended() == 1
    assert server.lines == [f"proxy ERROR crates-proxy did not start: {words}"]


def test_a_start_that_fails_by_a_bug_shows_where() -> None:
    with served(broken="bug") as server:
        assert server.ended() == 1
    assert server.lines[0] == "proxy ERROR crates-proxy did not start"
    assert server.lines[1].startswith("Traceback") and server.lines[-1] == "ValueError: a bug"


def test_an_end_that_fails_is_told() -> None:
    with served(broken="end") as server:
        server.url()
        server.signal()
        assert server.ended() == 0
    assert server.lines[-1] == "proxy ERROR crates-proxy did not stop cleanly: the end is broken"


def test_a_second_server_on_the_same_port_is_told() -> None:
    with served() as first:
        port = first.port()
        with served(port=port) as second:
            assert second.ended() == 1
        assert f"server.port = {port}: the address is in use" in second.lines[-1]
