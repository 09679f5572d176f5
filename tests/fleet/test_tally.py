"""Counters that add up over a local fleet, whoever dies."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from proxy.fleet import sums, tally
from proxy.fleet.local import LocalFleet
from proxy.fleet.messages import understood
from proxy.fleet.sums import Sums
from proxy.fleet.tally import Tally
from tests import virtual_time
from tests.waiting import happened

pytestmark = pytest.mark.anyio
SOON = 2.0


async def joined(directory: Path) -> LocalFleet:
    return await LocalFleet.opened(directory, lambda _: None, lambda: None)


async def test_every_member_tells_the_sum_of_all(tmp_path: Path) -> None:
    members = [await joined(tmp_path) for _ in range(3)]
    for number, member in enumerate(members):
        member.tally.add({"a": 1, f"b{number}": 0.5}, {})
        assert await member.tally.settled(SOON)
    total = {"a": 3, "b0": 0.5, "b1": 0.5, "b2": 0.5}
    for member in members:
        await member.tally.settled(SOON)
        assert member.tally.sum() == total
    late = await joined(tmp_path)
    assert await late.tally.settled(SOON)
    assert late.tally.sum() == total
    for member in (*members, late):
        await member.aclose()


def test_the_others_hear_of_a_count_within_a_second_unasked(tmp_path: Path) -> None:
    async def main() -> None:
        now = asyncio.get_running_loop().time
        one, other = await joined(tmp_path), await joined(tmp_path)
        begun = now()
        one.tally.add({"a": 1}, {})
        await happened(lambda: other.tally.sum() == {"a": 1})
        assert now() - begun <= 1.0
        await one.aclose()
        await other.aclose()

    with virtual_time.running() as runner:
        runner.run(main())


async def test_what_a_member_counted_stays_when_it_leaves_even_if_it_was_the_hub(tmp_path: Path) -> None:
    members = [await joined(tmp_path) for _ in range(4)]
    counted = 0
    while len(members) > 1:
        for member in members:
            member.tally.add({"a": 1}, {})
            counted += 1
            assert await member.tally.settled(SOON)
        await members.pop(0).aclose()  # who came first is the hub
        for member in members:
            assert await member.tally.settled(SOON)
            assert member.tally.sum() == {"a": counted}
    await members[0].aclose()


async def test_what_is_counted_while_there_is_no_hub_is_told_and_handed_over_once_there_is_one(tmp_path: Path) -> None:
    alone = Tally()
    alone.add({"a": 1}, {"full": 5})
    alone.add({"a": 2}, {"full": 6})
    assert not await alone.settled(0.01)
    assert (alone.sum(), alone.levels()) == ({"a": 3}, {"full": 6})
    said: list[bytes] = []
    alone.joined(said.append)
    assert [understood(line)["kind"] for line in said] == ["recall", "count"]
    assert understood(said[-1])["add"] == {"a": 3}


async def test_levels_are_summed_over_the_members_that_are_there(tmp_path: Path) -> None:
    members = [await joined(tmp_path) for _ in range(3)]
    for number, member in enumerate(members):
        member.tally.add({}, {"full": 10.0 + number})
        assert await member.tally.settled(SOON)
    assert members[2].tally.levels() == {"full": 33}
    members[2].tally.add({}, {"full": 2})
    assert await members[2].tally.settled(SOON)
    await members[1].aclose()
    await happened(lambda: members[0].tally.levels() == {"full": 12})
    await happened(lambda: members[2].tally.levels() == {"full": 12})
    for member in (members[0], members[2]):
        await member.aclose()


async def test_thousands_of_counters_travel_in_parts_that_a_line_holds(tmp_path: Path) -> None:
    one, other = await joined(tmp_path), await joined(tmp_path)
    many = {f"requests_total\tendpoint{number}\thit\t200": number + 0.5 for number in range(sums.CHUNK * 5 + 1)}
    one.tally.add(many, {})
    assert await one.tally.settled(SOON)
    late = await joined(tmp_path)
    for member in (one, other, late):
        assert await member.tally.settled(SOON)
        assert member.tally.sum() == many
        await member.aclose()


class Wire:
    """A hub's part and its members, by messages in the order of the test."""

    def __init__(self) -> None:
        self.hub: Sums[str] = Sums(lambda member, data: self.sent.setdefault(member, []).append(data))
        self.sent: dict[str, list[bytes]] = {}
        self.members: dict[str, Tally] = {}
        self.held: dict[str, list[bytes]] = {}

    def join(self, name: str, member: Tally) -> None:
        self.members[name] = member
        member.joined(self.held.setdefault(name, []).append)

    def upward(self, name: str) -> None:
        for line in self.held.pop(name, []):
            message = understood(line)
            (self.hub.recalled if message["kind"] == "recall" else self.hub.counted)(name, message)
        self.held[name] = []
        self.members[name]._write = self.held[name].append

    def downward(self, name: str) -> None:
        for data in self.sent.pop(name, []):
            for line in data.splitlines():
                assert self.members[name].heard(understood(line))

    def settle(self) -> None:
        for _ in range(3):
            for name in self.members:
                self.upward(name)
            self.hub._tell()
            for name in self.members:
                self.downward(name)


async def test_a_new_hub_counts_nothing_twice_that_the_old_one_had_passed_on() -> None:
    old, one, other = Wire(), Tally(), Tally()
    old.join("one", one)
    old.join("other", other)
    old.settle()
    one.add({"a": 5}, {})
    old.upward("one")
    old.hub._tell()
    old.downward("other")  # the hub dies before the first hears that it was heard
    for member in (one, other):
        member.parted()
    assert (one.sum(), other.sum()) == ({"a": 5}, {"a": 5})
    new = Wire()
    new.join("other", other)
    new.settle()
    new.join("one", one)
    new.settle()
    for member in (one, other):
        assert member.sum() == {"a": 5}
    assert await one.settled(0.0) or one._unheard


async def test_a_member_that_remembers_more_than_the_new_hub_raises_it_for_all() -> None:
    old, one, other = Wire(), Tally(), Tally()
    old.join("one", one)
    old.join("other", other)
    old.settle()
    one.add({"a": 5}, {})
    old.upward("one")
    old.hub._tell()
    old.downward("one")  # and the other never hears of it
    new = Wire()
    new.join("other", other)
    new.settle()
    other.add({"b": 1}, {})
    new.join("one", one)
    new.settle()
    for member in (one, other):
        assert member.sum() == {"a": 5, "b": 1}


async def test_a_newcomer_hears_nothing_twice_that_the_hub_had_not_told_yet() -> None:
    wire, one, other = Wire(), Tally(), Tally()
    wire.join("one", one)
    wire.settle()
    one.add({"a": 1}, {})
    wire.upward("one")  # in the sum, and told to nobody
    wire.join("other", other)
    wire.settle()
    assert (one.sum(), other.sum()) == ({"a": 1}, {"a": 1})


async def test_a_hub_that_does_not_answer_costs_a_bounded_number_of_messages() -> None:
    member, said = Tally(), []  # type: ignore[var-annotated]
    member.joined(said.append)
    for _ in range(tally.UNHEARD * 3):
        member.add({"a": 1}, {})
    assert len(said) == tally.UNHEARD + 1  # and what it remembers
    assert member.sum() == {"a": tally.UNHEARD * 3}


def test_what_is_no_number_is_no_counter() -> None:
    assert sums.numbers({"a": 1, "b": True, "c": "x", "d": None, "e": 0.5}) == {"a": 1, "e": 0.5}
    assert sums.numbers([1]) == {}


def test_the_hub_remembers_a_bounded_number_of_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sums, "SOURCES", 3)
    hub: Sums[str] = Sums(lambda member, data: None)
    for number in range(10):
        hub.counted("m", {"source": f"s{number}", "n": 1, "add": {"a": 1}, "now": True})
    assert len(hub._applied) == 3
