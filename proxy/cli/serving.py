"""The command `serve`: its arguments, and what of the settings the processes need."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from proxy import logs, rereading, settings, starting
from proxy.cli import running
from proxy.cli.running import with_config
from proxy.errors import Error, SettingsError
from proxy.rules.clients import Networks
from proxy.rules.endpoints import TIMED
from proxy.settings import Loaded, Settings
from proxy.tracing import wanted

if TYPE_CHECKING:  # what serves is not loaded for the sake of other commands
    from proxy.server.serving import Terms

log = logging.getLogger("proxy")


@click.command(short_help="Run the server.")
@with_config
@click.option("--host", metavar="ADDRESS", help="server.host: where to listen.")
@click.option("--port", metavar="NUMBER", help="server.port: 0 picks a free one.")
@click.option("--workers", metavar="NUMBER", help="server.workers: processes.")
@click.option("--offline", is_flag=True, default=None, help="upstream.offline: serve only what is stored.")
def serve(config: Path | None, host: str | None, port: str | None, workers: str | None, offline: bool | None) -> None:
    """Run the server until SIGTERM or SIGINT.

    It says `crates-proxy: serving on URL` when it does; `crates-proxy setup` prints what cargo has to know of it.
    SIGTERM lets requests under way come to their end, for server.drain_timeout at most. SIGHUP has the settings and
    the certificate read again.

    \b
    crates-proxy serve --host 0.0.0.0 --workers 4
    """
    from proxy.server import sockets
    from proxy.server import workers as processes
    from proxy.web import app

    given = {"server.host": host, "server.port": port, "server.workers": workers, "upstream.offline": offline}
    loaded = running.loaded(config, given)
    server = loaded.settings.server
    logs.configure(level=loaded.settings.log.level, json_lines=loaded.settings.log.format == "json")
    directory = running.directory(loaded)
    traces = wanted.wish(os.environ, wanted.installed())
    log.info("crates-proxy starts", extra={"event": starting.in_force(loaded, directory, traces)})
    for warning in starting.warnings(loaded, traces):
        log.warning("%s", warning)
    try:
        if server.socket:
            groups = sockets.unix(server.socket, workers=server.workers)
        else:
            groups = sockets.tcp(server.host, server.port, workers=server.workers)
        terms = _terms(loaded.settings, directory)
        status = processes.run(
            app.made,
            terms.settings,
            groups=groups,
            tls=terms.tls,
            drain_timeout=terms.drain_timeout,
            limits=terms.limits,
            on_drain=app.drain,
            reread=_Rereading(loaded, directory, config, given),
            on_reload=app.reload,
        )
    except SettingsError as error:
        running.stop(error, 2)
    except Error as error:
        running.stop(error, 1)
    if server.socket:
        sockets.remove(server.socket)
    sys.exit(status)


def _terms(settings: Settings, directory: Path) -> Terms:
    from proxy.server.guard import Limits
    from proxy.server.serving import Terms, Tls

    server = settings.server
    return Terms(
        settings=(settings, directory),
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
    )


class _Rereading:
    """Reads the settings again, from where they came from. What cannot be used changes nothing, and is logged."""

    def __init__(self, loaded: Loaded, directory: Path, config: Path | None, given: dict[str, Any]) -> None:
        self._loaded = loaded
        self._directory = directory
        self._config = config
        self._given = given

    def __call__(self) -> Terms | None:
        from proxy.server import serving

        try:
            now = settings.load(self._given, self._config, os.environ, endpoints=TIMED)
            found = rereading.compared(self._loaded, now)
            terms = _terms(found.in_force.settings, self._directory)
            before = self._loaded.settings.server
            if bool(terms.tls) != bool(before.tls_cert):
                raise SettingsError(["server.tls_cert: to begin or to end serving https needs a restart"])
            if terms.tls is not None and (wrong := serving.usable(terms.tls)):
                raise SettingsError([wrong])
        except SettingsError as error:
            for problem in error.problems:
                log.error("the settings are as before: %s", problem)
            return None
        self._loaded = found.in_force
        given = self._loaded.settings.log
        logs.configure(level=given.level, json_lines=given.format == "json")
        log.log(logging.WARNING if found.waiting else logging.INFO, "%s", found.told)
        return terms
