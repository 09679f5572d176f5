"""The command: run the suite, print the figures, and each failing test with the rule that wants it."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable
from pathlib import Path

from tests.conformance import running
from tests.conformance.reasons import REASONS, RETRIED
from tests.conformance.running import Result

_GOOD = {"required": "pass", "optimal": "pass", "check": "yes"}


def told(results: Iterable[Result], commit: str) -> list[str]:
    """The figures, then what did not pass of the required and the optimal tests."""
    every = list(results)
    lines = [f"http-tests/cache-tests at {commit}"]
    for kind, good in _GOOD.items():
        of_kind = [each for each in every if each.kind == kind]
        lines.append(f"{kind}: {sum(each.result == good for each in of_kind)} of {len(of_kind)} {good}")
    for kind in ("required", "optimal"):
        lines += ["", f"{kind}, not passed:"]
        lines += [_line(each) for each in every if each.kind == kind and each.result != _GOOD[kind]]
    return lines


def _line(each: Result) -> str:
    why = RETRIED if each.result == "retry" else REASONS.get(each.id)
    return f"  {each.id} ({each.result}): {why or 'NO REASON OF OURS: ' + (each.why or 'see what it depends on')}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("suite", type=Path, help="folder of the suite, with its packages installed")
    parser.add_argument("--test", default="", help="run this one alone, with all requests and answers")
    given = parser.parse_args()
    suite = given.suite.resolve()
    with tempfile.TemporaryDirectory() as scratch:
        printed = running.results(suite, Path(scratch), given.test)
    if given.test:
        print(printed)
    else:
        print("\n".join(told(running.judged(suite, printed), running.commit(suite))))


if __name__ == "__main__":
    main()
