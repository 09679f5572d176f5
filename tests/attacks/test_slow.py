"""The four attacks of slowhttptest in short: whoever is slow does so at nobody's expense. `slow` as a program
plays them longer and holds the figures; how long a request takes here says more about what else this machine does.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest

from tests.attacks import slow
from tests.attacks.slow import ATTACKS, Attack, Target


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    if shutil.which(slow.PROGRAM) is None:
        if os.environ.get("CI") == "true":
            pytest.fail("no slowhttptest: install it with the system's packages")
        pytest.skip("no slowhttptest: install it with the system's packages")
    with slow.target(tmp_path_factory.mktemp("slow") / "proxy") as running:
        yield running


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_nobody_waits_for_the_slow(attack: Attack, found: Target) -> None:
    result = slow.played(found, attack, connections=200, seconds=2)
    assert result.under.wrong == []
    assert result.connected > 20 or attack.options[0] == "-R", "it was an attack"  # those are answered and gone
    # Half of the requests take what they took before, but for what a busy machine makes of it.
    assert result.under.median < 20 * result.calm.median + 0.1
