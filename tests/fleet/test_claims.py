"""How long a member of a local fleet waits for its turn, in virtual time."""

from __future__ import annotations

import asyncio

import pytest

from proxy.fleet.claims import BOUND, Claims
from tests import virtual_time

PATIENCE = 3.0


async def granted(claims: Claims, told: list[str]) -> float:
    """Waits for a lease, and says when it was got."""

    async def hear(word: str) -> None:
        told.append(word)

    async with claims.lease("key", PATIENCE, hear):
        return asyncio.get_running_loop().time()


def test_patience_begins_anew_with_each_word() -> None:
    async def main() -> None:
        claims, told = Claims(), list[str]()
        claims.joined(lambda data: None)
        waiting = asyncio.create_task(granted(claims, told))
        await asyncio.sleep(0)
        claims.heard({"kind": "turn", "id": "0", "turn": "wait"})
        for word in ("one", "two", "three"):
            await asyncio.sleep(0.9 * PATIENCE)
            claims.heard({"kind": "word", "id": "0", "word": word})
        assert await waiting == pytest.approx(3 * 0.9 * PATIENCE + PATIENCE)
        assert told == ["one", "two", "three"]

    with virtual_time.running() as runner:
        runner.run(main())


def test_a_hub_that_says_nothing_is_waited_for_once() -> None:
    async def main() -> None:
        claims = Claims()
        claims.joined(lambda data: None)
        assert await granted(claims, []) == pytest.approx(BOUND)
        assert await granted(claims, []) == pytest.approx(BOUND), "it is known by now"

    with virtual_time.running() as runner:
        runner.run(main())


def test_who_has_no_hub_and_met_none_goes_on_at_once() -> None:
    async def main() -> None:
        assert await granted(Claims(), []) == 0.0

    with virtual_time.running() as runner:
        runner.run(main())
