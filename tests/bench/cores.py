"""Cores and processes as Linux tells of them: who runs where, what they cost, what they hold."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Unfit(Exception):
    """This machine lacks what the benchmark needs; the text says what, and how to get it."""


@dataclass(frozen=True, slots=True)
class Cores:
    """`server`: the one core of whatever is measured; `load`: those of the load and of the origin."""

    server: int
    load: frozenset[int]


def divided() -> Cores:
    """The cores of this process, the last one kept for the servers. Raises `Unfit` where there is only one."""
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        raise Unfit("the benchmark needs two cores: one for the servers, one for the load")
    return Cores(allowed[-1], frozenset(allowed[:-1]))


def pinned(core: int) -> list[str]:
    """What a command line begins with to run on that core, with all that it starts."""
    return ["taskset", "-c", str(core)]


def family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parents[int(folder.name)] = int(_fields(int(folder.name))[1])
    found = [pid]
    for each in found:  # grows while it is walked
        found += [child for child, parent in parents.items() if parent == each]
    return found


def seconds(pids: list[int]) -> float:
    """CPU seconds, user and system, that these processes have spent so far."""
    return sum(sum(int(ticks) for ticks in _fields(pid)[11:13]) for pid in pids) / _TICK


def resident(pids: list[int]) -> int:
    """Bytes of memory that these processes hold now."""
    return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids) * _PAGE


def _fields(pid: int) -> list[str]:
    """`/proc/PID/stat` from the third field on: the second is a name that may hold anything (proc(5))."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
