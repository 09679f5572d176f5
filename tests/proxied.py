"""The real proxy on a real socket, in a thread of the test: its application, its server, its protocol class.

with proxied(upstream, tmp_path) as proxy:
    answer = proxy.get("/api/v1/crates/leaf")
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from proxy import settings
from proxy.rules.endpoints import TIMED
from proxy.server import serving, sockets
from proxy.server.fast import SHORTCUT
from proxy.server.guard import Guarded, Limits, bound
from proxy.web.app import App
from tests.upstream import Upstream

GENEROUS: Mapping[str, object] = {
    "cache.min_free": 0,
    "upstream.requests_per_second": 1000.0,
    "upstream.burst": 1000,
    "upstream.window_requests": 1_000_000,
}
"""Settings: time stands still, and tests ask much; what they are not about is not what they wait for."""


class ManualClock:
    """Seconds since the epoch that pass only when told."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class Proxied:
    """A running proxy. `client` speaks HTTP/1.1 to it and follows no redirects.

    `long_url`: another door to it, at which every request goes to the application. `short`: how many requests were
    answered without it so far; `lookup`: what answers these, if anything does. `both_ways`: each of those is asked
    again at the other door, and has to be answered the same there. `under_way`: how many requests the application has
    not answered yet. `unstored`: how many answers it has given, and not stored yet: `ask` waits for these.
    """

    url: str
    directory: Path
    client: httpx.Client
    clock: ManualClock = field(default_factory=ManualClock)
    long_url: str = ""
    short: Callable[[], int] = lambda: 0
    lookup: Callable[[], Any] = lambda: None
    both_ways: bool = True
    under_way: Callable[[], int] = lambda: 0
    unstored: Callable[[], int] = lambda: 0

    def get(self, path: str, **headers: str) -> httpx.Response:
        """GET; header names are written with `_` for `-`."""
        return self.ask("GET", path, **headers)

    def ask(self, method: str, path: str, **headers: str) -> httpx.Response:
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        before = self.short()
        answer = self.client.request(method, f"{self.url}{path}", headers=fields)
        if self.both_ways and self.short() > before:
            fields.setdefault("host", answer.request.headers["host"])
            long = self.client.request(method, f"{self.long_url}{path}", headers=fields)
            assert _told(answer) == _told(long), "the short way and the long way answer differently"
        while self.unstored():
            time.sleep(0.001)
        return answer


@contextlib.contextmanager
def proxied(
    upstream: Upstream, directory: Path, clock: ManualClock | None = None, *, both_ways: bool = True, **given: object
) -> Iterator[Proxied]:
    """Run the proxy before `upstream` with its cache in `directory`; `given` are settings, `_` twice for the dot.

    Time stands still until the clock is moved. The index does not decide about JSON unless a play says so: most count
    what upstream is asked, and mean the read itself.
    """
    clock = clock or ManualClock()
    overrides: Mapping[str, object] = {
        "server.port": 0,
        "cache.dir": str(directory),
        **GENEROUS,
        **upstream.settings(),
        "upstream.contact": "tests@example.org",
        "upstream.renew_ceiling": 0,
        **{name.replace("__", "."): value for name, value in given.items()},
    }
    loaded = settings.load(overrides, None, {}, endpoints=TIMED)
    groups = sockets.tcp("127.0.0.1", 0) + sockets.tcp("127.0.0.1", 0)
    app = App(loaded.settings, directory, clock)
    config = serving.configured(app, drain_timeout=5)
    server = Server(config, groups[1][0])
    thread = threading.Thread(target=server.run, args=(groups[0],), name="proxy")
    thread.start()
    try:
        assert server.ready.wait(10), "the proxy did not start"
        with httpx.Client(timeout=20, trust_env=False) as client:
            url, long_url = (sockets.url(group[0]) for group in groups)
            yield Proxied(
                url,
                directory,
                client,
                clock,
                long_url,
                server.short,
                server.lookup,
                both_ways,
                server.under_way,
                lambda: 0 if app._proxy is None else app._proxy.answers.unstored,
            )
    finally:
        server.should_exit = True
        thread.join(15)
        sockets.close(groups)
    assert not thread.is_alive(), "the proxy did not stop"


def _told(answer: httpx.Response) -> object:
    head = [item for item in answer.headers.raw if item[0] != b"date"]
    return answer.http_version, answer.status_code, answer.reason_phrase, head, answer.content


class Server(uvicorn.Server):
    """`long`: a socket at which every request goes to the application."""

    def __init__(self, config: uvicorn.Config, long: socket.socket) -> None:
        super().__init__(config)
        self.ready = threading.Event()
        self._long = long
        self._door: asyncio.Server | None = None

    def short(self) -> int:
        """How many requests were answered the short way."""
        lookup = self.lookup()
        if lookup is None:
            return 0
        counted = lookup.tallies().values()
        return sum(tally.requests for tally in (lookup.own, *counted))

    def lookup(self) -> Any | None:
        """What answers these, if anything does."""
        shortcut = self.lifespan.state.get(SHORTCUT)
        return None if shortcut is None else shortcut.lookup

    def under_way(self) -> int:
        """How many requests the application has not answered yet."""
        return len(self.server_state.tasks)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        guarded = bound(Guarded, Limits())
        self._door = await asyncio.get_running_loop().create_server(
            lambda: guarded(self.config, self.server_state, self.lifespan.state), sock=self._long
        )
        self.ready.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._door is not None:
            self._door.close()
        await super().shutdown(sockets=sockets)
