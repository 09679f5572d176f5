"""The real proxy on a real socket, in a thread of the test: its application, its server, its protocol class.

with proxied(upstream, tmp_path) as proxy:
    answer = proxy.get("/api/v1/crates/leaf")
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import uvicorn

from proxy import settings
from proxy.rules.endpoints import TIMED
from proxy.server import serving, sockets
from proxy.web.app import App
from tests.upstream import Upstream


class ManualClock:
    """Seconds since the epoch that pass only when told."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class Proxied:
    """A running proxy. `client` speaks HTTP/1.1 to it and follows no redirects."""

    url: str
    directory: Path
    client: httpx.Client
    clock: ManualClock = field(default_factory=ManualClock)

    def get(self, path: str, **headers: str) -> httpx.Response:
        """GET; header names are written with `_` for `-`."""
        return self.ask("GET", path, **headers)

    def ask(self, method: str, path: str, **headers: str) -> httpx.Response:
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.request(method, f"{self.url}{path}", headers=fields)


@contextlib.contextmanager
def proxied(
    upstream: Upstream, directory: Path, clock: ManualClock | None = None, **given: object
) -> Iterator[Proxied]:
    """Run the proxy before `upstream` with its cache in `directory`; `given` are settings, `_` twice for the dot.

    Time stands still until the clock is moved.
    """
    clock = clock or ManualClock()
    overrides: Mapping[str, object] = {
        "server.port": 0,
        "cache.dir": str(directory),
        "cache.min_free": 0,
        "upstream.api": upstream.api,
        "upstream.index": upstream.index,
        "upstream.static": upstream.static,
        "upstream.contact": "tests@example.org",
        **{name.replace("__", "."): value for name, value in given.items()},
    }
    loaded = settings.load(overrides, None, {}, endpoints=TIMED)
    groups = sockets.tcp("127.0.0.1", 0)
    config = serving.configured(App(loaded.settings, directory, clock), drain_timeout=5)
    server = Server(config)
    thread = threading.Thread(target=server.run, args=(groups[0],), name="proxy")
    thread.start()
    try:
        assert server.ready.wait(10), "the proxy did not start"
        with httpx.Client(timeout=20, trust_env=False) as client:
            yield Proxied(sockets.url(groups[0][0]), directory, client, clock)
    finally:
        server.should_exit = True
        thread.join(15)
        sockets.close(groups)
    assert not thread.is_alive(), "the proxy did not stop"


class Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self.ready.set()
