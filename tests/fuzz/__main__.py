"""`python -m tests.fuzz [TARGET ...]`: each target for `--seconds`, one after the other; exit status 1 where one fails.

Where `atheris` is installed (`pip install atheris`) the bytes are led by the coverage of `proxy`, else they are made by
chance from the seeds. What broke something is written to `--found`, and belongs into `findings.py`.
"""

from __future__ import annotations

import argparse
import faulthandler
import hashlib
import importlib.util
import random
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

HANGS = 30
"""Seconds after which one input hangs."""
_MEMORY = 2048
"""MiB of a process beyond which an input takes too much of it."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each target")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the dice")
    parser.add_argument("--found", type=Path, default=Path("build/fuzz"), help="where to write what broke something")
    parser.add_argument("--corpus", type=Path, help="where interesting inputs are kept from one run to the next")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.alone:
        return _alone(given)

    from tests.fuzz.targets import TARGETS

    unknown = set(given.targets) - set(TARGETS)
    if unknown:
        parser.error(f"there are these targets: {', '.join(TARGETS)}")
    failed = []
    for name in given.targets or TARGETS:
        print(f"== {name}: {TARGETS[name].about}; {given.seconds:g} s", flush=True)
        command = [sys.executable, "-m", "tests.fuzz", name, "--alone", "--seconds", str(given.seconds)]
        command += ["--seed", str(given.seed), "--found", str(given.found)]
        command += ["--corpus", str(given.corpus)] if given.corpus else []
        if subprocess.run(command).returncode:
            failed.append(name)
    print(f"failed: {', '.join(failed)}" if failed else "nothing was found")
    return bool(failed)


def _alone(given: argparse.Namespace) -> int:
    (name,) = given.targets
    given.found.mkdir(parents=True, exist_ok=True)
    if importlib.util.find_spec("atheris") is not None:
        return _led(name, given)
    return _by_chance(name, given)


def _led(name: str, given: argparse.Namespace) -> int:
    import atheris

    with atheris.instrument_imports(include=["proxy"]):
        from tests.fuzz.findings import FINDINGS
        from tests.fuzz.targets import TARGETS
    with tempfile.TemporaryDirectory(prefix="corpus-") as scratch, TARGETS[name].opened() as tried:
        corpus = Path(given.corpus or scratch, name)
        corpus.mkdir(parents=True, exist_ok=True)
        for data in (*TARGETS[name].seeds(), *FINDINGS.get(name, ())):
            (corpus / hashlib.sha256(data).hexdigest()).write_bytes(data)
        options = [f"-max_total_time={given.seconds:.0f}", f"-timeout={HANGS}", f"-rss_limit_mb={_MEMORY}"]
        options += [f"-seed={given.seed % 2**32}", f"-artifact_prefix={given.found}/{name}-", "-print_final_stats=1"]
        options += ["-max_len=65536", "-verbosity=0"]
        atheris.Setup([sys.argv[0], *options, str(corpus)], tried)
        atheris.Fuzz()  # this ends the process
    return 0


def _by_chance(name: str, given: argparse.Namespace) -> int:
    from tests.fuzz import mutating
    from tests.fuzz.findings import FINDINGS
    from tests.fuzz.targets import TARGETS

    dice, end, count = random.Random(given.seed), time.monotonic() + given.seconds, 0
    seeds = [*TARGETS[name].seeds(), *FINDINGS.get(name, ())]
    with TARGETS[name].opened() as tried:
        while time.monotonic() < end:
            data = seeds[count] if count < len(seeds) else mutating.mutated(seeds, dice)
            count += 1
            faulthandler.dump_traceback_later(HANGS, exit=True)
            try:
                tried(data)
            except Exception:
                traceback.print_exc()
                file = given.found / f"{name}-{hashlib.sha256(data).hexdigest()[:16]}"
                file.write_bytes(data)
                print(f"{name}: broken by {file}, input {count} of seed {given.seed}", file=sys.stderr)
                return 1
            finally:
                faulthandler.cancel_dump_traceback_later()
    print(f"{name}: {count} inputs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
