"""Finds out why something does not work: looks at each part by itself, and says what to do.

It changes nothing, and asks crates.io three times, within the budget that all share.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from proxy import wiring
from proxy.doctor import cache, cargo, hosts, redis, server, usual
from proxy.errors import Error
from proxy.rules.findings import Finding, Grade, fail
from proxy.settings import Loaded, Settings
from proxy.tracing import wanted


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where it is run. `base`: where clients reach the proxy, "" where nobody knows."""

    environ: Mapping[str, str]
    cwd: Path
    base: str


async def findings(loaded: Loaded, directory: Path, around: Surroundings) -> AsyncIterator[Finding]:
    """All there is to say, as it is found."""
    settings = loaded.settings
    in_cache = await cache.findings(settings, directory)
    room = shutil.disk_usage(cache.existing(directory)).total
    traces = wanted.wish(around.environ, wanted.installed())
    for finding in (*usual.findings(loaded, traces, os.cpu_count() or 1, room), *in_cache):
        yield finding
    if settings.redis.url:
        for finding in await redis.findings(settings.redis.url):
            yield finding
    async for finding in _upstream(settings, directory):
        yield finding
    for finding in await server.findings(around.base, settings.server.socket):
        yield finding
    for finding in await of_cargo(around):
        yield finding


async def of_cargo(around: Surroundings) -> Sequence[Finding]:
    """Only what a machine has to know whose cargo uses a proxy elsewhere."""
    route = await cargo.route(around.environ, around.cwd, around.base)
    answered = await server.index(route.index) if route.index else []
    return [*route.findings, *answered]


async def _upstream(settings: Settings, directory: Path) -> AsyncIterator[Finding]:
    if settings.upstream.offline:
        yield hosts.OFFLINE
        return
    connected = await hosts.connections(settings, wiring.origins(settings))
    for finding in dict.fromkeys(connected.values()):
        yield finding
    reached = [host for host, finding in connected.items() if finding.grade is Grade.OK]
    try:
        async with wiring.opened(settings, directory) as proxy:
            for finding in await hosts.requests(proxy.reach, reached):
                yield finding
    except Error as error:
        yield fail("upstream requests", f"cannot be tried: {error.detail}")
