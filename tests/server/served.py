"""A server of its own process, for tests that need signals: `python -m tests.server.served JSON`."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from proxy.errors import Error
from proxy.server import protocol, serving, sockets, workers
from proxy.server.guard import Limits
from tests.server.raw import Message, Receive, Send, echo
from tests.waiting import WITHIN

ROOT = Path(__file__).parent.parent.parent
FORMAT = "%(name)s %(levelname)s %(message)s"


def make_app(options: dict[str, Any]) -> Callable[..., Any]:
    logging.basicConfig(level=logging.INFO, format=FORMAT)
    if options.get("broken") == "factory":
        raise Error("the factory is broken")
    marker = options.get("broken_while")

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" and (options.get("broken") or (marker and os.path.exists(marker))):
            await receive()
            if options.get("broken") == "error":
                raise Error("the store is broken")
            if options.get("broken") == "bug":
                raise ValueError("a bug")
            if options.get("broken") == "end":
                await send({"type": "lifespan.startup.complete"})
                await receive()
                await send({"type": "lifespan.shutdown.failed", "message": "the end is broken"})
                return
            if options.get("broken") == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            await send({"type": "lifespan.startup.failed", "message": "no reason"})
            return
        await echo(scope, receive, send)

    return app


def on_drain(app: Callable[..., Any]) -> None:
    print("draining", file=sys.stderr, flush=True)


def main(options: dict[str, Any]) -> int:
    logging.basicConfig(level=logging.INFO, format=FORMAT)
    tls = serving.Tls(*options["tls"]) if "tls" in options else None
    count = options.get("workers", 1)
    workers.MARGIN = options.get("margin", workers.MARGIN)
    protocol.GRACE = options.get("grace", protocol.GRACE)
    try:
        if "socket" in options:
            groups = sockets.unix(options["socket"], workers=count)
        else:
            groups = sockets.tcp(options.get("host", "127.0.0.1"), options.get("port", 0), workers=count)
        return workers.run(
            make_app,
            options,
            groups=groups,
            tls=tls,
            drain_timeout=options.get("drain_timeout", 5.0),
            limits=Limits(**options.get("limits", {})),
            on_drain=on_drain,
        )
    except Error as error:
        logging.getLogger("proxy").error("crates-proxy did not start: %s", error.detail)
        return 1


class Served:
    """A running server: where it serves, and every line that it has said."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.lines: list[str] = []
        self._rest = b""

    def until(self, text: str, seconds: float = WITHIN) -> str:
        """The next line that holds this text."""
        end = time.monotonic() + seconds
        while True:
            for line in self._said(max(0.0, end - time.monotonic())):
                self.lines.append(line)
                if text in line:
                    return line
            assert time.monotonic() < end and self.process.poll() is None, f"no {text!r}: {self.lines}"

    def _said(self, seconds: float) -> Iterator[str]:
        assert self.process.stderr is not None
        if b"\n" not in self._rest and select.select([self.process.stderr], [], [], seconds)[0]:
            self._rest += os.read(self.process.stderr.fileno(), 1 << 16)
        while b"\n" in self._rest:
            line, self._rest = self._rest.split(b"\n", 1)
            yield line.decode()

    def url(self) -> str:
        return self.until("serving on").rsplit(" ", 1)[1]

    def port(self) -> int:
        return int(self.url().rsplit(":", 1)[1])

    def ended(self, seconds: float = WITHIN) -> int:
        """Its exit status; `lines` holds all that it said."""
        _, rest = self.process.communicate(timeout=seconds)
        self.lines += (self._rest + rest).decode().splitlines()
        return self.process.returncode

    def signal(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)


@contextlib.contextmanager
def served(**options: Any) -> Iterator[Served]:
    command = [sys.executable, "-m", "tests.server.served", json.dumps(options)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE) as process:
        try:
            yield Served(process)
        finally:
            process.kill()


if __name__ == "__main__":
    from tests.server import served as module  # Functions of __main__ cannot be sent to workers.

    sys.exit(module.main(json.loads(sys.argv[1])))
