"""The commands that look after a cache: their arguments, and what they print."""

from __future__ import annotations

from pathlib import Path

import click

from proxy.cli import running
from proxy.cli.running import with_config, with_json
from proxy.model import Selection
from proxy.rules import names
from proxy.rules.endpoints import STORED


@click.command(short_help="Delete what is stored, or have it revalidated.")
@with_config
@click.option("--crate", metavar="NAME", help="Everything about this crate.")
@click.option(
    "--endpoint",
    metavar="NAME",
    help="Everything of this endpoint, such as index or versions.",
    shell_complete=running.endpoints,
)
@click.option("--all", "everything", is_flag=True, help="Everything.")
@click.option("--soft", is_flag=True, help="Delete nothing, but revalidate before use; it still serves offline.")
@with_json("how many that were")
def purge(
    config: Path | None, crate: str | None, endpoint: str | None, everything: bool, soft: bool, as_json: bool
) -> None:
    """Delete what is stored, here and in running servers; prints how many values and files that were.

    With --soft nothing is deleted: it is asked for again before its next use, which is what to do where something
    looks out of date. What is damaged, `verify` finds; what is too much, `gc` drops.

    \b
    crates-proxy purge --crate serde --soft
    crates-proxy purge --endpoint search
    """
    from proxy.commands import keeping

    if (crate is not None) + (endpoint is not None) + everything != 1:
        raise click.UsageError("name what to purge: one of --crate NAME, --endpoint NAME and --all")
    if crate is not None and not names.is_name(crate):
        raise click.BadParameter(f"`{crate}` is no name of a crate", param_hint="--crate")
    if endpoint is not None and endpoint not in STORED:
        raise click.BadParameter(f"`{endpoint}` is none of {', '.join(STORED)}", param_hint="--endpoint")
    selection = Selection(crate=names.folded(crate) if crate else None, endpoint=endpoint)
    loaded = running.loaded(config, {})
    work = keeping.purge(loaded.settings, running.directory(loaded), selection, soft=soft)
    purged = running.run(work, level="warning")
    running.printed({"purged": purged}) if as_json else click.echo(purged)


@click.command(short_help="Read all that is stored, set aside what is damaged.")
@with_config
@with_json("what was found")
def verify(config: Path | None, as_json: bool) -> None:
    """Read everything that is stored, and set aside what is damaged. Exit status 1 where something is.

    Every tarball is hashed; one that does not have its checksum goes to tarballs/corrupt below cache.dir, is told by
    name, and is fetched again when somebody asks for it. Index files and answers that cannot be read are dropped, which
    costs one request each. Running servers let go of what they have in memory or open. For after a crash of the
    machine, or now and then from a timer: it reads all that is stored, and nothing is sent to crates.io.

    \b
    crates-proxy verify
    crates-proxy verify --json | jq -r '.corrupt[].name'
    """
    from proxy.commands import keeping

    loaded = running.loaded(config, {"upstream.offline": True})
    directory = running.directory(loaded)
    verified = running.run(keeping.verify(loaded.settings, directory))
    if as_json:
        running.printed(keeping.verified_json(verified))
    else:
        keeping.say_verified(verified, directory)
    running.ended(not verified.corrupt and not verified.unreadable)


@click.command(short_help="Trim the cache to cache.max_size now.")
@with_config
@with_json("what was freed")
def gc(config: Path | None, as_json: bool) -> None:
    """Trim the cache to cache.max_size now, and free what it holds in vain.

    A server keeps its cache under cache.max_size by itself. This is for when that was made smaller, for a directory
    that no server uses now, and for a disk with less than cache.min_free left. Temporary files of killed writers go,
    then JSON past cache.keep, then what was not used for longest, tarballs first; what cache.pinned needs stays. Exit
    status 1 where it is still too much, which is told with why.

    \b
    crates-proxy gc
    CRATES_PROXY_CACHE__MAX_SIZE=10GiB crates-proxy gc
    """
    from proxy.commands import keeping

    loaded = running.loaded(config, {"upstream.offline": True})
    reclaimed = running.run(keeping.gc(loaded.settings, running.directory(loaded)))
    if as_json:
        running.printed(keeping.reclaimed_json(reclaimed))
    else:
        keeping.say_reclaimed(reclaimed)
    running.ended(not reclaimed.problems)


@click.command(short_help="Print what the cache has saved, and what it holds.")
@with_config
@with_json("all figures, as /-/stats does,")
def stats(config: Path | None, as_json: bool) -> None:
    """Print what this cache has saved since it was begun, and what it holds.

    Avoided is what crates.io would have been asked for without it, less what it was asked for. A running server's
    last few seconds may be missing.

    \b
    crates-proxy stats --json | jq .hit_ratio
    """
    from rich.console import Console

    from proxy import report
    from proxy.commands import keeping

    loaded = running.loaded(config, {})
    figures = running.run(keeping.stats(loaded.settings, running.directory(loaded)))
    if as_json:
        running.printed(figures)
    else:
        report.printed(figures, Console(soft_wrap=True))
