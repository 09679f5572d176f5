"""How far a long command is, on standard error: a bar on a terminal, elsewhere a line now and then.

It counts and prints. It knows nothing of what is counted.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from proxy import report

PLAIN_EVERY = 5.0
"""Seconds between two lines where there is no terminal."""


class Told:
    """A context: `tell` counts. `total`: how many there will be, None where nobody knows."""

    def __init__(self, doing: str, total: int | None, clock: Callable[[], float] = time.monotonic) -> None:
        console = Console(stderr=True)
        self._clock = clock
        self._plain = not console.is_terminal
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[told]}"),
            TimeRemainingColumn(),
            console=console,
            disable=self._plain,
        )
        self._task = self._bar.add_task(doing, total=total, told="")
        self._doing, self._total = doing, total
        self._done = self._bytes = self._failed = 0
        self._begun = self._said = clock()

    def __enter__(self) -> Told:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def tell(self, *, size: int = 0, failed: bool = False) -> None:
        """One more is done."""
        self._done += 1
        self._bytes += size
        self._failed += failed
        now = self._clock()
        self._bar.update(self._task, advance=1, told=f"{report.size(self._bytes)}, {report.size(self._rate(now))}/s")
        if self._plain and now - self._said >= PLAIN_EVERY:
            self._said = now
            print(self._line(now), file=sys.stderr, flush=True)

    def _line(self, now: float) -> str:
        """What is told where there is no terminal."""
        of = "" if self._total is None else f" of {self._total}"
        line = f"{self._doing}: {self._done}{of}, {report.size(self._bytes)} ({report.size(self._rate(now))}/s)"
        if self._failed:
            line += f", {self._failed} failed"
        if self._total is not None:
            left = (now - self._begun) / self._done * (self._total - self._done)
            line += f", about {left:.0f} s left"
        return line

    def _rate(self, now: float) -> int:
        """Bytes a second."""
        return int(self._bytes / max(now - self._begun, 0.001))
