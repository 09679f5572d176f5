"""What a run consists of, as values: who does how much, and when crates.io has a bad hour. Nothing here runs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0


class Trouble(Enum):
    """What a bad hour is like. The values are for the report."""

    REFUSED = "connections refused"
    DARK = "no answer at all"
    UNAVAILABLE = "503"
    UNAVAILABLE_FOR = "503 with Retry-After"
    POLICY = "403, data access policy"


EVERYTHING = ("api", "index", "static")


@dataclass(frozen=True, slots=True)
class Outage:
    begins: float
    ends: float
    trouble: Trouble
    hosts: tuple[str, ...] = EVERYTHING


@dataclass(frozen=True, slots=True)
class Plan:
    """Times in seconds. `crates` is how many there are, `common` those of them that builds use.

    changes_a_day: new versions by other people, over all crates. tool_every, bot_every: between two beginnings of
    the tool that reads about all crates, and of the one that reads about the common ones. lanes: how many requests
    a tool has under way.
    """

    seconds: float
    seed: int = 1
    crates: int = 5000
    common: int = 300
    projects: int = 12
    project_crates: tuple[int, int] = (8, 24)
    jobs_an_hour: float = 25.0
    changes_a_day: float = 150.0
    tool_at: float = 2 * HOUR
    tool_every: float = DAY
    bot_every: float = 4 * HOUR
    lanes: int = 4
    searches_an_hour: float = 2.0
    pages_an_hour: float = 20.0
    publishes_a_day: float = 6.0
    outages: tuple[Outage, ...] = ()

    @property
    def lacking(self) -> float:
        """Seconds for which news may be kept from those who ask, where the budget has room for it: as long as the
        longest bad hour, of which the halves count apart, and twice what the budget takes to ask about all crates."""
        return 2 * max((one.ends - one.begins for one in self.outages), default=0.0) + 2 * self.crates


def week(seconds: float, seed: int) -> Plan:
    """Days. The bad hours meet the tool at work."""
    return Plan(seconds, seed, outages=outages(seconds))


def hours(seconds: float, seed: int) -> Plan:
    """Hours, or less: everything begins at once, and the tool has fewer crates, yet more than crates.io would bear."""
    crates = min(5000, max(900, round(seconds / 6)))
    return Plan(seconds, seed, crates=crates, tool_at=MINUTE, tool_every=seconds / 2, outages=outages(seconds))


def minutes(seconds: float, seed: int) -> Plan:
    """What real minutes hold: ten times as many jobs, a tool that asks for more than may be asked, then again."""
    return Plan(
        seconds,
        seed,
        crates=1000,
        common=120,
        projects=8,
        jobs_an_hour=250.0,
        changes_a_day=150.0 * 20,
        tool_at=seconds / 30,
        tool_every=seconds,
        bot_every=seconds / 4,
        searches_an_hour=60.0,
        pages_an_hour=200.0,
        publishes_a_day=600.0,
        outages=outages(seconds),
    )


def outages(seconds: float) -> tuple[Outage, ...]:
    """Three: down, 503, 403. On the third, fourth and fifth day of a week, at three in the morning."""
    whole = seconds >= 6 * DAY
    length = HOUR if whole else seconds / 12
    down, unavailable, policy = (
        (2 * DAY + 3 * HOUR, 3 * DAY + 3 * HOUR, 4 * DAY + 3 * HOUR)
        if whole
        else (seconds * 0.45, seconds * 0.65, seconds * 0.85)
    )
    half = length / 2
    return (
        Outage(down, down + half, Trouble.REFUSED),
        Outage(down + half, down + length, Trouble.DARK),
        Outage(unavailable, unavailable + half, Trouble.UNAVAILABLE),
        Outage(unavailable + half, unavailable + length, Trouble.UNAVAILABLE_FOR),
        Outage(policy, policy + length, Trouble.POLICY, ("api",)),
    )
