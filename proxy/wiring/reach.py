"""Builds the way to crates.io, as `wiring` orders it: the connections, and what counts, limits and guards them."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import AsyncExitStack

from proxy import __version__
from proxy.errors import SettingsError
from proxy.fleet.base import Budget
from proxy.metrics.counting import Counters
from proxy.model import Host
from proxy.settings import Settings
from proxy.upstream.base import Upstream
from proxy.upstream.counted import CountedUpstream
from proxy.upstream.http import HttpUpstream
from proxy.upstream.offline import OfflineUpstream
from proxy.upstream.shield import Shield

Clock = Callable[[], float]
Reach = Callable[[Settings], Upstream]


def origins(settings: Settings) -> dict[Host, str]:
    """Where the three upstream hosts are."""
    upstream = settings.upstream
    return {Host.API: upstream.api, Host.INDEX: upstream.index, Host.STATIC: upstream.static}


def shielded(
    settings: Settings, reach: Reach, budget: Budget, counters: Counters, clock: Clock, stack: AsyncExitStack
) -> Shield:
    """What is counted lies next to the connections: what never left is not counted."""
    inner = _upstream(settings, reach, counters, stack)
    return Shield(inner, budget, clock=clock, chance=random.random, stale_after=settings.upstream.stale_after)


def _upstream(settings: Settings, reach: Reach, counters: Counters, stack: AsyncExitStack) -> Upstream:
    if settings.upstream.offline:
        return OfflineUpstream()
    upstream = reach(settings)
    stack.push_async_callback(upstream.aclose)
    return CountedUpstream(upstream, counters)


def over_http(settings: Settings) -> Upstream:
    """crates.io as the settings tell the way to it."""
    given = settings.upstream
    contact = f" ({given.contact})" if given.contact else ""
    try:
        return HttpUpstream(
            origins(settings),
            user_agent=f"crates-proxy/{__version__}{contact}",
            connect_timeout=given.connect_timeout,
            patience=given.read_timeout,
            proxy=given.proxy,
            ca_file=given.ca_file,
        )
    except OSError as error:  # of which ssl.SSLError is one
        reason = error.strerror or error
        raise SettingsError([f"upstream.ca_file = {given.ca_file!r}: cannot be used ({reason})"]) from error
