"""What `export` and `import` do: they carry a cache from one machine to another in one file."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from rich.filesize import decimal

from proxy import wiring
from proxy.commands_offline import Needs, say_elsewhere
from proxy.commands_progress import Told
from proxy.engine.exporting import Exported
from proxy.engine.importing import Imported
from proxy.errors import Error
from proxy.model import State
from proxy.settings import Settings
from proxy.stores.zstandard import Packed, Unpacked

_LISTED = 50
"""Lines about single files; thousands would hide what is said after them."""


async def export(settings: Settings, directory: Path, file: str, needs: Needs | None) -> bool:
    """Write an archive of all, or of what `needs` says, to `file` ("-" is standard output); whether it has all that.

    Raises `Error` where it cannot be written: then there is no file.
    """
    with _written(file) as target:
        sink = Packed(target)
        async with wiring.opened(settings, directory) as proxy:
            exporting = proxy.ready.exporting
            with Told("exporting", None) as progress:
                if needs is None:
                    exported = await exporting.everything(sink, lambda size: progress.tell(size=size))
                else:
                    exported = await exporting.needed(needs.wanted, sink, lambda size: progress.tell(size=size))
            await sink.finish()
            await _all_well(proxy, "the archive is not complete, and was not kept")
    if needs is not None:
        say_elsewhere(needs)
    _say_exported(exported, file, sink.size)
    return not exported.left_out


async def import_(settings: Settings, directory: Path, file: str) -> bool:
    """Store what is in `file` ("-" is standard input); whether all of it was as it should be."""
    with _read(file) as source:
        async with wiring.opened(settings, directory) as proxy:
            with Told("importing", None) as progress:
                imported = await proxy.ready.importing.run(Unpacked(source), lambda size: progress.tell(size=size))
            await _all_well(proxy, "not everything could be stored")
    _say_imported(imported, file)
    return not imported.refused and not imported.broken


async def _all_well(proxy: wiring.Proxy, otherwise: str) -> None:
    """Raises `Error` where a store is not well: what fails on a store is absent there, and nothing else tells it."""
    failed = [health for health in await asyncio.gather(*proxy.stores()) if health.state is not State.OK]
    if failed:
        raise Error(f"{otherwise}: {'; '.join(f'{health.name}: {health.detail}' for health in failed)}")


@contextlib.contextmanager
def _written(file: str) -> Iterator[BinaryIO]:
    """A file that has its name only when it is complete."""
    try:
        if file == "-":
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
            return
        partial = Path(f"{file}.partial")
        try:
            with partial.open("wb") as target:
                yield target
                target.flush()
                os.fsync(target.fileno())
            partial.replace(file)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise Error(f"{file} cannot be written: {error.strerror or error}") from None


@contextlib.contextmanager
def _read(file: str) -> Iterator[FileIO]:
    try:
        # Without a buffer, which would wait for its fill: from a slow pipe things are stored as they come.
        with open(sys.stdin.fileno() if file == "-" else file, "rb", buffering=0, closefd=file != "-") as source:
            yield source
    except OSError as error:
        raise Error(f"{file} cannot be read: {error.strerror or error}") from None


def _say_exported(exported: Exported, file: str, size: int) -> None:
    _say_all(exported.left_out)
    if exported.unknown:
        print(f"left out: {exported.unknown} tarballs that no stored index file knows", file=sys.stderr)
    print(
        f"{file}: {exported.copies} index files and answers, {exported.tarballs} tarballs; {decimal(size)}",
        file=sys.stderr,
    )
    if exported.left_out:
        print(f"{len(exported.left_out)} things are missing from it; `crates-proxy warm` fetches them", file=sys.stderr)


def _say_imported(imported: Imported, file: str) -> None:
    _say_all([f"refused: {each}" for each in imported.refused])
    print(
        f"{file}: stored {imported.copies} index files and answers, {imported.tarballs} tarballs;"
        f" {imported.there} were there already, {imported.outdated} are out of date",
        file=sys.stderr,
    )
    if imported.evicted:
        print(f"{decimal(imported.evicted)} had to make room: cache.max_size is too small for all", file=sys.stderr)
    if imported.broken:
        print(f"{file}: {imported.broken}; what was stored was right and stays", file=sys.stderr)


def _say_all(lines: Sequence[str]) -> None:
    for line in lines[:_LISTED]:
        print(line, file=sys.stderr)
    if len(lines) > _LISTED:
        print(f"and {len(lines) - _LISTED} more", file=sys.stderr)
