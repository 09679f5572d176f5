"""How every command gets its settings, runs, and ends: exit 0 done, 1 something failed, 2 bad usage or settings."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click
from click.shell_completion import CompletionItem

from proxy import logs, settings
from proxy.errors import Error, Refused, SettingsError
from proxy.rules.endpoints import STORED, TIMED
from proxy.settings import Loaded

T = TypeVar("T")
Command = Callable[..., None]


def with_config(command: Command) -> Command:
    option = click.option(
        "--config",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Settings in TOML; see config/default.toml. The environment and options win over it.",
    )
    return option(command)


def with_json(what: str) -> Callable[[Command], Command]:
    """The option --json, for who prints `what`."""
    return click.option("--json", "as_json", is_flag=True, help=f"Print {what} as JSON, for scripts.")


def files(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Tells the shell to complete the names of files."""
    return [CompletionItem(incomplete, type="file")]


def endpoints(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The names of endpoints that may have something stored."""
    return [CompletionItem(name) for name in STORED if name.startswith(incomplete)]


def loaded(config: Path | None, given: dict[str, Any]) -> Loaded:
    """The settings in force; `given` are options of the command line, by key."""
    try:
        return settings.load(given, config, os.environ, endpoints=TIMED)
    except SettingsError as error:
        stop(error, 2)


def directory(loaded: Loaded) -> Path:
    try:
        return loaded.settings.cache_dir(os.environ)
    except SettingsError as error:
        stop(error, 2)


def parsed(parse: Callable[[], T]) -> T:
    """What arguments mean; exit 2 where they mean nothing."""
    try:
        return parse()
    except Refused as error:
        stop(error, 2)


def done(act: Callable[[], T]) -> T:
    """What something gives that needs no event loop; exit 1 where it fails."""
    try:
        return act()
    except Error as error:
        stop(error, 1)


def run(work: Coroutine[Any, Any, T], *, level: str = "error") -> T:
    """The result of a command's work; from `level` on, what the stores have to say about it is logged to stderr."""
    logs.configure(level=level, json_lines=False)
    try:
        return asyncio.run(work)
    except SettingsError as error:
        stop(error, 2)
    except Error as error:
        stop(error, 1)


def printed(value: object) -> None:
    """One JSON value on standard output."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def ended(well: bool) -> NoReturn:
    sys.exit(0 if well else 1)


def stop(error: Error, status: int) -> NoReturn:
    for line in error.detail.splitlines():
        click.echo(f"crates-proxy: {line}", err=True)
    sys.exit(status)
