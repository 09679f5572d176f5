"""The short form of the soak, that it fails where it has to, and what it stands on."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections import Counter

import pytest

from tests.e2e.harness import ROOT
from tests.soak import plan
from tests.soak.chronicle import Chronicle, Object
from tests.soak.oracle import Asked, Oracle
from tests.soak.plan import Kind, Lane, Timing
from tests.soak.windows import INDEX, Windows
from tests.soak.wire import Got
from tests.upstream.routes import Site

WITHIN = 600.0


def ran(module: str, *args: str) -> tuple[int, str]:
    """Its exit status and its report."""
    command = [sys.executable, "-m", module, *args]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=WITHIN, check=False)
    told = done.stdout + done.stderr[-3000:]
    if "unshare" in told and os.environ.get("CI") != "true":
        pytest.skip(told.splitlines()[-1])
    return done.returncode, told


def test_half_a_minute_of_everything_that_can_go_wrong() -> None:
    code, told = ran("tests.soak", "--minutes", "0.5", "--seed", "1")
    assert code == 0, told
    assert "wrong: 0" in told and "leaks: 0" in told


def test_without_checksums_it_fails() -> None:
    code, told = ran(
        "tests.soak", "--minutes", "0.2", "--seed", "1", "--only", Kind.CORRUPT.value, "--without-checksums"
    )
    assert code == 1 and "WRONG BYTES" in told, told


def test_what_was_killed_at_any_instant_starts_and_has_what_is_whole() -> None:
    code, told = ran("tests.soak.kills", "--times", "3", "--seed", "1")
    assert code == 0 and "killed 3 times" in told, told


def test_each_kind_comes_as_often_as_the_others() -> None:
    assert {kind for lane in Lane for kind in plan.kinds(lane)} == set(Kind)
    assert (plan.least(30), plan.least(1), plan.least(0.1)) == (20, 1, 1)
    for lane in (Lane.MACHINE, Lane.WAY, Lane.SHARED):
        order = plan.order(lane, random.Random(1), frozenset((Kind.BOMB,)))
        kinds = [kind for kind in plan.kinds(lane) if kind is not Kind.BOMB]
        assert Counter(next(order) for _ in range(3 * len(kinds))) == dict.fromkeys(kinds, 3)
        slot = Timing(30).slot(lane, 900.0)
        assert 900.0 / slot >= len(plan.kinds(lane)) * plan.least(30)


@pytest.fixture(scope="module")
def chronicle() -> Chronicle:
    made = Chronicle(random.Random(1))
    made.begin(Site(made, "http://api", "http://index", "http://static"))
    return made


def answered(status: int, body: bytes = b"", *, at: float, **fields: str) -> Got:
    told = {name.replace("_", "-"): value for name, value in fields.items()}
    return Got(status, told, body, asked=at, ended=at + 0.1)


def judged(chronicle: Chronicle, windows: Windows, *answers: tuple[Object, Got]) -> list[str]:
    oracle = Oracle(chronicle, windows)
    for thing, got in answers:
        oracle.judge(Asked("GET", thing.path, thing), got)
    return [fault.split(": ", 1)[1].split(" [")[0] for fault in oracle.faults]


def test_the_oracle_knows_right_from_wrong(chronicle: Chronicle) -> None:
    index = next(each for each in chronicle.of("index") if each.crate == "soak-01")
    before = chronicle.versions[index.path][-1].body
    chronicle.yank("soak-01", "1.0.0")
    after, since = chronicle.versions[index.path][-1].body, chronicle.versions[index.path][-1].since
    assert before != after
    soon, late = since + 1.0, since + 100.0
    fine = [
        (index, answered(200, after, at=late, x_cache="HIT", age="1")),
        (index, answered(200, before, at=soon, x_cache="HIT", age="2")),
        (index, answered(200, before, at=late, x_cache="STALE", age="101")),
        (index, answered(200, before, at=late, x_cache="HIT", age="120")),
    ]
    assert judged(chronicle, Windows(), *fine) == []
    assert judged(chronicle, Windows(), (index, answered(200, before, at=late, x_cache="HIT", age="3"))) == [
        "bytes that were right once, and not 3 s ago"
    ]
    assert judged(chronicle, Windows(), (index, answered(200, after[:-9], at=late)))[0].startswith("WRONG BYTES")
    assert judged(chronicle, Windows(), (index, answered(404, at=late))) == ["what exists was refused so"]
    assert judged(chronicle, Windows(), (index, answered(304, at=late))) == ["304 to who has nothing"]


def test_the_oracle_wants_a_cause_for_each_error_and_the_copy_that_exists(chronicle: Chronicle) -> None:
    index = next(each for each in chronicle.of("index") if each.crate == "soak-02")
    body = chronicle.versions[index.path][-1].body
    windows = Windows()
    late = answered(502, at=windows.begin("before").start + 60.0)
    assert judged(chronicle, windows, (index, late))[0].startswith("an error without its cause")
    trouble = windows.begin("an outage", "index", statuses=frozenset((502,)))
    assert judged(chronicle, windows, (index, late)) == []
    assert judged(chronicle, windows, (index, answered(504, at=late.asked)))[0].startswith("an error without its cause")
    stored = answered(200, body, at=late.asked - 10.0, x_cache="MISS")
    assert judged(chronicle, windows, (index, stored), (index, late)) == ["there was a copy, kept 9.9 s before"]
    windows.begin("a damaged store", INDEX).start = late.asked - 5.0
    assert judged(chronicle, windows, (index, stored), (index, late)) == []
    trouble.end = trouble.start
    assert judged(chronicle, windows, (index, late))[0].startswith("an error without its cause")
