"""`python -m tests.soak`: see the package. Exit status 0 where all was well, 1 where not."""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from pathlib import Path

from tests.soak import run
from tests.soak.plan import FULL_MINUTES, Kind
from tests.soak.report import Report
from tests.soak.stage import as_root, staged


def main() -> int:
    as_root("tests.soak")
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description="Everything that can go wrong, at once.")
    parser.add_argument("--minutes", type=float, default=FULL_MINUTES, help="how long; 30 by default")
    parser.add_argument(
        "--seed", type=int, default=int(time.time()), help="of all that is at random; the time by default"
    )
    parser.add_argument("--without", metavar="KIND", action="append", default=[], help="leave out a kind of fault")
    parser.add_argument("--only", metavar="KIND", action="append", default=[], help="leave out all others")
    parser.add_argument("--without-checksums", action="store_true", help="with a proxy that believes every checksum")
    parser.add_argument("--logs", metavar="FILE", type=Path, help="where to leave the log of the proxy")
    given = parser.parse_args()
    dice = random.Random(given.seed)
    without = [each for each in Kind if each.value in given.without or (given.only and each.value not in given.only)]
    report = Report(given.minutes, given.seed, frozenset(without))
    begun = time.monotonic()
    told = 0

    def progress(report: Report) -> None:
        nonlocal told
        for fault in report.faults[told:]:
            print(fault, file=sys.stderr)
        told = len(report.faults)
        if sys.stderr.isatty() or int(time.monotonic() - begun) % 15 == 0:
            end = "\r" if sys.stderr.isatty() else "\n"
            print(f"{time.monotonic() - begun:5.0f} s: {report.brief()}", end=end, file=sys.stderr, flush=True)

    try:
        with staged(dice, "checksums" if given.without_checksums else "") as stage:
            print(f"the cache is on {stage.file_system}", file=sys.stderr)
            asyncio.run(run.run(stage, given.minutes, dice, report, progress))
    finally:
        if given.logs:
            given.logs.write_text("\n".join([*report.events, *report.logs]))
        print("\n".join(report.told()), flush=True)
    return 0 if report.well else 1


if __name__ == "__main__":
    sys.exit(main())
