"""Builds what answers reads from memory whole, and the feed that tells it what has changed, as `wiring` orders it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack

from proxy.engine.answers import Answers
from proxy.engine.copies import Copies
from proxy.engine.deferred import Deferred
from proxy.engine.feed import Feed
from proxy.engine.passing import Passing
from proxy.engine.purging import Purging
from proxy.engine.renewing import Renewing
from proxy.engine.shelf import Shelf
from proxy.engine.transparent import Transparent
from proxy.fleet.base import Fleet
from proxy.model import Host
from proxy.rules.endpoints import Policy
from proxy.settings import Settings
from proxy.stores.base import Observer, Store
from proxy.upstream.base import Upstream
from proxy.wiring.members import Member

OVERDUE = 100.0
"""Of the API's budget one part in so many goes for what only download counters want. They are as new as that makes
them, however many crates are read every day: all of them at once would cost more than all that is new."""

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

    def held() -> float:
        hold = member.budget.held(Host.API)
        return hold.seconds if hold is not None else 0.0

    deferred = Deferred(refresh=lambda read: built.refresh(read), held=held, clock=clock)
    overdue = Deferred(
        refresh=lambda read: built.refresh(read, anew=True),
        held=held,
        clock=clock,
        pace=OVERDUE / given.requests_per_second,
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
        overdue=overdue.note,
    )
    stack.push_async_callback(built.aclose)
    if serving and not given.offline:
        for each in (deferred, overdue):
            each.start()
            stack.push_async_callback(each.aclose)
    return built


def transparent(
    settings: Settings,
    passing: Passing,
    shelf: Shelf,
    member: Member,
    clock: Clock,
    observe: Observer,
    stack: AsyncExitStack,
) -> Transparent:
    """What upstream's own headers rule."""
    built = Transparent(
        passing=passing,
        shelf=shelf,
        fleet=member.fleet,
        clock=clock,
        observe=observe,
        stale_after=settings.upstream.stale_after,
    )
    stack.push_async_callback(built.aclose)
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
