"""The hub's table of leases, by itself: who asks, what the hub says, in order."""

from __future__ import annotations

import json

import pytest

from proxy.fleet.leases import Leases


class Table:
    def __init__(self, *, settling: bool = False) -> None:
        self._said: list[tuple[str, str, str]] = []
        self.leases: Leases[str] = Leases(self._send, settling=settling)

    def _send(self, member: str, data: bytes) -> None:
        message = json.loads(data)
        self._said.append((member, message["id"], message.get("turn") or message["word"]))

    def ask(self, member: str, number: str = "1", *, held: bool = False, key: str = "key") -> None:
        self.leases.asked(member, {"id": number, "key": key, "held": held})

    def release(self, member: str, number: str = "1", *, done: bool = False) -> None:
        self.leases.released(member, {"id": number, "done": done})

    def said(self) -> list[tuple[str, str, str]]:
        """What was said since the last time."""
        said, self._said = self._said, []
        return said


def test_turns_go_by_the_order_of_asking() -> None:
    table = Table()
    for member in "abc":
        table.ask(member)
    assert table.said() == [("a", "1", "held"), ("b", "1", "wait"), ("c", "1", "wait")]
    table.release("a")
    assert table.said() == [("b", "1", "held")]
    table.leases.gone("b")
    assert table.said() == [("c", "1", "held")]
    table.release("c")
    assert table.said() == [] and len(table.leases) == 0


def test_what_is_done_is_done_for_all_and_nobody_holds_it() -> None:
    table = Table()
    for member, number in (("a", "1"), ("a", "2"), ("b", "1")):
        table.ask(member, number)
    table.said()
    table.release("a", done=True)
    assert table.said() == [("a", "2", "done"), ("b", "1", "done")]
    assert len(table.leases) == 0
    table.release("a", "2")
    table.release("b", done=True)
    table.ask("c")
    assert table.said() == [("c", "1", "held")]


def test_who_leaves_the_queue_or_dies_in_it_gets_no_turn() -> None:
    table = Table()
    for member in "abcd":
        table.ask(member)
    table.release("b", done=True)  # It held nothing, so nothing is done.
    table.leases.gone("c")
    table.said()
    table.release("a")
    assert table.said() == [("d", "1", "held")]


def test_words_are_for_those_who_wait_and_the_last_one_for_those_who_come() -> None:
    table = Table()
    table.ask("a")
    table.ask("b")
    table.said()
    for word in ("one", "two"):
        table.leases.told("a", {"id": "1", "word": word})
    table.leases.told("b", {"id": "1", "word": "not its turn"})
    assert table.said() == [("b", "1", "one"), ("b", "1", "two")]
    table.ask("c")
    assert table.said() == [("c", "1", "wait"), ("c", "1", "two")]
    table.release("a")
    table.ask("d")  # What the next holder has to say is not said yet.
    assert table.said() == [("b", "1", "held"), ("d", "1", "wait")]


def test_a_hub_that_takes_over_waits_for_those_who_hold_a_lease() -> None:
    table = Table(settling=True)
    table.ask("b")
    table.ask("c", key="other")
    table.ask("d", key="other")
    table.ask("a", held=True)
    table.leases.gone("c")
    assert table.said() == [("b", "1", "wait"), ("c", "1", "wait"), ("d", "1", "wait"), ("a", "1", "held")]
    table.leases.settled()
    assert table.said() == [("d", "1", "held")]
    table.release("a")
    assert table.said() == [("b", "1", "held")]


def test_of_two_who_hold_the_same_one_waits_without_harm() -> None:
    table = Table()
    table.ask("a")
    table.ask("b", held=True)
    table.release("a")
    assert table.said() == [("a", "1", "held"), ("b", "1", "wait"), ("b", "1", "held")]
    table.release("b")
    assert len(table.leases) == 0


@pytest.mark.parametrize(
    "message",
    [{}, {"id": 1, "key": "key", "held": False}, {"id": "1", "held": False}, {"id": "1", "key": "key"}],
    ids=repr,
)
def test_words_that_make_no_sense_change_nothing(message: dict[str, object]) -> None:
    table = Table()
    for hear in (table.leases.asked, table.leases.told, table.leases.released):
        hear("a", message)
    table.leases.gone("a")
    assert table.said() == [] and len(table.leases) == 0
