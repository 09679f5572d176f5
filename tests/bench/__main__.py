"""The command: measure the chosen cases, print the table, write it to files, say which targets hold."""

from __future__ import annotations

import argparse
import contextlib
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.bench import fetching, footprint, growth, measuring, objects, report, stage
from tests.bench.cases import BY_NAME
from tests.bench.cores import Unfit
from tests.bench.load import Failed
from tests.bench.samples import Rounds
from tests.bench.targets import Figure

NAMES = (*BY_NAME, fetching.NAME, footprint.NAME, growth.NAME)
ROUNDS, SECONDS = 7, 2.0
QUICK_ROUNDS, QUICK_SECONDS = 2, 0.4


def main(arguments: Sequence[str]) -> int:
    given = _parser().parse_args(arguments)
    names = given.only.split(",") if given.only else [name for name in NAMES if name != growth.NAME or not given.quick]
    if unknown := set(names) - set(NAMES):
        print(f"no such case: {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}", file=sys.stderr)
        return 2
    rounds = given.rounds or (QUICK_ROUNDS if given.quick else ROUNDS)
    seconds = given.seconds or (QUICK_SECONDS if given.quick else SECONDS)
    measured = _Measured(rounds, seconds, quick=given.quick)
    try:
        programs = report.programs()
        measured.take(names)
    except Unfit as error:
        _told(f"tests.bench: {error}")
        return 2
    command = shlex.join(["python", "-m", "tests.bench", *arguments])
    run = report.run(command, measured.results, measured.units, measured.figures, programs)
    report.written(run, given.out)
    print(report.markdown(run))
    _told(f"written to {given.out.with_suffix('.json')} and {given.out.with_suffix('.md')}")
    for failure in measured.failures:
        _told(f"tests.bench: {failure}")
    held = not given.check or all(each.holds for each in run.judged)
    return 0 if held and not measured.failures else 1


class _Measured:
    """What the cases came to; one that fails takes no other with it."""

    def __init__(self, rounds: int, seconds: float, *, quick: bool) -> None:
        self.results: dict[str, Rounds] = {}
        self.units: dict[str, str] = {}
        self.figures: list[Figure] = []
        self.failures: list[str] = []
        self._rounds = rounds
        self._seconds = seconds
        self._sizes = growth.QUICK_SIZES if quick else growth.SIZES

    def take(self, names: Sequence[str]) -> None:
        if compared := [name for name in names if name in BY_NAME or name == fetching.NAME]:
            with stage.opened(objects.registry()) as opened:
                for name in compared:
                    with self._noted(name):
                        self._compare(name, opened)
        if footprint.NAME in names:
            with self._noted(footprint.NAME):
                self.figures += footprint.measured(self._rounds, self._seconds, _told)
        if growth.NAME in names:
            with self._noted(growth.NAME):
                self.figures += growth.measured(self._sizes, self._seconds, _told)

    def _compare(self, name: str, opened: stage.Stage) -> None:
        if name == fetching.NAME:
            self.results[name] = fetching.measured(opened, self._rounds, _told)
            self.units[name] = fetching.UNIT
        else:
            self.results[name] = measuring.measured(BY_NAME[name], opened, self._rounds, self._seconds, _told)
            self.units[name] = BY_NAME[name].unit

    @contextlib.contextmanager
    def _noted(self, name: str) -> Iterator[None]:
        try:
            yield
        except (Failed, OSError) as error:
            self.failures.append(f"{name} failed: {error}")
            _told(self.failures[-1])


def _told(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description="crates-proxy beside nginx and Varnish, each with one worker on one core.",
        epilog="It needs Linux, two cores, and: apt-get install nginx varnish wrk",
    )
    parser.add_argument("--only", metavar="CASE,...", help=f"these alone: {', '.join(NAMES)}")
    parser.add_argument("--quick", action="store_true", help="short and few rounds, to try it; no growth")
    parser.add_argument("--rounds", type=int, help=f"turns of each server ({ROUNDS})")
    parser.add_argument("--seconds", type=float, help=f"of each turn ({SECONDS:g})")
    parser.add_argument("--check", action="store_true", help="exit 1 where a target does not hold")
    parser.add_argument("--out", type=Path, default=Path("build/bench"), help="files to write, without suffix")
    return parser


if __name__ == "__main__":
    # Whatever ends it, all that it has started ends too.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    sys.exit(main(sys.argv[1:]))
