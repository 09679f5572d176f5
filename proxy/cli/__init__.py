"""The command `crates-proxy`. The modules beside this one read arguments, print, and exit 0, 1 or 2; what the commands
do is in `proxy.commands`."""

from __future__ import annotations

import click

from proxy import __version__
from proxy.cli import keeping, offline, serving, setting_up


class InOrder(click.Group):
    """Commands as they are listed below: what everybody needs first."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=InOrder, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="crates-proxy")
def main() -> None:
    """A caching reverse proxy and mirror for crates.io.

    Commands work on the cache itself, beside a running server or without one, and tell running servers. Exit status:
    0 done, 1 something failed (said on standard error), 2 an argument or a setting is wrong.
    """


for _command in (
    serving.serve,
    offline.warm,
    offline.check,
    offline.export,
    offline.import_,
    keeping.purge,
    keeping.verify,
    keeping.gc,
    keeping.stats,
    setting_up.config,
    setting_up.setup,
    setting_up.doctor,
    setting_up.completion,
):
    main.add_command(_command)
