"""The commands as a user types them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.e2e.harness import ROOT


def ran(
    *args: str, settings: Mapping[str, str] | None = None, home: Path, stdin: str = "", cwd: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    """`crates-proxy ARGS`, with nothing else in its environment."""
    env = {"PATH": os.environ["PATH"], "HOME": str(home), **(settings or {})}
    command = [sys.executable, "-m", "proxy", *args]
    return subprocess.run(command, cwd=cwd, env=env, input=stdin, capture_output=True, text=True, timeout=60)
