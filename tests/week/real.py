"""A run in real time: `crates-proxy serve` with two workers and a Redis, and the small crates.io over sockets."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from functools import partial
from pathlib import Path

import httpx

from tests.e2e.harness import Proxy
from tests.redis_server import redis_server
from tests.upstream import IpLimit, Upstream, api, faults
from tests.week import population
from tests.week.books import Books
from tests.week.clients import Visitor
from tests.week.office import Office
from tests.week.plan import Outage, Plan, Trouble
from tests.week.report import Run
from tests.week.simulation import Progress, environment
from tests.week.ways import NOTHING, Got
from tests.week.witness import Witness

CONNECTIONS = 64
BUDGET = {"upstream.requests_per_second": "1.0", "upstream.burst": "10", "upstream.window_requests": "570"}
"""The default; other tests with this harness are not about it, and have a larger one."""
FAULTS: Mapping[Trouble, faults.Fault] = {
    Trouble.DARK: faults.Stall(),
    Trouble.UNAVAILABLE: faults.Status(503),
    Trouble.UNAVAILABLE_FOR: faults.Status(503, (("retry-after", "15"),)),
    Trouble.POLICY: faults.Status(403, (("content-type", "application/json"),), api.refused(403, api.BLOCKED).body),
}


def run(plan: Plan, progress: Progress, given: Mapping[str, str]) -> Run:
    """`given`: settings, by key."""
    registry = population.registry(plan, time.time)
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="week-")))
        upstream = stack.enter_context(Upstream.running(registry))
        upstream.ip_limit = IpLimit(time.time)
        redis = stack.enter_context(redis_server())
        proxy = Proxy(
            directory,
            upstream.settings_env() | environment({"redis.url": redis.url, "server.workers": "2", **BUDGET, **given}),
        )
        proxy.start()
        stack.callback(proxy.stop)
        return asyncio.run(_run(plan, progress, upstream, proxy.url))


async def _run(plan: Plan, progress: Progress, upstream: Upstream, url: str) -> Run:
    begun = time.monotonic()
    books = _Kept(upstream)
    witness = Witness(time.time, partial(population.versions, upstream.registry), lambda: books.asked("api"))

    async def told() -> None:
        while True:
            await asyncio.sleep(1)
            books.read()
            progress(Run(time.monotonic() - begun, time.monotonic() - begun, books, witness))

    async with _client(url) as way:
        beside = [asyncio.create_task(told()), *(asyncio.create_task(_bad(upstream, one)) for one in plan.outages)]
        await Office(plan, Visitor(way, witness), upstream.registry).work()
        for task in beside:
            task.cancel()
        for outcome in await asyncio.gather(*beside, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome
    books.read()
    return Run(plan.seconds, time.monotonic() - begun, books, witness)


async def _bad(upstream: Upstream, outage: Outage) -> None:
    """A bad hour, from its beginning to its end."""
    await asyncio.sleep(outage.begins)
    if outage.trouble is Trouble.REFUSED:
        await asyncio.to_thread(upstream.stop, *outage.hosts)
        await asyncio.sleep(outage.ends - outage.begins)
        await asyncio.to_thread(upstream.start, *outage.hosts)
        return
    rules = [upstream.fault(f"{host} ", FAULTS[outage.trouble]) for host in outage.hosts]
    await asyncio.sleep(outage.ends - outage.begins)
    for rule in rules:
        rule.left = 0


class _Kept(Books):
    """Kept from the log of the small crates.io."""

    def __init__(self, upstream: Upstream) -> None:
        super().__init__()
        self._upstream = upstream
        self._so_far = 0

    def read(self) -> None:
        """Go on to the end of the log."""
        log = self._upstream.log
        while self._so_far < len(log):
            asked = log[self._so_far]
            self.note(asked.host, asked.method, asked.status, asked.time)
            self._so_far += 1


class Socket:
    """A `Way` over sockets."""

    def __init__(self, url: str, client: httpx.AsyncClient) -> None:
        self.index = url + "/index/"
        self._client = client

    async def ask(self, method: str, url: str, fields: Mapping[str, str], body: bytes) -> Got:
        request = self._client.build_request(method, url, headers=dict(fields), content=body or None)
        try:
            answer = await self._client.send(request, stream=True)
            try:
                raw = b"".join([piece async for piece in answer.aiter_raw()])
            finally:
                await answer.aclose()
        except httpx.TransportError:
            return NOTHING
        return Got(answer.status_code, {name.lower(): value for name, value in answer.headers.items()}, raw)


@contextlib.asynccontextmanager
async def _client(url: str) -> AsyncIterator[Socket]:
    limits = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS, keepalive_expiry=4)
    async with httpx.AsyncClient(limits=limits, timeout=60, trust_env=False) as client:
        client.headers.clear()
        yield Socket(url, client)
