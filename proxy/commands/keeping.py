"""What the commands do that look after a cache: `purge`, `verify`, `gc` and `stats`.

They work on the stores, beside a running server or without one, and tell running servers.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from proxy import report, wiring
from proxy.commands import reached
from proxy.commands.progress import Told
from proxy.engine.verifying import Verified
from proxy.errors import Error
from proxy.model import Selection
from proxy.settings import Settings
from proxy.stores.reclaiming import Freed, Reclaimed


async def purge(settings: Settings, directory: Path, selection: Selection, *, soft: bool) -> int:
    """Delete, or with `soft` invalidate, in the stores and in running servers; how many that were.

    Raises `Error` where a store or the fleet could not be reached: what it holds is still there.
    """
    async with wiring.opened(settings, directory) as proxy:
        purged = await proxy.purging.purge(selection, soft=soft)
        await reached.everything(proxy, f"purged {purged}, but not everything could be reached")
    return purged


async def stats(settings: Settings, directory: Path) -> dict[str, Any]:
    """What was saved and what is stored. Raises `Error` where the book of savings cannot be read."""
    async with wiring.opened(settings, directory) as proxy:
        found = await proxy.telling.stats()
    if found["since"] is None:
        raise Error(f"{directory / 'savings'} cannot be read; the log of the server says why")
    return found


async def verify(settings: Settings, directory: Path) -> Verified:
    """Read everything; set aside, or drop, what is damaged. Raises `Error` where not everything could be read."""
    async with wiring.opened(settings, directory) as proxy:
        verifying = proxy.ready.verifying
        with Told("verifying", await verifying.count()) as progress:
            verified = await verifying.run(lambda size: progress.tell(size=size))
        try:
            await reached.everything(proxy, "not everything could be verified")
        except Error:
            say_verified(verified, directory)  # what was found is true all the same
            raise
    return verified


async def gc(settings: Settings, directory: Path) -> Reclaimed:
    """Free what is held in vain or too much. Raises `Error` where a store could not be reached."""
    async with wiring.opened(settings, directory) as proxy:
        with Told("freeing", None) as progress:
            reclaimed = await proxy.reclaiming.run(lambda size: progress.tell(size=size))
        if reclaimed.evicted["tarballs"].files:
            await proxy.purging.evicted()
        if not reclaimed.problems:  # a store on a disk that stays full is not well either, which is told by then
            await reached.everything(proxy, "not everything could be reached")
    return reclaimed


def say_verified(verified: Verified, directory: Path) -> None:
    """What came of it: what is damaged on standard error, the sum on standard output."""
    for each in verified.corrupt:
        print(f"{each.file.name}: {each.reason} (sha256 {each.file.sha256}); set aside", file=sys.stderr)
    for key in verified.unreadable:
        print(f"{key}: it cannot be read; dropped", file=sys.stderr)
    said = f"{verified.tarballs} tarballs ({report.size(verified.bytes)}), {verified.entries} index files and answers"
    if not verified.corrupt and not verified.unreadable:
        print(f"all right: {said}")
        return
    print(f"{len(verified.corrupt)} tarballs and {len(verified.unreadable)} others were damaged, of {said}")
    if verified.corrupt:
        aside = directory / "tarballs" / "corrupt"
        print(f"the last few are in {aside}; whoever asks for one gets it from crates.io again", file=sys.stderr)


def verified_json(verified: Verified) -> dict[str, Any]:
    return {
        "ok": not verified.corrupt and not verified.unreadable,
        "tarballs": verified.tarballs,
        "bytes": verified.bytes,
        "entries": verified.entries,
        "corrupt": [
            {
                "name": each.file.crate and each.file.crate.name,
                "version": each.file.crate and each.file.crate.version,
                "sha256": each.file.sha256,
                "reason": each.reason,
            }
            for each in verified.corrupt
        ],
        "unreadable": verified.unreadable,
    }


def say_reclaimed(reclaimed: Reclaimed) -> None:
    for what, freed in (
        ("temporary files of writers that were killed", reclaimed.temporary),
        ("answers past cache.keep", reclaimed.expired),
        *((f"{name} not used for longest", freed) for name, freed in reclaimed.evicted.items()),
    ):
        if freed.files:
            print(f"freed {report.size(freed.bytes)}: {freed.files} {what}")
    print(
        f"{report.size(reclaimed.stored)} are stored, of {report.size(reclaimed.max_size)} (cache.max_size);"
        f" {report.size(reclaimed.free)} of the disk are free"
    )
    for problem in reclaimed.problems:
        print(problem, file=sys.stderr)


def reclaimed_json(reclaimed: Reclaimed) -> dict[str, Any]:
    def told(freed: Freed) -> dict[str, int]:
        return {"files": freed.files, "bytes": freed.bytes}

    return {
        "ok": not reclaimed.problems,
        "freed": {
            "temporary": told(reclaimed.temporary),
            "expired": told(reclaimed.expired),
            **{name: told(freed) for name, freed in reclaimed.evicted.items()},
        },
        "stored": reclaimed.stored,
        "max_size": reclaimed.max_size,
        "free": reclaimed.free,
        "min_free": reclaimed.min_free,
        "problems": reclaimed.problems,
    }
