"""The commands that make a cache ready for a time without crates.io: their arguments, and what they print."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from proxy.cli import running
from proxy.cli.running import with_config, with_json


@click.command(short_help="Fetch index files and tarballs that are not there yet.")
@with_config
@click.argument("what", nargs=-1, required=True, metavar="LOCKFILE|NAME[@VERSION] ...", shell_complete=running.files)
@with_json("what came of it")
def warm(config: Path | None, what: tuple[str, ...], as_json: bool) -> None:
    """Fetch index files and tarballs into the cache, so that builds need crates.io no more.

    An argument with a / or ending in .lock is a Cargo.lock, - is one on standard input; any other is the name of a
    crate, alone for its newest version that is not yanked. Dependencies of named crates are not followed.

    Only what is missing is fetched, so a run that was broken off is simply started again. What could not be had is
    told at the end, with why; the exit status is then 1.

    \b
    crates-proxy warm ./Cargo.lock
    crates-proxy warm serde tokio@1.40.0
    """
    from proxy.commands import offline

    loaded = running.loaded(config, {})
    needs = running.parsed(lambda: offline.wanted(what, sys.stdin))
    work = offline.warm(loaded.settings, running.directory(loaded), needs, as_json=as_json)
    running.ended(running.run(work))


@click.command(short_help="Would lock files build from the cache alone?")
@with_config
@click.argument("lockfiles", nargs=-1, required=True, metavar="LOCKFILE ...", shell_complete=running.files)
@with_json("what is missing")
def check(config: Path | None, lockfiles: tuple[str, ...], as_json: bool) -> None:
    """Would these lock files (- is standard input) build from the cache alone? Exit status 1 if not.

    Every index file must be stored and have the version with the lock file's checksum, and every tarball must be
    stored with the right bytes: all of them are read. Nothing is sent to crates.io.

    \b
    crates-proxy check ./Cargo.lock || crates-proxy warm ./Cargo.lock
    """
    from proxy.commands import offline

    loaded = running.loaded(config, {"upstream.offline": True})
    needs = running.parsed(lambda: offline.locked(lockfiles, sys.stdin))
    work = offline.check(loaded.settings, running.directory(loaded), needs, as_json=as_json)
    running.ended(running.run(work))


@click.command(short_help="Write the cache, or what lock files need, to an archive.")
@with_config
@click.argument("file", shell_complete=running.files)
@click.argument("lockfiles", nargs=-1, metavar="[LOCKFILE ...]", shell_complete=running.files)
@with_json("what came of it")
def export(config: Path | None, file: str, lockfiles: tuple[str, ...], as_json: bool) -> None:
    """Write what is stored to FILE (- is standard output), to be imported on another machine.

    With lock files (- is standard input) only what they need goes in: index files and tarballs. Without, all of the
    cache does. FILE appears when it is complete. Exit status 1 where something is missing from it, which is told: then
    `warm` fetches it. Nothing is sent to crates.io.

    \b
    crates-proxy export crates.tar.zst ./Cargo.lock
    crates-proxy export - | ssh inside crates-proxy import -
    """
    from proxy.commands import archive, offline

    loaded = running.loaded(config, {"upstream.offline": True})
    if file == "-" and as_json:
        raise click.UsageError("--json and the archive cannot both be on standard output")
    if file == "-" and sys.stdout.isatty():
        raise click.UsageError("an archive is nothing for a terminal: send it to a file or a pipe")
    needs = running.parsed(lambda: offline.locked(lockfiles, sys.stdin)) if lockfiles else None
    exported, size = running.run(archive.export(loaded.settings, running.directory(loaded), file, needs))
    if as_json:
        running.printed(archive.exported_json(exported, size))
    else:
        if needs is not None:
            offline.say_elsewhere(needs)
        archive.say_exported(exported, file, size)
    running.ended(not exported.left_out)


@click.command(name="import", short_help="Put an archive into the cache, each file checked.")
@with_config
@click.argument("file", shell_complete=running.files)
@with_json("what came of it")
def import_(config: Path | None, file: str, as_json: bool) -> None:
    """Put what is in FILE (- is standard input), which `export` wrote, into the cache.

    Each file in it is stored once its checksum is known to be right; one that is wrong is refused by name, and the
    exit status is then 1. What the cache has newer stays. A run that was broken off is simply started again. Running
    servers see what was imported. Nothing is sent to crates.io.

    \b
    crates-proxy import crates.tar.zst
    """
    from proxy.commands import archive

    loaded = running.loaded(config, {"upstream.offline": True})
    imported = running.run(archive.import_(loaded.settings, running.directory(loaded), file))
    if as_json:
        running.printed(archive.imported_json(imported))
    else:
        archive.say_imported(imported, file)
    running.ended(not imported.refused and not imported.broken)
