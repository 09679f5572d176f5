"""Reads what cargo reads, from the directory where this is run; `rules.cargo_route` says what it means."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from proxy.rules import cargo_config, cargo_route
from proxy.rules.cargo_config import File
from proxy.rules.cargo_route import Route
from proxy.rules.findings import Finding, ok, warn

PATIENCE = 20.0
"""Seconds that `cargo --version` may take; a wrapper may have to find its toolchain."""
_VERSION = re.compile(r"cargo (\d+)\.(\d+)\.(\d+)")
_NAMES = ("config", "config.toml")


async def route(environ: Mapping[str, str], cwd: Path, base: str) -> Route:
    """Where cargo goes when it is run in `cwd`, and what there is to say about that."""
    files, shadowed = await asyncio.to_thread(_read, environ, cwd)
    version = await _version(environ, cwd)
    config = cargo_config.merged(files, environ)
    found = cargo_route.route(config, environ, base, version)
    looked = ok("cargo configuration", ", ".join(file.path for file in files) or f"no file, from {cwd} upwards")
    return Route(found.index, (looked, *shadowed, *found.findings))


def _read(environ: Mapping[str, str], cwd: Path) -> tuple[list[File], list[Finding]]:
    """The files, the nearest first; and those that are there and that cargo does not read."""
    files, shadowed, seen = [], [], set()
    for directory in _directories(environ, cwd):
        there = [directory / name for name in _NAMES if (directory / name).exists()]
        if not there or (real := os.path.realpath(directory)) in seen:
            continue
        seen.add(real)
        try:
            files.append(File(str(there[0]), there[0].read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError) as error:
            files.append(File(str(there[0]), error=f"it cannot be read ({error})"))
        if len(there) > 1:
            detail = f"{there[1]} is not read: cargo takes {there[0].name} where both are there"
            shadowed.append(warn("cargo configuration", detail, f"move what it says into {there[0].name}"))
    return files, shadowed


def _directories(environ: Mapping[str, str], cwd: Path) -> Iterator[Path]:
    for directory in (cwd, *cwd.parents):
        yield directory / ".cargo"
    if home := environ.get("CARGO_HOME"):
        yield cwd / home
    elif home := environ.get("HOME"):
        yield Path(home, ".cargo")


async def _version(environ: Mapping[str, str], cwd: Path) -> tuple[int, ...] | None:
    # A wrapper that has no toolchain for this directory would begin to fetch one.
    env = {**environ, "RUSTUP_AUTO_INSTALL": "0"}
    pipe, none = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    try:
        process = await asyncio.create_subprocess_exec(
            "cargo", "--version", cwd=cwd, env=env, stdin=none, stdout=pipe, stderr=none
        )
    except OSError:
        return None
    try:
        async with asyncio.timeout(PATIENCE):
            told, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return None
    found = _VERSION.match(told.decode("utf-8", "replace"))
    return tuple(map(int, found.groups())) if found else None
