"""What crates.io was asked, and at what rate: kept by crates.io, whoever asked."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable

WINDOW = 600.0
"""Seconds in which crates.io counts the requests of one address."""
READS = ("GET", "HEAD")


class Books:
    """`answered`: (host, status) -> requests; status 0 where there was no answer."""

    def __init__(self) -> None:
        self.answered: Counter[tuple[str, int]] = Counter()
        self.refused_reads = 0
        self.refused_writes = 0
        self.busiest_window = 0
        self._recent: deque[float] = deque()

    def note(self, host: str, method: str, status: int, at: float) -> None:
        self.answered[host, status] += 1
        if host != "api":
            return
        self._recent.append(at)
        while self._recent[0] <= at - WINDOW:
            self._recent.popleft()
        self.busiest_window = max(self.busiest_window, len(self._recent))
        if status == 429:
            self.refused_reads += method in READS
            self.refused_writes += method not in READS

    def asked(self, host: str = "", statuses: Iterable[int] = ()) -> int:
        """How many requests, to one host or all, with one of these statuses or any."""
        wanted = set(statuses)
        return sum(
            count
            for (of, status), count in self.answered.items()
            if host in ("", of) and (not wanted or status in wanted)
        )
