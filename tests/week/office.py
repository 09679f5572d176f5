"""Everyone at once: when each client of a plan begins. The same in every run of one seed, whatever answers them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from tests.upstream import Registry
from tests.week import clients, population, publisher
from tests.week.clients import Home, Project, Visitor
from tests.week.plan import DAY, HOUR, Plan

RUNNERS = 10
"""CI machines that keep their CARGO_HOME; two jobs in five run on a fresh one."""
FRESH = 0.4


class Office:
    """`seconds` of work begin with `work()`; times are those of the running loop."""

    def __init__(self, plan: Plan, visitor: Visitor, registry: Registry) -> None:
        self._plan = plan
        self._visitor = visitor
        self._registry = registry
        self._names = population.names(plan)
        self._homes = [Home() for _ in range(RUNNERS)]
        self._busy: set[asyncio.Task[None]] = set()
        dice = self._dice("projects")
        low, high = plan.project_crates
        common = self._names[: plan.common]
        self._projects = [Project(dice.sample(common, dice.randint(low, high))) for _ in range(plan.projects)]

    async def work(self) -> None:
        """Until the plan's time is over; what is under way then is broken off."""
        parts = [
            self._others(),
            self._jobs(),
            self._updates(),
            self._survey(),
            self._bot(),
            self._people(),
            self._own(),
        ]
        for part in parts:
            self._begin(part)
        await asyncio.sleep(self._plan.seconds)
        ended = list(self._busy)
        for task in ended:
            task.cancel()
        for outcome in await asyncio.gather(*ended, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome

    def _begin(self, what: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(what)
        self._busy.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        # One that failed stays, to be told in the end.
        if task.cancelled() or task.exception() is None:
            self._busy.discard(task)

    def _dice(self, what: str) -> random.Random:
        return random.Random(f"{self._plan.seed} {what}")

    async def _now_and_then(self, dice: random.Random, in_an_hour: float) -> AsyncIterator[None]:
        """Independently of one another, so many times an hour."""
        while True:
            await asyncio.sleep(dice.expovariate(in_an_hour / HOUR))
            yield

    async def _others(self) -> None:
        """The rest of the world publishes and yanks."""
        begun = asyncio.get_running_loop().time()
        for at, change in population.changes(self._plan):
            await asyncio.sleep(begun + at - asyncio.get_running_loop().time())
            change(self._registry)

    async def _jobs(self) -> None:
        dice = self._dice("jobs")
        async for _ in self._now_and_then(dice, self._plan.jobs_an_hour):
            home = Home() if dice.random() < FRESH else dice.choice(self._homes)
            self._begin(clients.build(self._visitor, dice.choice(self._projects), home))

    async def _updates(self) -> None:
        """Each project lets its lock file go once a day."""
        dice = self._dice("updates")
        async for _ in self._now_and_then(dice, len(self._projects) / 24):
            dice.choice(self._projects).lock.clear()

    async def _survey(self) -> None:
        await asyncio.sleep(self._plan.tool_at)
        await self._every(self._plan.tool_every, lambda: clients.survey(self._visitor, self._names, self._plan.lanes))

    async def _bot(self) -> None:
        common = self._names[: self._plan.common]
        await self._every(self._plan.bot_every, lambda: clients.survey(self._visitor, common, self._plan.lanes))

    async def _every(self, seconds: float, do: Callable[[], Coroutine[Any, Any, None]]) -> None:
        while True:
            self._begin(do())
            await asyncio.sleep(seconds)

    async def _people(self) -> None:
        dice = self._dice("people")
        plan = self._plan
        async for _ in self._now_and_then(dice, plan.searches_an_hour + plan.pages_an_hour):
            if dice.random() < plan.searches_an_hour / (plan.searches_an_hour + plan.pages_an_hour):
                self._begin(clients.search(self._visitor, dice))
            else:
                self._begin(self._page(dice.choice(self._names)))

    async def _page(self, name: str) -> None:
        if config := await self._visitor.config():
            await clients.page(self._visitor, config["api"], name)

    async def _own(self) -> None:
        dice = self._dice("own")
        async for _ in self._now_and_then(dice, self._plan.publishes_a_day * HOUR / DAY * 2):
            name = self._names[dice.randrange(population.OURS)]
            if dice.random() < 0.5:
                self._begin(publisher.look(self._visitor, name))
            else:
                version = f"1.{len(population.versions(self._registry, name))}.0"
                self._begin(publisher.publish(self._visitor, name, version, dice))
