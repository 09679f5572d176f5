"""The commands that set it up, and find out why something does not work: their arguments, and what they print."""

from __future__ import annotations

import os
from pathlib import Path

import click
from click.shell_completion import get_completion_class

from proxy import settings
from proxy.cli import running
from proxy.cli.running import with_config, with_json
from proxy.errors import SettingsError
from proxy.rules import cargo_lines
from proxy.rules.endpoints import TIMED


@click.command(short_help="Print the settings in force, and where each came from.")
@with_config
@click.option("--check", is_flag=True, help="Print no settings; exit 2 where something is wrong.")
@with_json("the settings, or what is wrong with them,")
def config(config: Path | None, check: bool, as_json: bool) -> None:
    """Print the settings in force and where each came from; secrets are masked.

    All that is wrong is told at once, on standard error; the exit status is then 2. --check is for scripts that are
    about to restart a server.

    \b
    crates-proxy config | grep -v '# default'
    crates-proxy config --check --config /etc/crates-proxy.toml
    """
    try:
        found = settings.load({}, config, os.environ, endpoints=TIMED)
    except SettingsError as error:
        if as_json:
            running.printed({"ok": False, "problems": list(error.problems)})
        running.stop(error, 2)
    for note in found.notes:
        click.echo(note, err=True)
    if as_json:
        rows = {} if check else {key: {"value": value, "origin": origin} for key, value, origin in settings.told(found)}
        running.printed({"ok": True, "problems": [], **({} if check else {"settings": rows})})
    elif not check:
        click.echo(settings.render(found), nl=False)


@click.command(short_help="Print the lines for cargo, or write them where it looks.")
@with_config
@click.option("--write", is_flag=True, help="Write them into $CARGO_HOME/config.toml instead.")
def setup(config: Path | None, write: bool) -> None:
    """Print the lines for .cargo/config.toml that make cargo use this proxy.

    They go into .cargo/config.toml of a project, or into the one of your home directory, which --write does: what else
    is in there stays, what was there before is kept beside it once, and where it says something else about the same
    tables nothing is written (exit status 1). Written again, for instance after server.public_url has changed, they are
    replaced. `crates-proxy doctor` tells whether cargo goes by them.

    \b
    crates-proxy setup >> .cargo/config.toml
    CRATES_PROXY_SERVER__PUBLIC_URL=https://crates.example.org crates-proxy setup --write
    """
    from proxy.commands import setup as setting_up

    loaded = running.loaded(config, {})
    index = running.parsed(lambda: setting_up.index(loaded.settings))
    if setting_up.local_only(loaded.settings):
        click.echo("for this machine only: set server.public_url, and others can use these lines too", err=True)
    if write:
        click.echo(running.done(lambda: setting_up.write(setting_up.configuration(os.environ), index)), err=True)
    else:
        click.echo("# .cargo/config.toml, of a project or of your home directory")
        click.echo(cargo_lines.lines(index), nl=False)


@click.command(short_help="Print the script with which a shell completes all this.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script with which a shell completes commands, options and the names of endpoints.

    \b
    bash   crates-proxy completion bash > ~/.local/share/bash-completion/completions/crates-proxy
    zsh    crates-proxy completion zsh > ~/.zfunc/_crates-proxy      (with ~/.zfunc in $fpath)
    fish   crates-proxy completion fish > ~/.config/fish/completions/crates-proxy.fish
    """
    made = get_completion_class(shell)
    assert made is not None
    root = context.find_root().command
    click.echo(made(root, {}, "crates-proxy", "_CRATES_PROXY_COMPLETE").source())


@click.command(short_help="Find out why something does not work, and what to do.")
@with_config
@click.option("--url", metavar="URL", help="Look only at how cargo on this machine reaches the proxy at URL.")
@with_json("what was found")
def doctor(config: Path | None, url: str | None, as_json: bool) -> None:
    """Find out why something does not work, and say what to do.

    It looks at the settings, the cache directory and its disk, Redis, the way to crates.io (name, connection, TLS, a
    request each, within the budget), a server that runs, and at cargo's configuration as cargo reads it in the
    directory where this is run: would it go through the proxy? One line each, `ok`, `warn` or `fail`; exit status 1
    where something fails. It changes nothing.

    \b
    crates-proxy doctor
    cd my-project && crates-proxy doctor --url https://crates.example.org
    """
    from proxy import doctor as doctors
    from proxy.commands import diagnosis
    from proxy.commands import setup as setting_up

    if url and not url.startswith(("http://", "https://")):
        raise click.BadParameter(f"`{url}` does not begin with http:// or https://", param_hint="--url")
    loaded = running.loaded(config, {})
    base = url.rstrip("/") if url else setting_up.base(loaded.settings)
    around = doctors.Surroundings(os.environ, Path.cwd(), base)
    said = None if as_json else click.echo
    if url:
        found = running.run(diagnosis.of_cargo(around, said))
    else:
        found = running.run(diagnosis.whole(loaded, running.directory(loaded), around, said), level="critical")
    if as_json:
        running.printed(diagnosis.as_json(found))
    running.ended(diagnosis.well(found))
