"""Which faults there are, how often each has to come, and in which order. Pure, but for the dice that it is given."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

FULL_MINUTES = 30.0
LEAST = 20
"""How often each kind comes in the full form at least; in a shorter one in proportion, and never not at all."""


class Lane(StrEnum):
    """What happens one at a time; the lanes go on side by side."""

    MACHINE = "machine"
    WAY = "way to crates.io"
    SHARED = "Redis"
    CLIENT = "clients"


class Kind(StrEnum):
    """Kinds of faults, in the words of the report."""

    WORKER_KILLED = "worker killed -9"
    SERVER_KILLED = "server killed -9"
    SERVER_STOPPED = "SIGTERM under load"
    RELOADED = "SIGHUP"
    DISK_FULL = "disk full"
    BIT_ROT = "bit rot in a tarball"
    FILE_CUT = "stored tarball cut short"
    READ_ERROR = "read error of a tarball"
    DATABASE_CORRUPTED = "database corrupted"
    DATABASE_CUT = "database cut short"
    CLOCK_FORWARD = "clock an hour ahead"
    CLOCK_BACK = "clock an hour back"
    NO_DESCRIPTORS = "no descriptors left"

    CUT_IN_HEAD = "upstream cut in the head"
    CUT_AT_START = "upstream cut before the body"
    CUT_IN_MIDDLE = "upstream cut in the middle"
    CUT_AT_LAST_BYTE = "upstream cut at the last byte"
    CUT_AT_LAST_CHUNK = "upstream cut at the last chunk"
    STALLED = "upstream stalled"
    STALLED_IN_BODY = "upstream stalled in the body"
    LATE = "upstream late"
    SLOW = "upstream slow"
    RESET = "upstream reset"
    RESET_IN_BODY = "upstream reset in the body"
    TWO_LENGTHS = "upstream sent two lengths"
    TOO_LONG = "upstream promised more"
    TOO_SHORT = "upstream promised less"
    SURPLUS = "upstream sent more behind"
    GARBAGE = "upstream sent garbage"
    ENDLESS = "upstream sent without end"
    BOMB = "upstream sent a gzip bomb"
    CORRUPT = "upstream flipped a byte"
    ERROR = "upstream failed with 5xx"
    LIMITED = "upstream answered 429"
    OUTAGE = "upstream refused"

    REDIS_REFUSED = "Redis refused"
    REDIS_HUNG = "Redis hung"
    REDIS_KILLED = "Redis killed"
    REDIS_FAILED_OVER = "Redis failed over"
    REDIS_FULL = "Redis out of memory"
    REDIS_WRONG = "Redis gave another key's value"

    CLIENT_LEFT = "client left"


LANES = {
    **dict.fromkeys([kind for kind in Kind if kind not in Lane], Lane.WAY),
    **dict.fromkeys(list(Kind)[: list(Kind).index(Kind.CUT_IN_HEAD)], Lane.MACHINE),
    **{kind: Lane.SHARED for kind in Kind if kind.value.startswith("Redis")},
    Kind.CLIENT_LEFT: Lane.CLIENT,
}
DEADLY = frozenset((Kind.WORKER_KILLED, Kind.SERVER_KILLED, Kind.SERVER_STOPPED))
"""After these a process is not the same any more: whatever it leaked is gone with it."""


def least(minutes: float) -> int:
    return max(1, math.floor(LEAST * minutes / FULL_MINUTES))


def kinds(lane: Lane) -> list[Kind]:
    return [kind for kind in Kind if LANES[kind] is lane]


def order(lane: Lane, dice: random.Random, without: frozenset[Kind] = frozenset()) -> Iterator[Kind]:
    """The kinds of a lane without end, in ever new order: after a time each has come as often as the others."""
    bag = [kind for kind in kinds(lane) if kind not in without]
    while True:
        dice.shuffle(bag)
        yield from bag


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds. `living`: the end of the run, in which no process is killed, to see what one gathers over time."""

    minutes: float

    @property
    def whole(self) -> float:
        return self.minutes * 60

    @property
    def living(self) -> float:
        return self.whole / 5

    def slot(self, lane: Lane, seconds: float) -> float:
        """Seconds for one fault, so that each comes often enough in so many seconds."""
        return seconds / (len(kinds(lane)) * (least(self.minutes) * 1.1 + 1))
