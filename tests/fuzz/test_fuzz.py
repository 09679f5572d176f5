"""Each target for a moment, always with the same dice, and with whatever was found before."""

from __future__ import annotations

from random import Random

import pytest

from tests.fuzz import mutating
from tests.fuzz.findings import FINDINGS
from tests.fuzz.targets import TARGETS

# How many inputs each gets: about a second's worth.
TRIES = {"request": 2000, "upstream": 200, "stored": 150, "database": 20, "archive": 5, "zstd": 300}
OTHERS = 10_000


@pytest.mark.parametrize("name", TARGETS)
def test_whatever_the_bytes_are_nothing_breaks(name: str) -> None:
    target, dice = TARGETS[name], Random(name)
    seeds = target.seeds()
    with target.opened() as tried:
        for data in (*seeds, *FINDINGS.get(name, ())):
            tried(data)
        for _ in range(TRIES.get(name, OTHERS)):
            tried(mutating.mutated(seeds, dice))
