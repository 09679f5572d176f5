"""Which cargos this machine has, each with the compiler that belongs to it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

# The first cargo whose default is the sparse protocol is 1.70; 1.68 is the first in which it is stable.
OLDEST = (1, 68, 0)
# What must be there in CI.
WANTED = (1, 95, 0)

_VERSION = re.compile(r"cargo (\d+)\.(\d+)\.(\d+)")


@dataclass(frozen=True, slots=True)
class Toolchain:
    cargo: Path
    version: tuple[int, int, int]

    def __str__(self) -> str:
        return "cargo-" + ".".join(map(str, self.version))


def candidates() -> list[Path]:
    """Where cargos are: $CARGO_BINARIES (by `:`) first, then toolchains themselves before what forwards to them."""
    home = Path(os.environ.get("RUSTUP_HOME", Path.home() / ".rustup"))
    named = [Path(one) for one in os.environ.get("CARGO_BINARIES", "").split(os.pathsep) if one]
    on_path = [Path(one) for one in [shutil.which("cargo")] if one]
    return [
        *named,
        *sorted(home.glob("toolchains/*/bin/cargo")),
        Path("/usr/bin/cargo"),
        *on_path,
        Path.home() / ".cargo/bin/cargo",
    ]


def found() -> list[Toolchain]:
    """One toolchain for each version of cargo that knows sparse registries, oldest first."""
    toolchains: dict[tuple[int, int, int], Toolchain] = {}
    for path in candidates():
        if not path.is_file():
            continue
        told = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=20, check=False)
        if number := _VERSION.match(told.stdout):
            major, minor, patch = map(int, number.groups())
            toolchains.setdefault((major, minor, patch), Toolchain(path, (major, minor, patch)))
    return [toolchains[version] for version in sorted(toolchains) if version >= OLDEST]


def lacking(toolchains: list[Toolchain]) -> str:
    """What is missing that CI must have; empty where nothing is."""
    if any(one.version >= WANTED for one in toolchains):
        return ""
    return f"no cargo {'.'.join(map(str, WANTED[:2]))} or later found (set CARGO_BINARIES)"
