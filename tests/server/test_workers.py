"""Several workers: real processes, killed for real."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from proxy.server.workers import ATTEMPTS, signalled
from tests.server.raw import one_answer, talk
from tests.server.served import served
from tests.soak.census import descriptors
from tests.waiting import until

CLOSE = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"


def refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=10).close()
    except ConnectionRefusedError:
        return True
    return False


def pids(port: int, count: int = 2) -> set[int]:
    """The workers that answer; the kernel spreads connections by chance."""
    found: set[int] = set()

    def enough() -> bool:
        ((_, _, body),) = talk(("127.0.0.1", port), CLOSE)
        found.add(body["pid"])
        return len(found) >= count

    until(enough)
    return found


def queued(port: int) -> int:
    """How many connections the kernel holds for somebody to accept."""
    with open("/proc/net/tcp") as table:
        rows = [line.split() for line in table]
    listening = [row for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "0A"]
    return sum(int(row[4].split(":")[1], 16) for row in listening)


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_two_workers_serve_and_one_that_is_killed_is_replaced() -> None:
    with served(workers=2) as server:
        port = server.port()
        before = pids(port)
        assert server.process.pid not in before
        victim = min(before)
        failures: list[Exception] = []
        answered: list[int] = []
        done = threading.Event()

        def customer() -> None:
            while not done.is_set():
                try:
                    ((_, _, body),) = talk(("127.0.0.1", port), CLOSE)
                    answered.append(body["pid"])
                except Exception as error:
                    failures.append(error)

        os.kill(victim, signal.SIGSTOP)  # From now on connections queue for it, and nobody accepts them.
        customers = [threading.Thread(target=customer, daemon=True) for _ in range(8)]
        for thread in customers:
            thread.start()
        until(lambda: queued(port) >= 4)
        os.kill(victim, signal.SIGKILL)
        after = pids(port, 2) - before
        done.set()
        for thread in customers:
            thread.join(10)

        assert failures == [] and victim not in answered and after and len(answered) >= 8
        server.signal()
        assert server.ended() == 0
    assert [line for line in server.lines if "serving on" in line] == server.lines[:1]
    assert f"proxy WARNING crates-proxy: worker {victim} ended with signal 9" in server.lines


def test_a_signal_drains_every_worker(tmp_path: Path) -> None:
    with served(workers=2) as server, ExitStack() as stack:
        port = server.port()
        workers = pids(port)
        held = []
        for number in range(6):
            marker = tmp_path / str(number)
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
            client.sendall(b"GET /hold%b HTTP/1.1\r\nHost: h\r\n\r\n" % str(marker).encode())
            held.append((marker, stack.enter_context(client.makefile("rb"))))
            until(marker.exists)
        server.signal()
        server.until("draining")
        server.until("draining")
        until(lambda: refused(port))  # a worker says that it drains just before it closes its socket
        for marker, wire in held:
            marker.unlink()
            answer = one_answer(wire)
            assert answer is not None and answer[0] == 200
        assert server.ended() == 0
        assert not any(alive(pid) for pid in workers)
    assert len(server.lines) == 3  # One line when it serves, one of the test for each worker.


def test_a_signal_to_all_its_processes_is_no_order_to_hurry(tmp_path: Path) -> None:
    """As a terminal sends it, and some service managers."""
    marker = tmp_path / "held"
    with served(workers=2, drain_timeout=60) as server:
        port = server.port()
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            client.sendall(b"GET /hold%b HTTP/1.1\r\nHost: h\r\n\r\n" % str(marker).encode())
            until(marker.exists)
            for pid in pids(port):
                os.kill(pid, signal.SIGTERM)
            server.until("draining")
            server.until("draining")
            server.signal()
            until(lambda: refused(port))  # by now the supervisor has told them
            time.sleep(1.0)  # whoever hurries has left by then
            marker.unlink()
            answer = one_answer(client.makefile("rb"))
            assert answer is not None and answer[0] == 200
        assert server.ended() == 0


def children(pid: int) -> set[int]:
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


@pytest.mark.parametrize("told", ["the server", "all its processes"])
def test_who_waits_for_a_worker_that_died_is_answered_although_the_server_ends(told: str) -> None:
    """The one that takes its place answers what the kernel has queued, and ends."""
    with served(workers=2) as server, ExitStack() as stack:
        port, supervisor = server.port(), server.process.pid
        before = pids(port)
        os.kill(min(before), signal.SIGKILL)
        clients = []
        for _ in range(16):
            clients.append(stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10)))
            clients[-1].sendall(CLOSE)
        assert queued(port) > 0
        if told == "all its processes":
            until(lambda: children(supervisor) - before)
            for pid in children(supervisor):
                os.kill(pid, signal.SIGTERM)
        server.signal()
        answers = [one_answer(stack.enter_context(client.makefile("rb"))) for client in clients]
        assert [answer and answer[0] for answer in answers] == [200] * 16
        assert server.ended() == 0
        assert refused(port)


def test_who_interrupts_twice_does_not_wait_for_workers(tmp_path: Path) -> None:
    marker = tmp_path / "held"
    with served(workers=2, drain_timeout=60) as server:
        with socket.create_connection(("127.0.0.1", server.port()), timeout=10) as client:
            client.sendall(b"GET /hold%b HTTP/1.1\r\nHost: h\r\n\r\n" % str(marker).encode())
            until(marker.exists)
            server.signal(signal.SIGINT)
            server.until("draining")
            server.until("draining")
            server.signal(signal.SIGINT)
            assert server.ended(5) == 0


def test_workers_that_hang_are_killed_at_last() -> None:
    with served(workers=2, drain_timeout=0.1, margin=0.3) as server:
        for pid in pids(server.port()):
            os.kill(pid, signal.SIGSTOP)
        server.signal()
        assert server.ended(5) == 0
    assert server.lines[-1] == "proxy ERROR crates-proxy: 2 workers did not end in time and were killed"


def test_workers_end_when_their_supervisor_is_killed() -> None:
    with served(workers=2) as server:
        workers = pids(server.port())
        server.signal(signal.SIGKILL)
        until(lambda: not any(alive(pid) for pid in workers))


def test_a_signal_takes_the_news_of_an_end_from_nobody() -> None:
    with subprocess.Popen(["true"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and nobody has heard of it yet
        signalled(process, signal.SIGTERM)
        assert process.returncode is None and os.waitpid(process.pid, 0)[1] == 0
        signalled(process, signal.SIGTERM)  # and nobody is there now


def test_workers_share_a_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with served(workers=2, socket=path) as server:
        assert server.url().startswith("http+unix://")
        ((status, _, _),) = talk(path, CLOSE, family=socket.AF_UNIX)
        assert status == 200
        server.signal()
        assert server.ended() == 0


@pytest.mark.parametrize("broken", ["error", "factory"])
def test_workers_that_do_not_start_are_not_tried_again(broken: str) -> None:
    with served(workers=2, broken=broken) as server:
        assert server.ended() == 1
    reasons = [
        line for line in server.lines if f"did not start: the {'store' if broken == 'error' else 'factory'}" in line
    ]
    assert 1 <= len(reasons) <= 2
    assert server.lines[-1] == "proxy ERROR crates-proxy: workers do not start; giving up"


def test_workers_that_are_killed_at_the_start_are_tried_again_and_given_up() -> None:
    with served(workers=2, broken="killed") as server:
        assert server.ended(20) == 1
    assert server.lines[-1] == "proxy ERROR crates-proxy: workers do not start; giving up"
    assert sum("ended with signal 9" in line for line in server.lines) >= 5


def test_a_replacement_that_does_not_start_at_once_is_tried_again(tmp_path: Path) -> None:
    trouble = tmp_path / "trouble"
    with served(workers=2, broken_while=str(trouble)) as server:
        port = server.port()
        for _ in range(2):
            before = pids(port)
            trouble.touch()
            os.kill(min(before), signal.SIGKILL)
            server.until("did not start: no reason")
            trouble.unlink()
            assert pids(port) != before
        server.signal()
        assert server.ended() == 0
    assert sum("serving on" in line for line in server.lines) == 1


def test_a_replacement_for_which_nothing_is_left_is_tried_again_while_the_others_serve() -> None:
    with served(workers=2) as server:
        port, supervisor = server.port(), server.process.pid
        before = pids(port)
        limit = resource.prlimit(supervisor, resource.RLIMIT_NOFILE)
        resource.prlimit(supervisor, resource.RLIMIT_NOFILE, (descriptors(supervisor), limit[1]))
        os.kill(min(before), signal.SIGKILL)
        for _ in range(ATTEMPTS + 1):
            server.until("a worker cannot be started: [Errno 24] Too many open files")
        assert server.process.poll() is None and alive(max(before))
        resource.prlimit(supervisor, resource.RLIMIT_NOFILE, limit)
        # One that is of no use until then would take half of all connections.
        assert max(before) in pids(port) and pids(port) != before
        assert descriptors(supervisor) < 30
        server.signal()
        assert server.ended() == 0


def test_a_second_server_is_not_let_in() -> None:
    with served(workers=2) as first, served(workers=2, port=first.port()) as second:
        assert second.ended() == 1
        assert "the address is in use" in second.lines[-1]
