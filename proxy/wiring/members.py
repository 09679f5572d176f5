"""Joins this process to those that share something with it, as `wiring` orders it; only this module names fleets."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from proxy.engine.changes import Changes, Forgetful
from proxy.engine.purging import Holdings, Purging
from proxy.fleet import redis_budget
from proxy.fleet.base import Budget, Fleet, Listener, Lost
from proxy.fleet.local import LocalFleet
from proxy.fleet.redis import RedisFleet
from proxy.model import Health
from proxy.rules.bucket import Limits
from proxy.settings import Settings
from proxy.wiring.stores import Stores

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Member:
    """This process among those that share something with it: the replicas' `fleet`, the `machine`'s own, and the
    `budget` of all that may reach crates.io from here."""

    changes: Changes
    fleet: Fleet
    machine: LocalFleet
    budget: Budget
    purging: Purging

    def checks(self) -> Sequence[Awaitable[Health]]:
        return [self.fleet.health()] if self.machine is self.fleet else [self.fleet.health(), self._local()]

    async def _local(self) -> Health:
        return replace(await self.machine.health(), name="machine")


async def member(
    settings: Settings,
    directory: Path,
    stores: Stores,
    clock: Clock,
    tiers: Sequence[Forgetful],
    stack: AsyncExitStack,
) -> Member:
    marks = stores.marks
    changes = Changes(marks, keep=settings.cache.keep, tiers=tiers, unanswered=lambda: marks.unanswered)
    holdings = Holdings(changes=changes, stores=(stores.json, stores.index), blobs=stores.blobs)
    stack.push_async_callback(holdings.aclose)
    fleet, machine, budget = await _fleets(
        settings, directory, clock, holdings.hear, changes.forget, stores.left_alone, stack
    )
    if machine is fleet:  # else the marks are Redis's, which has no list of them
        stack.callback(asyncio.create_task(changes.read_ahead()).cancel)
    purging = Purging(changes=changes, holdings=holdings, fleet=fleet, clock=clock)
    return Member(changes, fleet, machine, budget, purging)


async def _fleets(
    settings: Settings,
    directory: Path,
    clock: Clock,
    hear: Listener,
    lost: Lost,
    left_alone: Callable[[], bool],
    stack: AsyncExitStack,
) -> tuple[Fleet, LocalFleet, Budget]:
    """The fleet that shares the stores, the processes of this machine that share `cache.dir`, and the budget of the
    former. Without Redis the two are the same. What is announced is announced to the first."""
    upstream = settings.upstream
    limits = Limits(upstream.requests_per_second, upstream.burst, upstream.window_requests, upstream.max_wait)
    joined = partial(LocalFleet.opened, directory, limits=limits, workers=settings.server.workers, clock=clock)
    if not settings.redis.url:
        local = await joined(hear, lost)
        stack.push_async_callback(local.aclose)
        return local, local, local.budget
    machine = await joined(lambda _: None, lambda: None)
    stack.push_async_callback(machine.aclose)
    url, prefix, name = settings.redis.url, settings.redis.prefix, redis_budget.machine(directory)
    replicas = await RedisFleet.opened(
        url, prefix, hear, lost, limits=limits, apart=machine.budget, machine=name, left_alone=left_alone
    )
    stack.push_async_callback(replicas.aclose)
    return replicas, machine, replicas.budget
