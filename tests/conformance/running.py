"""The three processes of a run: the suite's origin, the proxy before it, and the suite's client before that."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
PREFIX = "/api/v1"
PATIENCE = 30.0
"""Seconds for a process to start."""
_TOLERANT = """
from proxy.cli import main
from proxy.rules import breaker

breaker.FAILURES = 10**9
main()
"""
"""The proxy without its breaker: the suite's origin fails on purpose, at many URLs at once, and goes on at others."""
_SERVING = re.compile(r"crates-proxy: serving on (http://\S+)")


@dataclass(frozen=True)
class Result:
    """What became of one test: `result` is one of the names in the suite's own results.mjs."""

    id: str
    area: str
    kind: str
    result: str
    why: str


def results(suite: Path, scratch: Path, test: str = "") -> str:
    """One run of all tests, as the suite's client prints it; with `test`, of that one with all it says."""
    with origin(suite, scratch) as upstream, proxy(upstream, scratch) as url:
        environment = {**os.environ, "npm_config_base": url + PREFIX, "npm_package_config_id": test}
        done = subprocess.run(
            ["node", "--no-warnings", "test-engine/cli.mjs"],
            cwd=suite,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    return done.stdout


def judged(suite: Path, printed: str) -> list[Result]:
    """The suite's own judgement, which knows of tests that depend on others."""
    command = ["node", "--no-warnings", str(HERE / "count.mjs"), str(suite)]
    done = subprocess.run(command, input=printed, stdout=subprocess.PIPE, text=True, check=True)
    return [Result(**each) for each in json.loads(done.stdout)]


def commit(suite: Path) -> str:
    """Of the suite, "unknown" where its folder is no clone."""
    command = ["git", "-C", str(suite), "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


@contextlib.contextmanager
def origin(suite: Path, scratch: Path) -> Iterator[str]:
    port = _free_port()
    environment = {
        **os.environ,
        "npm_config_protocol": "http",
        "npm_config_port": str(port),
        "npm_config_pidfile": str(scratch / "origin.pid"),
    }
    command = ["node", "--no-warnings", "--import", (HERE / "origin.mjs").as_uri(), "test-engine/server/server.mjs"]
    with _running(command, scratch / "origin.log", cwd=suite, environment=environment) as log:
        _said(log, re.compile(r"Listening on (\S+)"))
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def proxy(upstream: str, scratch: Path) -> Iterator[str]:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("CRATES_PROXY_")},
        "CRATES_PROXY_UPSTREAM__API": upstream,
        "CRATES_PROXY_UPSTREAM__CONTACT": "tests@example.org",
        # The suite's origin has no limit, and asks at once for what a minute of crates.io's would not bear.
        "CRATES_PROXY_UPSTREAM__REQUESTS_PER_SECOND": "1000",
        "CRATES_PROXY_UPSTREAM__BURST": "1000",
        "CRATES_PROXY_UPSTREAM__WINDOW_REQUESTS": "1000000",
        "CRATES_PROXY_CACHE__DIR": str(scratch / "cache"),
        "CRATES_PROXY_CACHE__MIN_FREE": "0",
    }
    command = [sys.executable, "-c", _TOLERANT, "serve", "--host", "127.0.0.1", "--port", "0"]
    with _running(command, scratch / "proxy.log", cwd=HERE.parent.parent, environment=environment) as log:
        yield _said(log, _SERVING)


@contextlib.contextmanager
def _running(command: list[str], log: Path, *, cwd: Path, environment: dict[str, str]) -> Iterator[Path]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=cwd, env=environment, stdout=output, stderr=output)
        try:
            yield log
        finally:
            process.terminate()
            process.wait(PATIENCE)


def _said(log: Path, pattern: re.Pattern[str]) -> str:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if found := pattern.search(log.read_text("utf-8", "replace")):
            return found[1]
        time.sleep(0.05)
    raise SystemExit(f"{log.stem} did not start; it said:\n{log.read_text('utf-8', 'replace')}")


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
