"""What became of each request, as it is seen at the edge: counted, and told to the log where that is wanted.

It decides nothing. What is answered before a request comes here (`server`) is counted there.
"""

from __future__ import annotations

import itertools
import re
import secrets as chance
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from proxy.errors import Error
from proxy.metrics.counting import Counters
from proxy.model import Verdict
from proxy.rules import headers, secrets
from proxy.rules.clients import Address
from proxy.rules.labels import NONE, Labels

SEEN = "crates-proxy.seen"
"""Where the scope of a request holds what was seen of it."""
LABELS = 200
"""Labels of clients that a process tells apart on one day."""
OTHERS = "(others)"
"""Whoever comes with one more."""
PASSED = "Passed"
"""The kind of an error that is upstream's own answer, passed on."""

_PROBES = frozenset(("/healthz", "/readyz", "/metrics"))
_ADDRESSES = 10_000  # whose label is remembered
# An id of a front server is taken over where it looks like one (nginx: 32 hex digits, Envoy: a UUID): a token
# that somebody puts there has letters beyond f.
_ID = re.compile(rb"[0-9a-fA-F-]{8,64}")
_PROCESS = chance.token_hex(4)
_NUMBERS = itertools.count(1)

Told = Callable[[Mapping[str, object]], None]


class Seen:
    """One request. `client`: who sent it, None where that is not known; `endpoint`: its row, "" where it has none;
    `crate`: the name of the one that it is about, "" for none; `size`: bytes of the body that were sent; `error`: what
    was wrong, where that was told.
    """

    __slots__ = ("client", "collapsed", "crate", "endpoint", "error", "path", "size", "status", "verdict")

    def __init__(self) -> None:
        self.client: Address | None = None
        self.endpoint = ""
        self.crate = ""
        self.path = "-"
        self.verdict = Verdict.MISS
        self.collapsed = False
        self.status = 0
        self.size = 0
        self.error: Error | None = None


def request_id(scope: Mapping[str, Any]) -> str:
    """What a request is called in the log: as the server before us calls it, or a name of its own."""
    given = headers.value(tuple(scope["headers"]), b"x-request-id")
    if given is not None and _ID.fullmatch(given):
        return given.decode("ascii")
    return f"{_PROCESS}-{next(_NUMBERS):x}"


class Ended(Protocol):
    def __call__(self, scope: Mapping[str, Any], seen: Seen, seconds: float) -> None:
        """A request has come to its end, after so many seconds."""
        ...


class Lately(Protocol):
    """What is to be known of the last days."""

    def asked(self, crate: str, requests: int, size: int) -> None:
        """So many requests about a crate were answered, with so many bytes together."""
        ...

    def failed(self, where: str, kind: str, status: int, detail: str) -> None:
        """A client was told an error of this kind."""
        ...


class Nobody:
    """A `Lately` for whom the last days do not matter."""

    def asked(self, crate: str, requests: int, size: int) -> None:
        pass

    def failed(self, where: str, kind: str, status: int, detail: str) -> None:
        pass


class Edge:
    """An `Ended`. `told`: the access log, None for none."""

    def __init__(
        self,
        counters: Counters,
        labels: Labels,
        told: Told | None,
        clock: Callable[[], float] = time.time,
        lately: Lately | None = None,
    ) -> None:
        self._counters = counters
        self._labels = labels
        self._told = told
        self._clock = clock
        self._lately = lately or Nobody()
        self._known: set[str] = set()
        self._day = -1
        self._places: dict[Address | None, str] = {}

    def __call__(self, scope: Mapping[str, Any], seen: Seen, seconds: float) -> None:
        if seen.endpoint and seen.status:  # without a status nobody has heard the answer
            label = self._label(scope, seen) if self._labels.wanted else ""
            self._counters.answered(
                seen.endpoint,
                seen.verdict,
                seen.status,
                size=seen.size,
                seconds=seconds,
                client=label,
                collapsed=seen.collapsed,
            )
            if seen.crate and seen.status < 400:
                self._lately.asked(seen.crate, 1, seen.size)
        if seen.status >= 500 or seen.status == 429:
            self._failed(seen)
        if self._told is not None and seen.path not in _PROBES:
            self._told(self._line(scope, seen, seconds))

    def _failed(self, seen: Seen) -> None:
        error, where = seen.error, seen.endpoint or "server"
        if error is not None:
            self._lately.failed(where, type(error).__name__, seen.status, error.detail)
        elif seen.endpoint:
            self._lately.failed(where, PASSED, seen.status, f"crates.io itself answered with status {seen.status}")

    def _line(self, scope: Mapping[str, Any], seen: Seen, seconds: float) -> Mapping[str, object]:
        return {
            "request": request_id(scope),
            "client": str(seen.client or "-"),
            "method": scope["method"],
            "path": secrets.path(seen.path),
            "status": seen.status,
            "verdict": seen.verdict.value if seen.endpoint else "-",
            "endpoint": seen.endpoint or "-",
            "bytes": seen.size,
            "ms": round(seconds * 1000, 2),
        }

    def _label(self, scope: Mapping[str, Any], seen: Seen) -> str:
        """A label, one of a bounded number: they come from clients, and each costs rows in the book."""
        label = self._labels.named(tuple(scope["headers"])) or self._placed(seen.client)
        day = int(self._clock() // 86400)
        if day != self._day:
            self._day = day
            self._known.clear()
        if label not in self._known:
            if len(self._known) >= LABELS:
                return OTHERS
            self._known.add(label)
        return label

    def _placed(self, client: Address | None) -> str:
        if not self._labels.networks:
            return NONE
        place = self._places.get(client)
        if place is None:
            if len(self._places) >= _ADDRESSES:
                self._places.clear()
            place = self._places[client] = self._labels.placed(client)
        return place
