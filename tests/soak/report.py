"""What the run came to, for people, and whether that is well."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tests.soak import plan
from tests.soak.census import Census
from tests.soak.plan import Kind, Lane

SHOWN = 20
_TRACEBACK = re.compile(r"^Traceback \(most recent call last\)", re.MULTILINE)


@dataclass
class Report:
    """faults: what was wrong. leaks: what there was too much of. without: kinds that were left out; a lane of which
    all were does not run."""

    minutes: float
    seed: int
    without: frozenset[Kind] = frozenset()
    came: Counter[Kind] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    leaks: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    logs: list[str] = field(default_factory=list)
    events: list[str] = field(default_factory=list)

    def told_of(self, what: str) -> None:
        self.events.append(f"{time.monotonic():.3f} {what}")

    def note(self, when: str, counted: Sequence[Census]) -> None:
        self.notes.append(f"{when}: " + "; ".join(each.told for each in counted))

    @property
    def lanes(self) -> list[Lane]:
        return [lane for lane in Lane if not self.without.issuperset(plan.kinds(lane))]

    def lacking(self, lanes: Sequence[Lane], wanted: int) -> list[Kind]:
        kinds = [kind for lane in lanes for kind in plan.kinds(lane) if kind not in self.without]
        return [kind for kind in kinds if self.came[kind] < wanted]

    @property
    def seldom(self) -> list[Kind]:
        return self.lacking(self.lanes, plan.least(self.minutes))

    @property
    def tracebacks(self) -> int:
        """Of the proxy, in its log: something failed that nobody had thought of."""
        return sum(len(_TRACEBACK.findall(log)) for log in self.logs)

    @property
    def well(self) -> bool:
        return not (self.faults or self.leaks or self.seldom or self.tracebacks)

    def brief(self) -> str:
        requests, stale = self.answers["requests"], self.answers["STALE"]
        return f"{requests} requests, {self.came.total()} faults, {stale} stale, {len(self.faults)} wrong"

    def told(self) -> Iterator[str]:
        requests, stale = self.answers["requests"], self.answers["STALE"]
        verdicts = ", ".join(f"{self.answers[each]} {each}" for each in ("HIT", "STALE", "REVALIDATED", "MISS", "PASS"))
        statuses = ", ".join(f"{count} x {status or 'none'}" for status, count in sorted(self.statuses.items()))
        yield f"seed {self.seed}, {self.minutes:g} minutes: {requests} requests, {stale} of them answered stale"
        yield f"verdicts: {verdicts}"
        yield f"statuses: {statuses}; errors that had their cause: {self.answers['errors with a cause']}"
        yield f"faults injected: {self.came.total()}, each kind at least {plan.least(self.minutes)} times"
        yield from (f"  {self.came[kind]:6}  {kind.value}" for kind in Kind if kind not in self.without)
        yield from self.notes
        for what, found in (("wrong", self.faults), ("leaks", self.leaks)):
            yield f"{what}: {len(found)}"
            yield from (f"  {each}" for each in found[:SHOWN])
        yield f"tracebacks in the proxy's log: {self.tracebacks}"
        if self.seldom:
            yield "too seldom: " + ", ".join(kind.value for kind in self.seldom)
        yield "well" if self.well else "NOT WELL"
