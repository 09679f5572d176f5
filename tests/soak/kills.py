"""`python -m tests.soak.kills`: the proxy is killed -9 at random instants under load, again and again, on one cache.

After each start crates.io is away, and everything is asked for: what was stored before has to be there, and whole;
of the rest nothing may come but an error. At the end `verify` finds nothing damaged.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import subprocess
import sys
import time

from tests.e2e.harness import ROOT
from tests.soak.load import Load
from tests.soak.oracle import Oracle
from tests.soak.plan import Kind
from tests.soak.report import Report
from tests.soak.stage import Server, Stage, as_root, staged
from tests.soak.way import HOSTS, LATE
from tests.soak.windows import Windows
from tests.soak.wire import Connection

VISITORS = 12
TOLD = 10
"""Kills, after each of which it tells how it goes."""
ASKED = 80
"""Objects that are asked for after each kill."""


async def run(stage: Stage, server: Server, times: int, dice: random.Random, report: Report) -> None:
    windows = Windows()
    await asyncio.to_thread(server.serve)
    oracle = Oracle(stage.chronicle, windows, answers=report.answers, statuses=report.statuses, faults=report.faults)
    load = Load(server.port, stage.chronicle, oracle, dice, left=report.left)
    load.pause = 0.005
    tasks = [asyncio.create_task(load.visit()) for _ in range(VISITORS)] + [asyncio.create_task(load.change())]
    try:
        for number in range(1, times + 1):
            await _killed(stage, server, load, windows, dice)
            report.came[Kind.SERVER_KILLED] += 1
            if number % TOLD == 0:
                print(
                    f"{number:6} kills: {report.answers['requests']} requests, {len(report.faults)} wrong", flush=True
                )
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _killed(stage: Stage, server: Server, load: Load, windows: Windows, dice: random.Random) -> None:
    load.going.set()
    await asyncio.sleep(0.05 + dice.random())
    with windows.disturbed("the server is killed", "processes", "files", after=0.2):
        await asyncio.to_thread(server.kill)
        await load.rest()
        with windows.disturbed("crates.io is away", *HOSTS, statuses=LATE):
            await asyncio.to_thread(stage.upstream.stop)
            await asyncio.to_thread(server.serve)
    with windows.disturbed("crates.io is away", *HOSTS, statuses=LATE):
        connection = Connection(load.port)
        await load.everything(connection, ASKED)
        await connection.close()
        await asyncio.to_thread(stage.upstream.start)


def verified(server: Server) -> str:
    """What the command `verify` says; "" where all is right."""
    env = {**os.environ, "CRATES_PROXY_CACHE__DIR": str(server.cache), "CRATES_PROXY_CACHE__MIN_FREE": "0"}
    done = subprocess.run(
        [sys.executable, "-m", "proxy", "verify"], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def kill(times: int, seed: int) -> Report:
    report = Report(0.0, seed)
    dice = random.Random(seed)
    with staged(dice, "") as stage:
        server = stage.server("killed", {})
        try:
            asyncio.run(run(stage, server, times, dice, report))
            server.stop(40.0)
            if wrong := verified(server):
                report.faults.append(f"verify: {wrong}")
        finally:
            server.kill()
            report.logs.append(server.log)
    return report


def main() -> int:
    as_root("tests.soak.kills")
    parser = argparse.ArgumentParser(prog="python -m tests.soak.kills", description="kill -9, again and again.")
    parser.add_argument("--times", type=int, default=200)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    given = parser.parse_args()
    report = kill(given.times, given.seed)
    kept = report.answers["HIT"] + report.answers["STALE"]
    print(
        f"seed {given.seed}: killed {report.came[Kind.SERVER_KILLED]} times; {report.answers['requests']} requests, "
        f"{kept} of them answered from what was stored; {len(report.faults)} wrong, {report.tracebacks} tracebacks"
    )
    print("\n".join(report.faults[:20]))
    return 1 if report.faults or report.tracebacks else 0


if __name__ == "__main__":
    sys.exit(main())
