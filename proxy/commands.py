"""What `purge` and `setup` do. Commands work on the stores, beside a running server or without one."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from proxy import wiring
from proxy.errors import Error
from proxy.model import Selection, State
from proxy.settings import Settings


async def purge(settings: Settings, directory: Path, selection: Selection, *, soft: bool) -> int:
    """Delete, or with `soft` invalidate, in the stores and in running servers; how many that were.

    Raises `Error` where a store or the fleet could not be reached: what it holds is still there.
    """
    async with wiring.opened(settings, directory) as proxy:
        purged = await proxy.purging.purge(selection, soft=soft)
        failed = [health for health in await asyncio.gather(*proxy.stores()) if health.state is not State.OK]
    if failed:
        what = "; ".join(f"{health.name}: {health.detail}" for health in failed)
        raise Error(f"purged {purged}, but not everything could be reached: {what}")
    return purged


async def stats(settings: Settings, directory: Path) -> dict[str, Any]:
    """What was saved and what is stored. Raises `Error` where the book of savings cannot be read."""
    async with wiring.opened(settings, directory) as proxy:
        found = await proxy.telling.stats()
    if found["since"] is None:
        raise Error(f"{directory / 'savings'} cannot be read; the log of the server says why")
    return found


def cargo_config(settings: Settings) -> str:
    """The lines of `.cargo/config.toml` for these settings."""
    server = settings.server
    host = f"[{server.host}]" if ":" in server.host else server.host
    scheme = "https" if server.tls_cert else "http"
    index = f"sparse+{server.public_url or f'{scheme}://{host}:{server.port}'}/index/"
    return f"""\
# .cargo/config.toml, of a project or of your home directory
[source.crates-io]
replace-with = "mirror"
[source.mirror]
registry = "{index}"
[registries.mirror]  # for search, publish, yank and owner: cargo ... --registry mirror
index = "{index}"
"""
