"""A member of a fleet that follows the feed, in a process of its own: `python -m tests.scenarios.follower SETTINGS`.

Its time is what stands in a file, so that a test moves it for all.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from proxy import settings, wiring
from proxy.rules.endpoints import TIMED

ROOT = Path(__file__).parents[2]


async def follow(options: dict[str, Any]) -> None:
    loaded = settings.load(options["settings"], None, {}, endpoints=TIMED).settings
    time = Path(options["time"])
    async with wiring.opened(loaded, Path(options["directory"]), lambda: float(time.read_text()), serving=True):
        print("follows", flush=True)
        await asyncio.Event().wait()


@contextlib.contextmanager
def following(settings: Mapping[str, object], directory: Path, time: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A member that has joined; killed at the end."""
    options = json.dumps({"settings": settings, "directory": str(directory), "time": str(time)})
    command = [sys.executable, "-m", "tests.scenarios.follower", options]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == b"follows\n"
            yield process
        finally:
            process.kill()


if __name__ == "__main__":
    asyncio.run(follow(json.loads(sys.argv[1])))
