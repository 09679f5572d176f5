"""The running thing: three hosts on loopback in a thread of their own, a log of what they were asked, and levers.

    with Upstream.running() as upstream:
        upstream.fault("static GET /crates/leaf", faults.Corrupt(), times=1)
        ...
        assert len(upstream.asked(host="static")) == 2

Methods may be called from any thread. Those that wait (`running`, `stop`, `start`, `wait_for`) block their caller:
call them by `anyio.to_thread.run_sync` where the proxy under test lives in the caller's own loop.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from tests.upstream import api, conversation, faults, index, static
from tests.upstream.registry import Registry
from tests.upstream.routes import Site
from tests.upstream.samples import registry as sample_registry
from tests.upstream.steps import Step
from tests.upstream.wire import Headers, Reply, Request, http_date, laid_out

T = TypeVar("T")

HOSTS = ("api", "index", "static")

Match = str | Callable[[Request], bool]
"""Which requests: a part of "HOST METHOD TARGET" (`"static GET /crates/leaf"`), or a function."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it arrived; `status` is what it was, or is to be, answered with (0: nothing)."""

    host: str
    method: str
    target: str
    headers: Headers
    body_length: int
    time: float
    status: int

    def header(self, name: str) -> str:
        return ", ".join(value for field, value in self.headers if field == name)


@dataclass(eq=False, slots=True)
class Rule:
    """A scripted fault; `left` is how often it will still strike, None for ever."""

    match: Match
    what: faults.Fault
    left: int | None


@dataclass(eq=False, slots=True)
class Gate:
    """Holds the answers to matching requests until it is opened."""

    match: Match
    opened: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: int = 0


def matches(match: Match, request: Request) -> bool:
    if callable(match):
        return match(request)
    return match in f"{request.host} {request.method} {request.target}"


class Upstream:
    """A small crates.io. `ports` are those of `HOSTS`, 0 for any; they stay the same over `stop` and `start`."""

    def __init__(self, registry: Registry | None = None, ports: Sequence[int] = (0, 0, 0)) -> None:
        self.registry = registry or sample_registry()
        self.log: list[Asked] = []
        self.ip_limit: api.IpLimit | None = None
        self._rules: list[Rule] = []
        self._gates: list[Gate] = []
        self._arrival = threading.Condition()
        self._lines = {host: conversation.Line(host, port) for host, port in zip(HOSTS, ports, strict=True)}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="upstream", daemon=True)
        self.site = Site(self.registry, self.api, self.index, self.static)

    @classmethod
    @contextmanager
    def running(cls, registry: Registry | None = None, ports: Sequence[int] = (0, 0, 0)) -> Iterator[Upstream]:
        upstream = cls(registry, ports)
        upstream._thread.start()
        try:
            upstream.start()
            yield upstream
        finally:
            upstream._close()

    @property
    def api(self) -> str:
        return self._lines["api"].url

    @property
    def index(self) -> str:
        return self._lines["index"].url

    @property
    def static(self) -> str:
        return self._lines["static"].url

    def settings(self) -> dict[str, str]:
        """The settings that make a proxy use this instead of crates.io."""
        return {"upstream.api": self.api, "upstream.index": self.index, "upstream.static": self.static}

    def settings_env(self) -> dict[str, str]:
        """The same in the environment."""
        return {f"CRATES_PROXY_{name.replace('.', '__').upper()}": value for name, value in self.settings().items()}

    # What it was asked.

    def asked(self, host: str | None = None, method: str | None = None, contains: str | None = None) -> list[Asked]:
        """The requests so far, oldest first; `contains` is a part of the raw target."""
        return [
            one
            for one in list(self.log)
            if (host is None or one.host == host)
            and (method is None or one.method == method)
            and (contains is None or contains in one.target)
        ]

    def forget(self) -> None:
        self.log.clear()

    def wait_for(
        self,
        count: int = 1,
        host: str | None = None,
        method: str | None = None,
        contains: str | None = None,
        *,
        within: float = 5.0,
    ) -> list[Asked]:
        """Waits until so many such requests have arrived."""
        with self._arrival:
            if not self._arrival.wait_for(lambda: len(self.asked(host, method, contains)) >= count, within):
                raise TimeoutError(f"only {len(self.asked(host, method, contains))} of {count} requests came")
        return self.asked(host, method, contains)

    # What goes wrong.

    def fault(self, match: Match, what: faults.Fault, times: int | None = None) -> Rule:
        """Lets `what` happen to matching requests, `times` times. Rules apply in the order given, one at a time."""
        rule = Rule(match, what, times)
        with self.registry.lock:
            self._rules.append(rule)
        return rule

    def heal(self) -> None:
        """Ends all faults."""
        with self.registry.lock:
            self._rules.clear()

    def stop(self, *hosts: str) -> None:
        """Cuts the line to these hosts, or all: connections are dropped and new ones refused."""
        self._run(self._each(conversation.Line.cut, hosts or HOSTS))

    def start(self, *hosts: str) -> None:
        """Back after `stop`, on the same ports."""
        self._run(self._each(lambda line: line.open(self._exchange), hosts or HOSTS))

    def hold(self, match: Match = "") -> None:
        """Requests that match are taken, logged and answered only after `release`."""
        with self.registry.lock:
            self._gates.append(Gate(match))

    @property
    def held(self) -> int:
        """How many requests are waiting for `release`."""
        return sum(gate.waiting for gate in self._gates)

    def release(self) -> None:
        with self.registry.lock:
            gates, self._gates = self._gates, []
        for gate in gates:
            self._loop.call_soon_threadsafe(gate.opened.set)

    # How a request is answered.

    async def _exchange(self, request: Request) -> Iterator[Step]:
        """The answer is made, and the rule chosen, when the request arrives; a gate only keeps it back."""
        reply = self._reply(request)
        with self.registry.lock:
            rule = next((one for one in self._rules if one.left != 0 and matches(one.match, request)), None)
            if rule is not None and rule.left is not None:
                rule.left -= 1
            gate = next((one for one in self._gates if matches(one.match, request)), None)
        status = reply.status if rule is None else rule.what.status(reply)
        with self._arrival:
            self.log.append(
                Asked(
                    request.host,
                    request.method,
                    request.target,
                    request.headers,
                    len(request.body),
                    time.time(),
                    status,
                )
            )
            self._arrival.notify_all()
        if gate is not None:
            gate.waiting += 1
            try:
                await gate.opened.wait()
            finally:
                gate.waiting -= 1
        return iter([laid_out(reply)]) if rule is None else rule.what.steps(reply)

    def _reply(self, request: Request) -> Reply:
        if request.host == "api":
            reply = api.respond(self.site, request, self.ip_limit)
        elif request.host == "index":
            reply = index.respond(self.site, request)
        else:
            reply = static.respond(self.site, request)
        dated = (*reply.headers, ("date", http_date(time.time())))
        return replace(reply, headers=dated, bodiless=request.method == "HEAD")

    # The thread.

    async def lag(self) -> float:
        """Seconds after which it does what it is told to do now: a busy machine makes it late by itself."""
        begun = time.monotonic()
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(asyncio.sleep(0), self._loop))
        return time.monotonic() - begun

    async def _each(self, what: Callable[[conversation.Line], Coroutine[Any, Any, None]], hosts: Sequence[str]) -> None:
        for host in hosts:
            await what(self._lines[host])

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def _close(self) -> None:
        self.stop()
        for line in self._lines.values():
            line.give_up()
        self._run(self._loop.shutdown_asyncgens())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
