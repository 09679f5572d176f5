"""Builds what answers reads from memory whole, and the feed that tells it what has changed, as `wiring` orders it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack

from proxy.engine.answers import Answers
from proxy.engine.copies import Copies
from proxy.engine.deferred import Deferred
from proxy.engine.feed import Feed
from proxy.engine.purging import Purging
from proxy.engine.renewing import Renewing
from proxy.fleet.base import Fleet
from proxy.model import Host
from proxy.rules.endpoints import Policy
from proxy.settings import Settings
from proxy.stores.base import Observer, Store
from proxy.upstream.base import Upstream
from proxy.wiring.members import Member

Clock = Callable[[], float]


def answers(
    settings: Settings,
    copies: Copies,
    upstream: Upstream,
    member: Member,
    clock: Clock,
    observe: Observer,
    index_policy: Policy,
    stack: AsyncExitStack,
    *,
    serving: bool,
) -> Answers:
    """Index files are answers like others, and decide whether others are still right. Where clients are served, what
    they were put off with is fetched later."""
    given = settings.upstream
    deferred = Deferred(
        refresh=lambda read: built.refresh(read),
        held=lambda: hold.seconds if (hold := member.budget.held(Host.API)) is not None else 0.0,
        clock=clock,
    )
    built = Answers(
        copies=copies,
        upstream=upstream,
        fleet=member.fleet,
        renewing=Renewing(
            index=lambda read: built.get(read),
            index_policy=index_policy,
            ceiling=0.0 if given.offline else given.renew_ceiling,
            clock=clock,
        ),
        clock=clock,
        observe=observe,
        stale_after=given.stale_after,
        offline=given.offline,
        put_off=deferred.note,
    )
    stack.push_async_callback(built.aclose)
    if serving and not given.offline:
        deferred.start()
        stack.push_async_callback(deferred.aclose)
    return built


def feeds(
    settings: Settings,
    marks: Store,
    purging: Purging,
    fleet: Fleet,
    upstream: Upstream,
    clock: Clock,
    observe: Observer,
    stack: AsyncExitStack,
    *,
    serving: bool,
) -> Sequence[Feed]:
    """The feed of new versions, where it is to be followed; it is, from now on until `stack` is closed."""
    if not serving or settings.upstream.offline or not settings.upstream.follow_feed:
        return []
    keep = settings.cache.keep
    feed = Feed(upstream=upstream, purging=purging, fleet=fleet, marks=marks, keep=keep, clock=clock, observe=observe)
    feed.start()
    stack.push_async_callback(feed.aclose)
    return [feed]
