"""A worker process: it is told by its supervisor what to serve, says when it does, and ends when the supervisor does.

The two hold the ends of a pair of sockets. Down it comes the job, once; up goes one byte, when connections are
accepted. The end of the stream tells the death of the other side, whatever it died of.
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
from proxy.server.guard import Limits
from proxy.server.serving import App, Tls, serve

READY = b"\n"
LENGTH = 8  # bytes of the number before the job


@dataclass(frozen=True)
class Job:
    """What a worker must know. All of it is pickled: make_app and on_drain are functions of a module."""

    make_app: Callable[[Any], App]
    settings: Any
    tls: Tls | None
    drain_timeout: float
    limits: Limits | None
    on_drain: Callable[[App], None]

    def packed(self) -> bytes:
        data = pickle.dumps(self)
        return len(data).to_bytes(LENGTH, "big") + data


def main(channel: int, *sockets: int) -> None:
    """The arguments are file descriptors that the supervisor left open."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Until uvicorn takes it: no traceback for Ctrl-C.
    supervisor = socket.socket(fileno=channel)
    with supervisor.makefile("rb") as stream:
        job: Job = pickle.loads(stream.read(int.from_bytes(stream.read(LENGTH), "big")))

    def ready() -> None:
        with contextlib.suppress(OSError):  # It is gone: the reader below sees it too.
            supervisor.send(READY)
        asyncio.get_running_loop().add_reader(supervisor, os.kill, os.getpid(), signal.SIGTERM)

    try:
        status = serve(
            lambda: job.make_app(job.settings),
            sockets=[socket.socket(fileno=fd) for fd in sockets],
            tls=job.tls,
            drain_timeout=job.drain_timeout,
            limits=job.limits,
            on_ready=ready,
            on_drain=job.on_drain,
        )
    except Error as error:
        logging.getLogger("proxy").error("crates-proxy did not start: %s", error.detail)
        status = 1
    sys.exit(status)
