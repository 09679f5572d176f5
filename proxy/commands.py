"""What the commands beside `serve` do. They work on the stores, beside a running server or without one."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from proxy import wiring
from proxy.engine.warming import Wanted, Warmed
from proxy.errors import Error, Refused
from proxy.model import Selection, State
from proxy.rules import lockfile, names
from proxy.settings import Settings

_PLAIN_EVERY = 50  # versions between two lines of progress where there is no terminal


def wanted(arguments: Sequence[str], stdin: TextIO) -> list[Wanted]:
    """The versions that arguments of `warm` name. Raises `Refused` that says which argument is wrong and why."""
    found: list[Wanted] = []
    for argument in arguments:
        if argument == "-" or "/" in argument or argument.endswith(".lock"):
            found += _locked(argument, stdin)
            continue
        name, at, version = argument.partition("@")
        if not names.is_name(name) or (at and not names.is_version(version)):
            raise Refused(f"`{argument}` is neither NAME nor NAME@VERSION; a lock file has a / or ends in .lock")
        found.append(Wanted(name, version or None))
    return found


async def warm(settings: Settings, directory: Path, items: Sequence[Wanted]) -> list[Warmed]:
    """Fetch `items` with a progress bar; say what could not be had, and return that."""
    console = Console(stderr=True)
    failures: list[Warmed] = []
    async with wiring.opened(settings, directory) as proxy:
        with _progress(console, len(set(items))) as told:
            failures = await proxy.warming.run(items, told)
    for failure in failures:
        print(f"{failure.wanted}: {failure.failure}", file=sys.stderr)
    if failures:
        print(f"{len(failures)} of {len(set(items))} could not be had; what was fetched is kept", file=sys.stderr)
    return failures


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


def _locked(argument: str, stdin: TextIO) -> list[Wanted]:
    try:
        text = stdin.read() if argument == "-" else Path(argument).read_text(encoding="utf-8")
        return [Wanted(each.name, each.version, each.checksum) for each in lockfile.packages(text)]
    except OSError as error:
        raise Refused(f"{argument}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise Refused(f"{argument}: it is not text") from None
    except Refused as error:
        raise Refused(f"{argument}: {error.detail}") from None


class _progress:
    """A bar on a terminal, elsewhere a line now and then; called with each version as it ends."""

    def __init__(self, console: Console, total: int) -> None:
        self._bar = Progress(
            "{task.description}",
            BarColumn(),
            MofNCompleteColumn(),
            DownloadColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("warming", total=total)
        self._total = total
        self._done = self._fetched = self._failed = 0

    def __enter__(self) -> Callable[[Warmed], None]:
        self._bar.start()
        return self._tell

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def _tell(self, warmed: Warmed) -> None:
        self._done += 1
        self._fetched += warmed.fetched
        self._failed += warmed.failure is not None
        self._bar.update(self._task, advance=1)
        if self._bar.disable and (self._done % _PLAIN_EVERY == 0 or self._done == self._total):
            print(
                f"{self._done} of {self._total}, {self._fetched} bytes fetched, {self._failed} failed",
                file=sys.stderr,
            )
