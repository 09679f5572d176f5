"""What is to be held, as a table, and whether it was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tests.bench.samples import Rounds, middle, ratio, saving
from tests.bench.stage import EMPTY, NGINX, TUNED

# Below this share of its core a server was waiting for something else: for the load, or for who shares the core.
_SATURATED = 0.9
_WAITS = ("cold", "crowd", "fetch")
"""Cases that wait for upstream or for cargo by their nature, so that only time tells."""


@dataclass(frozen=True, slots=True)
class Target:
    """A bound of the ratio to `against`, or where that is empty, of the figure of that name."""

    case: str
    against: str
    bound: float
    at_least: bool = True


@dataclass(frozen=True, slots=True)
class Judged:
    """`by`: what was compared, "rate", "CPU" where a rate was not the server's own doing, or a unit."""

    target: Target
    value: float
    by: str

    @property
    def holds(self) -> bool:
        return self.value >= self.target.bound if self.target.at_least else self.value <= self.target.bound


@dataclass(frozen=True, slots=True)
class Figure:
    """Something measured that is no comparison with a peer."""

    name: str
    title: str
    value: float
    unit: str


TARGETS = (
    *(
        Target(case, against, bound)
        for case in ("json", "index")
        for against, bound in ((NGINX, 1.5), (TUNED, 1.25), (EMPTY, 0.75))
    ),
    *(
        Target(case, against, bound)
        for case, bound in (("unchanged", 1.5), ("small", 1.2), ("large", 1.0), ("job", 1.2), ("cold", 0.9))
        for against in (NGINX, TUNED)
    ),
    *(Target("fetch", against, 1.02, at_least=False) for against in (NGINX, TUNED)),
    Target("ready", "", 1.0, at_least=False),
    Target("rest", "", 90.0, at_least=False),
    Target("slow-readers", "", 32.0, at_least=False),
    Target("workers", "", 1.1, at_least=False),
    Target("growth-memory", "", 1.1, at_least=False),
    Target("growth-store", "", 1.5, at_least=False),
)


def judged(results: Mapping[str, Rounds], figures: Mapping[str, Figure]) -> list[Judged]:
    """Each target of which there is a measurement."""
    found = []
    for target in TARGETS:
        if target.against and target.case in results:
            found.append(_compared(target, results[target.case]))
        elif not target.against and target.case in figures:
            figure = figures[target.case]
            found.append(Judged(target, figure.value, figure.unit))
    return found


def _compared(target: Target, rounds: Rounds) -> Judged:
    """Where both had their core to themselves, by rate; else by what a request cost them."""
    ours = next(iter(rounds))
    saturated = min(middle(rounds[name]).busy for name in (ours, target.against)) >= _SATURATED
    if saturated or target.case in _WAITS:
        return Judged(target, ratio(rounds, ours, target.against), "rate")
    return Judged(target, saving(rounds, ours, target.against), "CPU")
