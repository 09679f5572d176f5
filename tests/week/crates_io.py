"""crates.io as one address meets it: the small crates.io's answers after a while, limits, good hours and bad ones.

    answer = await crates_io.exchange(Request("api", "GET", "/api/v1/crates/serde", headers))

Its index and its replicas lag behind a change as the real ones do. Whoever asks may be the proxy (`Reached`) or,
for comparison, the clients themselves.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace

from proxy.errors import Faulty, Late
from proxy.model import Head
from proxy.upstream.base import Ask
from tests.upstream import IpLimit, Registry, api, index, static
from tests.upstream.packages import Package, folded
from tests.upstream.routes import Site
from tests.upstream.wire import Reply, Request, http_date
from tests.week.books import Books
from tests.week.plan import EVERYTHING, Outage, Trouble

URLS = {"api": "https://crates.io", "index": "https://index.crates.io", "static": "https://static.crates.io"}
LATENCY = {"api": (0.08, 0.4), "index": (0.02, 0.08), "static": (0.03, 0.15)}
"""Seconds until an answer, from and to."""
LAG = {"api": (0.0, 20.0), "index": (3.0, 45.0)}
"""Seconds until a change is seen, from and to: the index file is written by a job, the API reads from a replica."""
CONNECTING = 5.0
"""Seconds until who connects to nothing gives up; the proxy's own setting has the same."""


class Unreachable(Exception):
    """No answer came. `late`: none after a long wait, rather than a refusal at once."""

    def __init__(self, late: bool) -> None:
        super().__init__("crates.io cannot be reached")
        self.late = late


class CratesIo:
    def __init__(
        self, registry: Registry, clock: Callable[[], float], outages: tuple[Outage, ...], seed: int, books: Books
    ) -> None:
        """`clock`: seconds since the epoch; `outages` count from now on."""
        self.registry = registry
        self.books = books
        self._clock = clock
        self._begun = clock()
        self._outages = outages
        self._dice = random.Random(f"{seed} crates.io")
        self._limit = IpLimit(clock)
        self._site = Site(registry, *(URLS[host] for host in EVERYTHING))
        self._shown: dict[str, tuple[float, float, Reply]] = {}

    async def exchange(self, request: Request) -> Reply:
        """Raises `Unreachable` in an hour that is bad enough."""
        trouble = self._trouble(request.host)
        if trouble in (Trouble.REFUSED, Trouble.DARK):
            late = trouble is Trouble.DARK
            self.books.note(request.host, request.method, 0, self._clock())
            await asyncio.sleep(CONNECTING if late else 0.05)
            raise Unreachable(late)
        reply = self._reply(request, trouble)
        self.books.note(request.host, request.method, reply.status, self._clock())
        await asyncio.sleep(self._dice.uniform(*LATENCY[request.host]))
        return reply

    def _trouble(self, host: str) -> Trouble | None:
        now = self._clock() - self._begun
        found = (one for one in self._outages if host in one.hosts and one.begins <= now < one.ends)
        return next((one.trouble for one in found), None)

    def _reply(self, request: Request, trouble: Trouble | None) -> Reply:
        # The firewall stands before everything else, and counts what is refused behind it.
        if request.host == "api" and self._limit.exceeded():
            reply = api.refused(429, "too many requests from the same IP")
        elif trouble is not None:
            reply = _troubled(trouble)
        else:
            reply = self._healthy(request)
        return replace(reply, headers=(*reply.headers, ("date", http_date(self._clock()))))

    def _healthy(self, request: Request) -> Reply:
        if request.host == "static":
            return static.respond(self._site, request)
        package = self._package(request)
        if package is None:
            return api.respond(self._site, request) if request.host == "api" else index.respond(self._site, request)
        if request.host == "api":
            return self._lagging(request, package.updated_at, lambda: api.respond(self._site, request))
        whole = replace(request, headers=())
        reply = self._lagging(request, package.index_at, lambda: index.respond(self._site, whole))
        if reply.header("etag") in [one.strip() for one in request.header("if-none-match").split(",")]:
            return Reply(304, tuple(item for item in reply.headers if item[0] != "content-type"))
        return reply

    def _package(self, request: Request) -> Package | None:
        """Whose file or page is asked for, where it is one of those that lag and are asked for again and again."""
        if request.method != "GET":
            return None
        if request.host == "index":
            return self.registry.packages.get(folded(request.path.rpartition("/")[2]))
        name, _, rest = request.target.removeprefix("/api/v1/crates/").partition("/")
        return self.registry.packages.get(folded(name)) if rest in ("", "versions") else None

    def _lagging(self, request: Request, changed_at: float, made: Callable[[], Reply]) -> Reply:
        """What is shown: the state before a change, until that has got about."""
        key = f"{request.host} {request.target} {request.header('accept-encoding')}"
        shown = self._shown.get(key)
        if shown is not None:
            of, until, reply = shown
            if of == changed_at:
                return reply
            if until < changed_at:  # a change that is seen for the first time
                until = changed_at + self._dice.uniform(*LAG[request.host])
                self._shown[key] = (of, until, reply)
            if self._clock() < until:
                return reply
        reply = made()
        self._shown[key] = (changed_at, 0.0, reply)
        return reply


def _troubled(trouble: Trouble) -> Reply:
    if trouble is Trouble.POLICY:
        return api.refused(403, api.BLOCKED)
    retry = (("retry-after", "120"),) if trouble is Trouble.UNAVAILABLE_FOR else ()
    return api.refused(503, "crates.io is being mended", retry)


class Reached:
    """The proxy's way to it: an `Upstream`."""

    def __init__(self, crates_io: CratesIo) -> None:
        self._crates_io = crates_io

    async def send(self, ask: Ask) -> Arrived:
        body = b"".join([piece async for piece in ask.body]) if ask.body is not None else b""
        fields = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in ask.headers)
        fields = (*fields, ("user-agent", "crates-proxy/simulated (tests@example.org)"))
        try:
            reply = await self._crates_io.exchange(Request(ask.host.value, ask.method, ask.target, fields, body))
        except Unreachable as error:
            told = Late("it is dark") if error.late else Faulty("the connection was refused")
            told.unsent = True
            raise told from None
        return Arrived(reply)

    async def aclose(self) -> None:
        return None


class Arrived:
    """An `Answer`."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        fields = tuple((name.encode("latin-1"), value.encode("latin-1")) for name, value in reply.headers)
        length = b"%d" % len(reply.body)
        self.head = Head(reply.status, fields if reply.status in (204, 304) else (*fields, (b"content-length", length)))

    async def body(self) -> AsyncGenerator[bytes]:
        if self._reply.body:
            yield self._reply.body

    def distrust(self) -> None:
        pass

    async def aclose(self) -> None:
        return None
