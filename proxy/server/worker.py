"""A worker process: it is told by its supervisor what to serve, says when it does, and ends when the supervisor does.

The two hold the ends of a pair of sockets. Down it comes the job, and later on whatever changes of its terms; up goes
one byte, when connections are accepted. The end of the stream tells the death of the other side, whatever it died of.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import pickle
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from proxy.errors import Error
from proxy.server.serving import App, Server, Terms, serve

READY = b"\n"
LENGTH = 8  # bytes of the number before what is told


@dataclass(frozen=True)
class Job:
    """What a worker must know. All of it is pickled: make_app, on_drain and on_reload are functions of a module."""

    make_app: Callable[[Any], App]
    terms: Terms
    on_drain: Callable[[App], None]
    on_reload: Callable[[App, Any], None]


def packed(told: Job | Terms) -> bytes:
    data = pickle.dumps(told)
    return len(data).to_bytes(LENGTH, "big") + data


def main(channel: int, *sockets: int) -> None:
    """The arguments are file descriptors that the supervisor left open."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Until uvicorn takes it: no traceback for Ctrl-C.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # It is the supervisor that reads again, if a terminal tells all.
    supervisor = socket.socket(fileno=channel)
    job: Job = pickle.loads(_exactly(supervisor, int.from_bytes(_exactly(supervisor, LENGTH), "big")))

    def ready(server: Server) -> None:
        with contextlib.suppress(OSError):  # It is gone: the reader below sees it too.
            supervisor.send(READY)
        supervisor.setblocking(False)
        asyncio.get_running_loop().add_reader(supervisor, _Heard(supervisor, server))

    terms = job.terms
    try:
        status = serve(
            lambda: job.make_app(terms.settings),
            sockets=[socket.socket(fileno=fd) for fd in sockets],
            tls=terms.tls,
            drain_timeout=terms.drain_timeout,
            limits=terms.limits,
            on_ready=ready,
            on_drain=job.on_drain,
            on_reload=job.on_reload,
        )
    except Error as error:
        logging.getLogger("proxy").error("crates-proxy did not start: %s", error.detail)
        status = 1
    sys.exit(status)


class _Heard:
    """Called whenever there is something to read from the supervisor."""

    def __init__(self, supervisor: socket.socket, server: Server) -> None:
        self._supervisor = supervisor
        self._server = server
        self._data = b""

    def __call__(self) -> None:
        with contextlib.suppress(BlockingIOError):
            data = self._supervisor.recv(65536)
            if not data:
                asyncio.get_running_loop().remove_reader(self._supervisor)
                os.kill(os.getpid(), signal.SIGTERM)
            self._data += data
        while len(self._data) >= LENGTH and len(self._data) >= (end := LENGTH + self._size):
            told, self._data = self._data[LENGTH:end], self._data[end:]
            self._server.obey(pickle.loads(told))

    @property
    def _size(self) -> int:
        return int.from_bytes(self._data[:LENGTH], "big")


def _exactly(supervisor: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = supervisor.recv(size - len(data))
        if not piece:
            sys.exit(1)  # it died before it had said what to do
        data += piece
    return data
