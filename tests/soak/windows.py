"""When something was disturbed, and what: an answer is judged by all that may have befallen it meanwhile."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

JSON, INDEX, TARBALLS = "stored JSON", "stored index files", "stored tarballs"
"""What may be disturbed of the stores; beside them "processes", "connections", "time" and others, and the hosts."""


@dataclass(slots=True)
class Window:
    """`what` was disturbed, from `start` to `end`; `cause` for people."""

    cause: str
    what: frozenset[str]
    start: float
    end: float = math.inf
    statuses: frozenset[int] = frozenset()

    def touches(self, start: float, end: float) -> bool:
        return self.start <= end and start <= self.end


@dataclass(slots=True)
class Windows:
    all: list[Window] = field(default_factory=list)
    _of: dict[str, list[Window]] = field(default_factory=dict)

    def begin(self, cause: str, *what: str, statuses: frozenset[int] = frozenset()) -> Window:
        window = Window(cause, frozenset(what), time.monotonic(), statuses=statuses)
        self.all.append(window)
        for each in what:
            self._of.setdefault(each, []).append(window)
        return window

    @contextlib.contextmanager
    def disturbed(
        self, cause: str, *what: str, after: float = 0.0, statuses: frozenset[int] = frozenset()
    ) -> Iterator[Window]:
        """From now until `after` seconds behind the end."""
        window = self.begin(cause, *what, statuses=statuses)
        try:
            yield window
        finally:
            window.end = time.monotonic() + after

    def touching(self, what: str, start: float, end: float) -> list[Window]:
        return [window for window in self._of.get(what, ()) if window.touches(start, end)]
