"""What every fleet keeps about leases. Its members are processes, and die like processes.

Where a test says nothing else, all who wait do so for an hour: they get what they get because it is their turn.
"""

from __future__ import annotations

import signal
import time

import pytest

from tests.fleet.member import Member, Spawn
from tests.redis_server import RedisServer
from tests.waiting import WITHIN, until

SOON = 10.0
"""Seconds that the few for which a dead or silent one holds the others up may become on a busy machine."""


def opened(spawn: Spawn, medium: tuple[str, str], count: int, *, bounded: bool = False) -> list[Member]:
    """Where members need one to pass things on, it is the first."""
    members = [spawn(*medium, bounded=bounded)]
    members[0].until("open", state="ok")
    members += [spawn(*medium, bounded=bounded) for _ in range(count - 1)]
    for member in members[1:]:
        member.until("open", state="ok")
    return members


def waits_for_nobody(member: Member) -> None:
    """From now on it gets leases that nobody has without a wait."""
    member.unbound()
    for name in ("alone", "alone again"):
        member.lease(name, name)
        member.until("leased", name=name)


def waiting(*members: Member) -> None:
    """Returns when whatever these members were ordered before has been said to the fleet."""
    for member in members:
        member.announce("nothing")
        member.until("announced")


def first_of(one: Member, other: Member, within: float = WITHIN) -> tuple[Member, Member]:
    """The one of two that gets a lease, and the one that has none."""
    until(lambda: one.leased() + other.leased(), within)
    waiting(one, other)
    assert len(one.leased() + other.leased()) == 1
    return (one, other) if one.leased() else (other, one)


def test_the_first_has_it_at_once_and_the_others_in_turn(medium: tuple[str, str], spawn: Spawn) -> None:
    first, second, third = opened(spawn, medium, 3)
    waits_for_nobody(first)
    first.events.clear()
    first.lease("a")
    first.until("leased")
    second.lease("b")
    third.lease("c")
    waiting(second, third)
    assert second.leased() == third.leased() == []
    first.release("a")
    first.until("released")
    holder, other = first_of(second, third)
    holder.release(holder.leased()[0])
    assert other.until("leased")


def test_one_member_is_many_who_wait(medium: tuple[str, str], spawn: Spawn) -> None:
    (member,) = opened(spawn, medium, 1)
    member.lease("a")
    member.until("leased", name="a")
    member.lease("b")
    waiting(member)
    assert member.leased() == ["a"]
    member.release("a")
    member.until("leased", name="b")


def test_other_keys_are_other_leases_however_long_they_are(medium: tuple[str, str], spawn: Spawn) -> None:
    first, second = opened(spawn, medium, 2)
    long = "k" * 40_000
    first.lease("a", long + "1")
    first.until("leased")
    second.lease("b", long + "2")
    second.until("leased")


def test_what_is_done_wakes_all_at_once(medium: tuple[str, str], spawn: Spawn) -> None:
    first, second, third = opened(spawn, medium, 3)
    first.lease("a")
    first.until("leased")
    for member in (second, third):
        member.lease("crowd", times=100)
        waiting(member)
        assert member.leased() == []
    first.release("a", done=True)
    for member in (second, third):
        for _ in range(100):  # None of them gives it back.
            member.until("leased")


def test_a_crowd_takes_turns_where_nothing_was_done(medium: tuple[str, str], spawn: Spawn) -> None:
    first, second, third = opened(spawn, medium, 3)
    first.lease("a")
    first.until("leased")
    for member in (second, third):
        member.lease("crowd", times=100, at_once=True)
        waiting(member)
    first.release("a")
    for member in (second, third):
        for _ in range(100):
            member.until("released")


def test_who_has_waited_long_enough_goes_on_alone(medium: tuple[str, str], spawn: Spawn) -> None:
    first, second = opened(spawn, medium, 2)
    first.lease("a")
    first.until("leased")
    second.lease("b", patience=0.5)
    assert 0.4 < second.until("leased")["seconds"] < SOON
    second.release("b")  # That is not the lease of the first.
    second.until("released")
    second.lease("c")
    waiting(second)
    assert second.leased() == ["b"]
    first.release("a")
    second.until("leased", name="c")


def test_who_leaves_the_queue_is_not_waited_for(medium: tuple[str, str], spawn: Spawn) -> None:
    first, second, third = opened(spawn, medium, 3)
    first.lease("a")
    first.until("leased")
    second.lease("b")
    waiting(second)
    third.lease("c")
    waiting(third)
    second.cancel("b")
    waiting(second)
    first.release("a")
    third.until("leased")


def test_a_holder_that_is_killed_holds_the_others_up_for_a_bounded_time(medium: tuple[str, str], spawn: Spawn) -> None:
    hub, holder, second, third = opened(spawn, medium, 4)
    holder.lease("a")
    holder.until("leased")
    for member in (second, third):
        member.lease("b")
        waiting(member)
    holder.signal(signal.SIGKILL)
    holder.process.wait()
    first, other = first_of(second, third, SOON)
    first.release("b", done=True)
    other.until("leased")


def test_a_waiter_that_is_killed_is_passed_over(medium: tuple[str, str], spawn: Spawn) -> None:
    hub, holder, second, third = opened(spawn, medium, 4)
    holder.lease("a")
    holder.until("leased")
    for member in (second, third):
        member.lease("b")
        waiting(member)
    second.signal(signal.SIGKILL)
    second.process.wait()
    holder.release("a")
    third.until("leased", SOON)


def test_a_long_lease_stays_one(medium: tuple[str, str], spawn: Spawn) -> None:
    """Longer than a lease lasts that is not renewed."""
    first, second = opened(spawn, medium, 2)
    first.lease("a")
    first.until("leased")
    second.lease("b")
    time.sleep(4.0)
    waiting(second)
    assert second.leased() == []
    first.release("a")
    second.until("leased")


def test_words_are_heard_by_those_who_wait_and_those_who_come(tmp_path: object, spawn: Spawn) -> None:
    first, second, third = opened(spawn, ("local", str(tmp_path)), 3)
    first.lease("a")
    first.until("leased")
    second.lease("b")
    waiting(second)
    first.tell("a", "one")
    second.until("word", word="one")
    third.lease("c")
    third.until("word", word="one")
    for _ in range(3):
        first.tell("a", "two")
        second.until("word", word="two")
        third.until("word", word="two")  # of several words that wait for it only the last would count
    assert second.leased() == []
    first.release("a")
    second.until("leased")
    second.release("b")
    third.until("leased")
    assert [event["word"] for event in third.events if event["what"] == "word"] == ["one", "two", "two", "two"]


@pytest.mark.parametrize("holds", [True, False])
def test_a_hub_that_is_killed_takes_no_lease_along_but_its_own(tmp_path: object, spawn: Spawn, holds: bool) -> None:
    hub = spawn("local", str(tmp_path))
    hub.until("open", state="ok")
    holder, second, third = opened(spawn, ("local", str(tmp_path)), 3)
    if holds:
        holder = hub
    holder.lease("a")
    holder.until("leased")
    for member in (second, third):
        member.lease("b")
        waiting(member)
    hub.signal(signal.SIGKILL)
    hub.process.wait()
    for member in (second, third):
        member.until("lost")
        member.until("lost")
    if holds:
        first_of(second, third, SOON)
        return
    time.sleep(0.6)  # The next hub would have granted by now what nobody holds.
    waiting(second, third)
    assert second.leased() == third.leased() == []
    holder.release("a", done=True)
    second.until("leased")
    third.until("leased")


def test_a_hub_that_hangs_holds_nobody_up_for_long(tmp_path: object, spawn: Spawn) -> None:
    hub = spawn("local", str(tmp_path))
    hub.until("open", state="ok")
    (member,) = opened(spawn, ("local", str(tmp_path)), 1, bounded=True)
    hub.signal(signal.SIGSTOP)
    member.lease("a")
    assert member.until("leased")["seconds"] < SOON
    waits_for_nobody(member)  # Once is enough to know it.
    hub.signal(signal.SIGCONT)
    member.release("a")
    member.until("released", name="a")
    waiting(member)
    hub.lease("d", "other")
    hub.until("leased", name="d")
    member.lease("e", "other")
    waiting(member)
    assert "e" not in member.leased()
    hub.release("d")
    member.until("leased", name="e")


def test_who_never_met_anybody_is_alone_at_once(tmp_path: object, spawn: Spawn) -> None:
    member = spawn("local", f"{tmp_path}/missing", bounded=True)
    assert member.until("open")["state"] == "degraded"
    waits_for_nobody(member)


def test_without_redis_everyone_is_alone_at_once(own_redis: RedisServer, spawn: Spawn) -> None:
    first, second = opened(spawn, ("redis", own_redis.url), 2)
    first.lease("a")
    first.until("leased")
    second.lease("b")
    waiting(second)
    own_redis.kill()
    second.until("leased")
    waits_for_nobody(second)
    own_redis.start()
    for member in (first, second):
        while [event["what"] for event in member.events].count("lost") < 2:
            member.until("lost")
    first.lease("d", "other")
    first.until("leased", name="d")
    second.lease("e", "other")
    waiting(second)
    assert "e" not in second.leased()
    first.release("d", done=True)
    second.until("leased", name="e")


def test_a_redis_that_hangs_holds_nobody_up_for_long(own_redis: RedisServer, spawn: Spawn) -> None:
    first, second = opened(spawn, ("redis", own_redis.url), 2, bounded=True)
    first.lease("a")
    first.until("leased")
    second.lease("b", times=50)
    waiting(second)
    own_redis.hang()
    for _ in range(50):
        second.until("leased", SOON)
    first.release("a")
    first.until("released")
    own_redis.resume()
