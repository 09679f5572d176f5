"""What `export` and `import` do: they carry a cache from one machine to another in one file."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO

from proxy import report, wiring
from proxy.commands import reached
from proxy.commands.offline import Needs
from proxy.commands.progress import Told
from proxy.engine.exporting import Exported
from proxy.engine.importing import Imported
from proxy.errors import Error
from proxy.settings import Settings
from proxy.stores.zstandard import Packed, Unpacked

_LISTED = 50
"""Lines about single files; thousands would hide what is said after them."""


async def export(settings: Settings, directory: Path, file: str, needs: Needs | None) -> tuple[Exported, int]:
    """Write an archive of all, or of what `needs` says, to `file` ("-" is standard output); what came of it, and the
    size of the archive in bytes.

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
            await reached.everything(proxy, "the archive is not complete, and was not kept")
    return exported, sink.size


async def import_(settings: Settings, directory: Path, file: str) -> Imported:
    """Store what is in `file` ("-" is standard input); what came of it."""
    with _read(file) as source:
        async with wiring.opened(settings, directory) as proxy:
            with Told("importing", None) as progress:
                imported = await proxy.ready.importing.run(Unpacked(source), lambda size: progress.tell(size=size))
            await reached.everything(proxy, "not everything could be stored")
    return imported


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


def say_exported(exported: Exported, file: str, size: int) -> None:
    _say_all(exported.left_out)
    if exported.unknown:
        print(f"left out: {exported.unknown} tarballs that no stored index file knows", file=sys.stderr)
    print(
        f"{file}: {exported.copies} index files and answers, {exported.tarballs} tarballs; {report.size(size)}",
        file=sys.stderr,
    )
    if exported.left_out:
        print(f"{len(exported.left_out)} things are missing from it; `crates-proxy warm` fetches them", file=sys.stderr)


def say_imported(imported: Imported, file: str) -> None:
    _say_all([f"refused: {each}" for each in imported.refused])
    print(
        f"{file}: stored {imported.copies} index files and answers, {imported.tarballs} tarballs;"
        f" {imported.there} were there already, {imported.outdated} are out of date",
        file=sys.stderr,
    )
    if imported.evicted:
        print(f"{report.size(imported.evicted)} had to make room: cache.max_size is too small for all", file=sys.stderr)
    if imported.broken:
        print(f"{file}: {imported.broken}; what was stored was right and stays", file=sys.stderr)


def _say_all(lines: Sequence[str]) -> None:
    for line in lines[:_LISTED]:
        print(line, file=sys.stderr)
    if len(lines) > _LISTED:
        print(f"and {len(lines) - _LISTED} more", file=sys.stderr)


def exported_json(exported: Exported, size: int) -> dict[str, Any]:
    return {
        "ok": not exported.left_out,
        "copies": exported.copies,
        "tarballs": exported.tarballs,
        "bytes": size,
        "unknown": exported.unknown,
        "left_out": exported.left_out,
    }


def imported_json(imported: Imported) -> dict[str, Any]:
    return {
        "ok": not imported.refused and not imported.broken,
        "copies": imported.copies,
        "tarballs": imported.tarballs,
        "there": imported.there,
        "outdated": imported.outdated,
        "evicted_bytes": imported.evicted,
        "refused": imported.refused,
        "broken": imported.broken or None,
    }
