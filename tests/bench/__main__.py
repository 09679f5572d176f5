"""The command: measure the chosen cases, print the table, write it to files, say which targets hold."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
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
    try:
        programs = report.programs()
        results, units, figures = _measured(names, rounds, seconds, quick=given.quick)
    except Unfit as error:
        print(f"tests.bench: {error}", file=sys.stderr)
        return 2
    except Failed as error:
        print(f"tests.bench: {error}", file=sys.stderr)
        return 1
    command = shlex.join(["python", "-m", "tests.bench", *arguments])
    run = report.run(command, results, units, figures, programs)
    report.written(run, given.out)
    print(report.markdown(run))
    print(f"written to {given.out.with_suffix('.json')} and {given.out.with_suffix('.md')}", file=sys.stderr)
    return 1 if given.check and not all(each.holds for each in run.judged) else 0


def _measured(
    names: Sequence[str], rounds: int, seconds: float, *, quick: bool
) -> tuple[dict[str, Rounds], dict[str, str], list[Figure]]:
    results: dict[str, Rounds] = {}
    units: dict[str, str] = {}
    figures: list[Figure] = []
    if compared := [name for name in names if name in BY_NAME or name == fetching.NAME]:
        with stage.opened(objects.registry()) as opened:
            for name in compared:
                if name == fetching.NAME:
                    results[name], units[name] = fetching.measured(opened, rounds, _told), fetching.UNIT
                else:
                    results[name] = measuring.measured(BY_NAME[name], opened, rounds, seconds, _told)
                    units[name] = BY_NAME[name].unit
    if footprint.NAME in names:
        figures += footprint.measured(rounds, seconds, _told)
    if growth.NAME in names:
        figures += growth.measured(growth.QUICK_SIZES if quick else growth.SIZES, seconds, _told)
    return results, units, figures


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
    sys.exit(main(sys.argv[1:]))
