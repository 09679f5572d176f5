"""The command: run, print the figures, and exit with 1 where a promise was not kept."""

from __future__ import annotations

import argparse
import sys

from tests.week import plan, real, report, simulation
from tests.week.plan import DAY, HOUR, MINUTE, Plan
from tests.week.report import Run
from tests.week.simulation import Progress

WITH, WITHOUT = "with the proxy", "without"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.week", description="A week in an office, simulated.")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--days", type=float, help="of virtual time (7)")
    length.add_argument("--hours", type=float, help="of virtual time")
    length.add_argument("--real", action="store_true", help="real time, against `serve` with two workers and a Redis")
    parser.add_argument("--minutes", type=float, default=10.0, help="of real time (10)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the proxy")
    given = parser.parse_args()
    settings = {key: value for key, _, value in (one.partition("=") for one in given.set)}
    if given.real:
        planned = plan.minutes(given.minutes * MINUTE, given.seed)
    elif given.hours:
        planned = plan.hours(given.hours * HOUR, given.seed)
    else:
        planned = plan.week((given.days or 7.0) * DAY, given.seed)
    print(_described(planned), flush=True)
    run = real.run if given.real else simulation.through_the_proxy
    proxied = run(planned, _progress(WITH), settings)
    straight = simulation.straight(planned, _progress(WITHOUT))
    print("\r\x1b[K" if sys.stderr.isatty() else "", end="", file=sys.stderr)
    print("\n".join(report.told({WITH: proxied, WITHOUT: straight})))
    found = report.wrong(proxied, report.Bounds(lacking=planned.lacking))
    print("\n".join(["", "WRONG:", *found] if found else ["", "as it should be"]))
    return 1 if found else 0


def _described(planned: Plan) -> str:
    return (
        f"{_clock(planned.seconds)} of {planned.jobs_an_hour:.0f} CI jobs an hour over {planned.common} crates, a tool "
        f"that reads {planned.crates:,} crates' JSON; seed {planned.seed}; bad hours of crates.io:\n"
        + "\n".join(
            f"  {_clock(one.begins)} to {_clock(one.ends)}: {one.trouble.value} ({', '.join(one.hosts)})"
            for one in planned.outages
        )
    )


def _progress(name: str) -> Progress:
    """One line, written over, on a terminal; elsewhere a line now and then."""
    terminal = sys.stderr.isatty()
    next_at = 0.0

    def told(run: Run) -> None:
        nonlocal next_at
        if run.took < next_at:
            return
        next_at = run.took + (0.2 if terminal else 10.0)
        books, witness = run.books, run.witness
        line = (
            f"{name}: {_clock(run.seconds)} in {run.took:.0f} s, {witness.total:,} requests, to the API "
            f"{books.asked('api'):,}, 429 to reads {books.refused_reads:,}, failed {len(witness.failures):,}"
        )
        print(f"\r\x1b[K{line}" if terminal else line, end="" if terminal else "\n", file=sys.stderr, flush=True)

    return told


def _clock(seconds: float) -> str:
    days, rest = divmod(round(seconds), round(DAY))
    hours, rest = divmod(rest, round(HOUR))
    return f"{days} d {hours:02}:{rest // 60:02}:{rest % 60:02}"


if __name__ == "__main__":
    sys.exit(main())
