"""All that runs at once: the origin, and each server on the same core, started when a case first wants it."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.bench import cores, peers, processes, raw
from tests.bench.cores import Cores
from tests.bench.processes import Running
from tests.redis_server import redis_server
from tests.upstream import Registry

OURS, REDIS, TWO = "crates-proxy", "crates-proxy, Redis only", "crates-proxy, 2 workers"
NGINX, TUNED, VARNISH, EMPTY = "nginx", "nginx tuned", "varnish", "empty protocol"
TUNED_TWO = "nginx tuned, 2 workers"
PROXIES = (OURS, REDIS, TWO)

_SAYS = r"crates-proxy: serving on http://127\.0\.0\.1:(\d+)"


@dataclass(frozen=True, slots=True)
class Server:
    """Whatever is measured. `ours`: it has the proxy's own URLs."""

    name: str
    running: Running
    ours: bool

    @property
    def address(self) -> raw.Address:
        return self.running.address

    @property
    def host(self) -> str:
        """What a request calls it."""
        return f"{self.address[0]}:{self.address[1]}"

    def spent(self) -> float:
        """CPU seconds of all its processes."""
        return cores.seconds(cores.family(self.running.pid))

    def resident(self) -> int:
        return cores.resident(cores.family(self.running.pid))


class Stage:
    """`registry` is the one that the origin serves."""

    def __init__(self, cores: Cores, directory: Path, origin: Running, registry: Registry) -> None:
        self.cores = cores
        self.directory = directory
        self.registry = registry
        self._origin = origin
        self._servers: dict[str, Server] = {}
        self._open = contextlib.ExitStack()

    def server(self, name: str) -> Server:
        """It is started where it does not run yet."""
        if name not in self._servers:
            self._servers[name] = Server(name, self._open.enter_context(self._started(name)), name in PROXIES)
        return self._servers[name]

    def enter(self, server: Server) -> None:
        """One that runs already, under a name of its own."""
        self._servers[server.name] = server

    def empty(self, prepared: bytes) -> Server:
        """The empty protocol, from now on with these bytes."""
        path = self.directory / f"prepared-{len(self._servers)}-{id(prepared)}"
        path.write_bytes(prepared)
        command = ["tests.bench.ceiling", str(path)]
        running = self._open.enter_context(processes.announcing(command, self.cores.server))
        return Server(EMPTY, running, ours=False)

    def away(self, milliseconds: int) -> None:
        """Upstream is so far away from now on."""
        raw.asked(self._origin.address, raw.get(f"/-/delay/{milliseconds}", "origin"))

    def asked(self) -> int:
        """How many requests upstream has had so far."""
        told = json.loads(raw.asked(self._origin.address, raw.get("/-/asked", "origin")).body)
        return sum(told.values())

    def upstream(self, host: str, target: str) -> raw.Answered:
        """What upstream itself answers."""
        port = self._origin.ports[("api", "index", "static").index(host)]
        return raw.asked(("127.0.0.1", port), raw.get(target, "origin"))

    def close(self) -> None:
        self._open.close()

    @contextlib.contextmanager
    def proxy(self, directory: Path, **settings: str) -> Iterator[Running]:
        """The proxy with its cache in `directory`; settings as in the environment, without the prefix."""
        directory.mkdir(exist_ok=True)
        api, index, static = (f"http://127.0.0.1:{port}" for port in self._origin.ports)
        given = {
            "SERVER__PORT": "0",
            "CACHE__DIR": str(directory / "cache"),
            "CACHE__MIN_FREE": "0",
            "UPSTREAM__API": api,
            "UPSTREAM__INDEX": index,
            "UPSTREAM__STATIC": static,
            "UPSTREAM__CONTACT": "bench@example.org",
            **settings,
        }
        # Byte code is there in every installation, so it may be written here.
        foreign = ("CRATES_PROXY_", "PYTHONDONTWRITEBYTECODE")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        environment |= {f"CRATES_PROXY_{name}": value for name, value in given.items()}
        command = [*processes.MODULE, "proxy", "serve", "--host", "127.0.0.1"]
        log = directory / "proxy.log"
        log.unlink(missing_ok=True)
        with processes.serving(command, log, core=self.cores.server, says=_SAYS, environment=environment) as running:
            yield running

    def _started(self, name: str) -> contextlib.AbstractContextManager[Running]:
        directory, core, ports = (
            self.directory / name.replace(" ", "-").replace(",", ""),
            self.cores.server,
            self._origin.ports,
        )
        match name:
            case "crates-proxy":
                return self.proxy(directory)
            case "crates-proxy, Redis only":
                url = self._open.enter_context(redis_server()).url
                return self.proxy(directory, REDIS__URL=url, CACHE__MEMORY="0")
            case "crates-proxy, 2 workers":
                return self.proxy(directory, SERVER__WORKERS="2")
            case "nginx":
                return peers.nginx(directory, ports, core, tuned=False)
            case "nginx tuned":
                return peers.nginx(directory, ports, core, tuned=True)
            case "nginx tuned, 2 workers":
                return peers.nginx(directory, ports, core, tuned=True, workers=2)
            case "varnish":
                return peers.varnish(directory, ports, core)
        raise LookupError(name)


@contextlib.contextmanager
def opened(registry: Registry, *, huge: bool = False) -> Iterator[Stage]:
    """A stage with its origin; this process moves to the cores of the load. Raises `cores.Unfit`."""
    divided = cores.divided()
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, divided.load)
    try:
        with (
            tempfile.TemporaryDirectory(prefix="bench-") as directory,
            processes.announcing(["tests.bench.origin", *(["--huge"] if huge else [])]) as origin,
        ):
            stage = Stage(divided, Path(directory), origin, registry)
            try:
                yield stage
            finally:
                stage.close()
    finally:
        os.sched_setaffinity(0, before)
