"""Where standard error is no terminal, a line now and then tells how far a command is."""

from __future__ import annotations

import pytest

from proxy.commands.progress import PLAIN_EVERY, Told
from tests.proxied import ManualClock


def test_a_line_tells_rate_and_time_left_and_comes_only_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    clock = ManualClock()
    with Told("warming", 40, clock) as progress:
        for _ in range(10):
            clock.now += PLAIN_EVERY / 5
            progress.tell(size=1_000_000)
        progress.tell(failed=True)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "warming: 5 of 40, 4.8 MiB (976.6 KiB/s), about 35 s left",
        "warming: 10 of 40, 9.5 MiB (976.6 KiB/s), about 30 s left",
    ]


def test_failures_are_counted_and_an_unknown_end_is_not_guessed(capsys: pytest.CaptureFixture[str]) -> None:
    clock = ManualClock()
    with Told("importing", None, clock) as progress:
        clock.now += PLAIN_EVERY
        progress.tell(size=500, failed=True)
    assert capsys.readouterr().err == "importing: 1, 500 B (100 B/s), 1 failed\n"
