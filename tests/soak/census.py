"""What the workers hold: descriptors, tasks, memory. It reads /proc, and what the hooks write."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

PATIENCE = 10.0


@dataclass(frozen=True, slots=True)
class Census:
    """Of one worker. descriptors: by what they are; tasks: by what they run. memory: bytes that are resident."""

    pid: int
    descriptors: Counter[str]
    memory: int
    tasks: Counter[str] = field(default_factory=Counter)

    @property
    def told(self) -> str:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.descriptors.items()))
        return f"{kinds}, {self.tasks.total()} tasks, {self.memory // 2**20} MiB"


def taken(pid: int, hooks: Path) -> Census | None:
    """None where the worker is gone."""
    path = hooks / f"census-{pid}"
    path.unlink(missing_ok=True)
    with contextlib.suppress(ProcessLookupError, FileNotFoundError):
        os.kill(pid, signal.SIGUSR2)
        end = time.monotonic() + PATIENCE
        while not path.exists():
            if time.monotonic() > end:
                return None
            time.sleep(0.02)
        return Census(pid, kinds(pid), memory(pid), Counter(json.loads(path.read_text())))
    return None


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def kinds(pid: int) -> Counter[str]:
    """The open descriptors of a process, by what they are."""
    found: Counter[str] = Counter()
    for number in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            name = str(number.readlink())
            for kind, sign in (("sockets", "socket:"), ("databases", "cache.db"), ("tarballs", "/tarballs/")):
                if sign in name:
                    found[kind] += 1
                    break
            else:
                found["others"] += 1
    return found


def memory(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def cpu_seconds(pid: int) -> float:
    """What a process has spent, its own time and the kernel's for it."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
