"""What one measurement gives, and what many of them come to: medians of ratios, never ratios of medians."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Sample:
    """`value` in the case's unit. `micros`: CPU microseconds of the server for each request; `busy` and `load`: the
    share of their cores that server and load generator used; `p99` in milliseconds."""

    value: float
    micros: float
    busy: float
    load: float
    p99: float


Rounds = Mapping[str, Sequence[Sample]]
"""For each server the samples of the rounds, in their order."""


def middle(rounds: Sequence[Sample]) -> Sample:
    """The median of each figure by itself."""
    return Sample(
        median(each.value for each in rounds),
        median(each.micros for each in rounds),
        median(each.busy for each in rounds),
        median(each.load for each in rounds),
        median(each.p99 for each in rounds),
    )


def ratio(rounds: Rounds, ours: str, theirs: str) -> float:
    """How many times their value ours is: the median over the rounds, in which both had the same neighbours."""
    return median(a.value / b.value for a, b in zip(rounds[ours], rounds[theirs], strict=True))


def saving(rounds: Rounds, ours: str, theirs: str) -> float:
    """How many times our CPU time a request theirs is."""
    return median(b.micros / max(a.micros, 1e-9) for a, b in zip(rounds[ours], rounds[theirs], strict=True))
