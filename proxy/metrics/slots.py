"""Sums of the last hours and days by slots of time: how finely, how long, and in which form they are written.

Pure: the time is an argument, and where the rows lie is not known here. A row holds {name: {field: sum}}.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

import orjson

Sums = dict[str, dict[str, int]]
"""By name (of an endpoint or a crate) and field."""


@dataclass(frozen=True, slots=True)
class Family:
    """Rows of one kind. `seconds`: what one of them covers; `keep`: how many are kept; `names`: how many one may hold,
    the largest by the field `by` first."""

    name: str
    seconds: int
    keep: int
    names: int
    by: str

    def number(self, now: float) -> int:
        return int(now // self.seconds)

    def oldest(self, now: float) -> int:
        """The first that is kept."""
        return self.number(now) - self.keep + 1

    def begun(self, number: int) -> int:
        """When the slot began, in seconds since the epoch."""
        return number * self.seconds


REQUESTS, BYTES = "requests", "bytes"

# Endpoints are some thirty. What happens now is seen by the minute, some hours and days by as many points as a line can
# show. What a day's builds fetch are some hundred crates; of the rest it is enough to know that they are not the most.
MINUTES = Family("minute", 60, 10, 64, "served")
HOURS = Family("hours", 300, 6 * 12, 64, "served")
DAYS = Family("days", 1800, 2 * 48, 64, "served")
CRATES = Family("crates", 3 * 3600, 9, 500, REQUESTS)


_MOST = 2**62  # what is written has 64 bits, and grows


def unpacked(row: bytes) -> Sums:
    """The sums of a row; none for one that was not written here."""
    try:
        found = orjson.loads(row) if row else {}
        sums = {str(name): {str(field): int(value) for field, value in each.items()} for name, each in found.items()}
        return sums if all(abs(value) < _MOST for each in sums.values() for value in each.values()) else {}
    except (ValueError, TypeError, AttributeError):
        return {}


def added(row: bytes, more: Sums, family: Family) -> bytes:
    """The row with more in it."""
    there = unpacked(row)
    add(there, more)
    return orjson.dumps(bounded(there, family))


def bounded(sums: Sums, family: Family) -> Sums:
    """As many names as a row of the family may hold: the smallest are forgotten."""
    if len(sums) <= family.names:
        return sums
    largest = sorted(sums, key=lambda name: -sums[name].get(family.by, 0))
    return {name: sums[name] for name in largest[: family.names]}


def add(there: Sums, more: Mapping[str, Mapping[str, int]]) -> None:
    for name, sums in more.items():
        fields = there.setdefault(name, {})
        for field, value in sums.items():
            fields[field] = fields.get(field, 0) + value


def line(rows: Mapping[int, Sums], family: Family, now: float) -> Iterator[tuple[int, Sums]]:
    """Every slot that is kept, the oldest first: when it began, and its sums."""
    for number in range(family.oldest(now), family.number(now) + 1):
        yield family.begun(number), rows.get(number, {})


def day_begun(day: str) -> int:
    """When a day (UTC) of the savings began, in seconds since the epoch."""
    return int(datetime.fromisoformat(f"{day}T00:00:00+00:00").timestamp())
