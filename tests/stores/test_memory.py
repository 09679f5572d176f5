from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy.model import Selection
from proxy.stores.memory import Memory


def test_what_was_put_is_the_very_object() -> None:
    memory: Memory[object] = Memory(1000)
    value = object()
    memory.put("crate serde", value, 10, "serde")
    assert memory.get("crate serde") is value
    assert memory.get("crate rand") is None
    assert (memory.bytes, memory.entries) == (10, 1)


def test_the_least_recently_used_goes_first() -> None:
    memory: Memory[int] = Memory(80)
    for n in range(8):
        memory.put(f"crate {n}", n, 10, str(n))
    memory.get("crate 0")
    memory.put("crate 8", 8, 10, "8")
    assert memory.get("crate 1") is None
    assert [memory.get(f"crate {n}") for n in (0, 2, 8)] == [0, 2, 8]
    assert memory.bytes == 80


def test_an_object_may_weigh_an_eighth_of_the_bound_and_no_more() -> None:
    memory: Memory[int] = Memory(80)
    memory.put("crate a", 1, 10, "a")
    memory.put("crate b", 1, 11, "b")
    assert (memory.get("crate a"), memory.get("crate b")) == (1, None)


def test_an_object_too_large_replaces_what_was_there() -> None:
    memory: Memory[int] = Memory(80)
    memory.put("crate a", 1, 10, "a")
    memory.put("crate a", 2, 11, "a")
    assert memory.get("crate a") is None
    assert memory.bytes == 0


def test_a_bound_of_nothing_keeps_nothing() -> None:
    memory: Memory[int] = Memory(0)
    memory.put("crate a", 1, 0, "a")
    assert memory.get("crate a") is None


def test_a_purge_takes_its_selection_and_nothing_else() -> None:
    selections = {
        Selection(crate="serde"): {"crate serde", "versions serde"},
        Selection(crate="rand"): set(),
        Selection(endpoint="crate"): {"crate serde", "crate anyhow"},
        Selection(endpoint="crat"): set(),
        Selection(crate="serde", endpoint="crate"): {"crate serde"},
        Selection(): {"crate serde", "versions serde", "crate anyhow", "search q=serde"},
    }
    for selection, taken in selections.items():
        memory: Memory[int] = Memory(1000)
        for key, tag in (("crate serde", "serde"), ("versions serde", "serde"), ("crate anyhow", "anyhow")):
            memory.put(key, 1, 10, tag)
        memory.put("search q=serde", 1, 10, "")
        assert memory.purge(selection) == len(taken)
        assert {key for key in taken if memory.get(key)} == set()
        assert memory.entries == 4 - len(taken)
        assert memory.bytes == 10 * memory.entries
        assert memory.purge(selection) == 0


def test_a_key_whose_tag_changed_is_purged_by_its_last_one() -> None:
    memory: Memory[int] = Memory(1000)
    memory.put("crate a", 1, 10, "a")
    memory.put("crate a", 2, 10, "b")
    assert memory.purge(Selection(crate="a")) == 0
    assert memory.purge(Selection(crate="b")) == 1


def test_cleared_it_is_empty() -> None:
    memory: Memory[int] = Memory(1000)
    memory.put("crate a", 1, 10, "a")
    memory.clear()
    assert (memory.get("crate a"), memory.bytes, memory.entries) == (None, 0, 0)
    assert memory.purge(Selection(crate="a")) == 0


STEPS = st.lists(st.tuples(st.sampled_from(["put", "get", "delete", "purge"]), st.integers(0, 9), st.integers(0, 30)))


@given(STEPS)
def test_the_bytes_are_always_those_of_what_it_holds(steps: list[tuple[str, int, int]]) -> None:
    memory: Memory[int] = Memory(100)
    sizes: dict[int, int] = {}
    for what, n, size in steps:
        match what:
            case "put":
                memory.put(f"crate {n}", n, size, str(n % 3))
                sizes[n] = size
            case "get":
                memory.get(f"crate {n}")
            case "delete":
                memory.delete(f"crate {n}")
            case _:
                memory.purge(Selection(crate=str(n % 3)))
        held = [n for n in sizes if memory.get(f"crate {n}") is not None]
        assert memory.bytes == sum(sizes[n] for n in held) <= 100
        assert memory.entries == len(held)
