"""The command `crates-proxy`: one function a subcommand. It reads arguments, prints, and exits 0, 1 or 2."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from proxy import __version__, logs, settings, starting
from proxy.errors import Error, Refused, SettingsError
from proxy.model import Selection
from proxy.rules import names
from proxy.rules.clients import Networks
from proxy.rules.endpoints import BY_NAME, TIMED
from proxy.settings import Loaded

T = TypeVar("T")
log = logging.getLogger("proxy")


def _with_config(command: Callable[..., None]) -> Callable[..., None]:
    option = click.option(
        "--config",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Settings in TOML; see config/default.toml. The environment and options win over it.",
    )
    return option(command)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="crates-proxy")
def main() -> None:
    """A caching reverse proxy and mirror for crates.io."""


@main.command()
@_with_config
@click.option("--host", metavar="ADDRESS", help="server.host: where to listen.")
@click.option("--port", metavar="NUMBER", help="server.port: 0 picks a free one.")
@click.option("--workers", metavar="NUMBER", help="server.workers: processes.")
@click.option("--offline", is_flag=True, default=None, help="upstream.offline: serve only what is stored.")
def serve(config: Path | None, host: str | None, port: str | None, workers: str | None, offline: bool | None) -> None:
    """Run the server until SIGTERM or SIGINT."""
    from proxy.server import sockets
    from proxy.server import workers as processes
    from proxy.server.guard import Limits
    from proxy.server.serving import Tls
    from proxy.web import app

    given = {"server.host": host, "server.port": port, "server.workers": workers, "upstream.offline": offline}
    loaded = _loaded(config, given)
    server = loaded.settings.server
    logs.configure(level=loaded.settings.log.level, json_lines=loaded.settings.log.format == "json")
    directory = _directory(loaded)
    log.info("crates-proxy starts", extra={"event": starting.in_force(loaded, directory)})
    for warning in starting.warnings(loaded):
        log.warning("%s", warning)
    try:
        if server.socket:
            groups = sockets.unix(server.socket, workers=server.workers)
        else:
            groups = sockets.tcp(server.host, server.port, workers=server.workers)
        status = processes.run(
            app.made,
            (loaded.settings, directory),
            groups=groups,
            tls=Tls(server.tls_cert, server.tls_key) if server.tls_cert else None,
            drain_timeout=server.drain_timeout,
            limits=Limits(
                header_bytes=server.max_header_bytes,
                headers=server.max_headers,
                header_timeout=server.header_timeout,
                body_min_rate=server.body_min_rate,
                write_timeout=server.write_timeout,
                connections=server.max_connections,
                connections_per_client=server.max_connections_per_client,
                trusted=Networks.of(server.trusted_proxies),
            ),
            on_drain=app.drain,
        )
    except SettingsError as error:
        _stop(error, 2)
    except Error as error:
        _stop(error, 1)
    if server.socket:
        sockets.remove(server.socket)
    sys.exit(status)


@main.command()
@_with_config
@click.argument("what", nargs=-1, required=True, metavar="LOCKFILE|NAME[@VERSION] ...")
def warm(config: Path | None, what: tuple[str, ...]) -> None:
    """Fetch index files and tarballs into the cache, so that builds need crates.io no more.

    An argument with a / or ending in .lock is a Cargo.lock, - is one on standard input; any other is the name of a
    crate, alone for its newest version that is not yanked. Dependencies of named crates are not followed.

    Only what is missing is fetched, so a run that was broken off is simply started again. What could not be had is
    told at the end, with why; the exit status is then 1.
    """
    from proxy import commands_offline as commands

    loaded = _loaded(config, {})
    logs.configure(level="error", json_lines=False)
    needs = _parsed(lambda: commands.wanted(what, sys.stdin))
    sys.exit(0 if _run(commands.warm(loaded.settings, _directory(loaded), needs)) else 1)


@main.command()
@_with_config
@click.argument("lockfiles", nargs=-1, required=True, metavar="LOCKFILE ...")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of sentences.")
def check(config: Path | None, lockfiles: tuple[str, ...], as_json: bool) -> None:
    """Would these lock files (- is standard input) build from the cache alone? Exit status 1 if not.

    Every index file must be stored and have the version with the lock file's checksum, and every tarball must be
    stored with the right bytes: all of them are read. Nothing is sent to crates.io.
    """
    from proxy import commands_offline as commands

    loaded = _loaded(config, {"upstream.offline": True})
    logs.configure(level="error", json_lines=False)
    needs = _parsed(lambda: commands.locked(lockfiles, sys.stdin))
    sys.exit(0 if _run(commands.check(loaded.settings, _directory(loaded), needs, as_json=as_json)) else 1)


@main.command()
@_with_config
@click.argument("file")
@click.argument("lockfiles", nargs=-1, metavar="[LOCKFILE ...]")
def export(config: Path | None, file: str, lockfiles: tuple[str, ...]) -> None:
    """Write what is stored to FILE (- is standard output), to be imported on another machine.

    With lock files (- is standard input) only what they need goes in: index files and tarballs. Without, all of the
    cache does. FILE appears when it is complete. Exit status 1 where something is missing from it, which is told: then
    `warm` fetches it. Nothing is sent to crates.io.
    """
    from proxy import commands_archive, commands_offline

    loaded = _loaded(config, {"upstream.offline": True})
    logs.configure(level="error", json_lines=False)
    if file == "-" and sys.stdout.isatty():
        raise click.UsageError("an archive is nothing for a terminal: send it to a file or a pipe")
    needs = _parsed(lambda: commands_offline.locked(lockfiles, sys.stdin)) if lockfiles else None
    sys.exit(0 if _run(commands_archive.export(loaded.settings, _directory(loaded), file, needs)) else 1)


@main.command(name="import")
@_with_config
@click.argument("file")
def import_(config: Path | None, file: str) -> None:
    """Put what is in FILE (- is standard input), which `export` wrote, into the cache.

    Each file in it is stored once its checksum is known to be right; one that is wrong is refused by name, and the
    exit status is then 1. What the cache has newer stays. A run that was broken off is simply started again. Running
    servers see what was imported. Nothing is sent to crates.io.
    """
    from proxy import commands_archive

    loaded = _loaded(config, {"upstream.offline": True})
    logs.configure(level="error", json_lines=False)
    sys.exit(0 if _run(commands_archive.import_(loaded.settings, _directory(loaded), file)) else 1)


@main.command()
@_with_config
@click.option("--crate", metavar="NAME", help="Everything about this crate.")
@click.option("--endpoint", metavar="NAME", help="Everything of this endpoint, such as index or versions.")
@click.option("--all", "everything", is_flag=True, help="Everything.")
@click.option("--soft", is_flag=True, help="Delete nothing, but revalidate before use; it still serves offline.")
def purge(config: Path | None, crate: str | None, endpoint: str | None, everything: bool, soft: bool) -> None:
    """Delete what is stored, here and in running servers; prints how many values and files that were."""
    from proxy import commands

    if (crate is not None) + (endpoint is not None) + everything != 1:
        raise click.UsageError("name what to purge: one of --crate NAME, --endpoint NAME and --all")
    if crate is not None and not names.is_name(crate):
        raise click.BadParameter(f"`{crate}` is no name of a crate", param_hint="--crate")
    if endpoint is not None and endpoint not in BY_NAME:
        raise click.BadParameter(f"`{endpoint}` is none of {', '.join(BY_NAME)}", param_hint="--endpoint")
    selection = Selection(crate=names.folded(crate) if crate else None, endpoint=endpoint)
    loaded = _loaded(config, {})
    logs.configure(level="warning", json_lines=False)
    click.echo(_run(commands.purge(loaded.settings, _directory(loaded), selection, soft=soft)))


@main.command()
@_with_config
@click.option("--json", "as_json", is_flag=True, help="Print all figures as JSON, as /-/stats does.")
def stats(config: Path | None, as_json: bool) -> None:
    """Print what this cache has saved since it was begun, and what it holds.

    Avoided is what crates.io would have been asked for without it, less what it was asked for. A running server's
    last few seconds may be missing.
    """
    from rich.console import Console

    from proxy import commands, report

    loaded = _loaded(config, {})
    logs.configure(level="error", json_lines=False)
    figures = _run(commands.stats(loaded.settings, _directory(loaded)))
    if as_json:
        click.echo(json.dumps(figures, indent=2, ensure_ascii=False))
    else:
        report.printed(figures, Console(soft_wrap=True))


@main.command(name="config")
@_with_config
@click.option("--check", is_flag=True, help="Print nothing; exit 2 where something is wrong.")
def config_(config: Path | None, check: bool) -> None:
    """Print the settings in force and where each came from; secrets are masked."""
    loaded = _loaded(config, {})
    for note in loaded.notes:
        click.echo(note, err=True)
    if not check:
        click.echo(settings.render(loaded), nl=False)


@main.command()
@_with_config
def setup(config: Path | None) -> None:
    """Print the lines for .cargo/config.toml that make cargo use this proxy."""
    from proxy import commands

    click.echo(commands.cargo_config(_loaded(config, {}).settings), nl=False)


def _loaded(config: Path | None, given: dict[str, Any]) -> Loaded:
    try:
        return settings.load(given, config, os.environ, endpoints=TIMED)
    except SettingsError as error:
        _stop(error, 2)


def _directory(loaded: Loaded) -> Path:
    try:
        return loaded.settings.cache_dir(os.environ)
    except SettingsError as error:
        _stop(error, 2)


def _parsed(parse: Callable[[], T]) -> T:
    """What arguments mean; exit 2 where they mean nothing."""
    try:
        return parse()
    except Refused as error:
        _stop(error, 2)


def _run(work: Coroutine[Any, Any, T]) -> T:
    try:
        return asyncio.run(work)
    except SettingsError as error:
        _stop(error, 2)
    except Error as error:
        _stop(error, 1)


def _stop(error: Error, status: int) -> NoReturn:
    for line in error.detail.splitlines():
        click.echo(f"crates-proxy: {line}", err=True)
    sys.exit(status)
