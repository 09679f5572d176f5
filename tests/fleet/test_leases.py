"""What every fleet keeps about leases. Its members are processes, and die like processes."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import pytest

from tests.fleet.member import Member
from tests.redis_server import RedisServer

Spawn = Callable[[str, str], Member]
SOON = 5.0
"""Seconds in which even a busy machine comes to it: much less than the patience of those who wait for another."""
FREED = 5.0
"""Seconds for which a member that was killed holds the others up, at most."""
UNMET = 1.0
"""Seconds that somebody waits for a fleet which does not answer."""


def opened(spawn: Spawn, medium: tuple[str, str], count: int) -> list[Member]:
    """Where members need one to pass things on, it is the first."""
    members = [spawn(*medium)]
    members[0].until("open", 20.0, state="ok")
    members += [spawn(*medium) for _ in range(count - 1)]
    for member in members[1:]:
        member.until("open", 20.0, state="ok")
    return members


def waits_for_nobody(member: Member) -> None:
    """It gets leases that nobody has without a wait, as several in a row show on a busy machine, too."""
    seconds = 0.0
    for number in range(6):
        name = f"alone {number}"
        member.lease(name, name)
        seconds += member.until("leased", 10.0, name=name)["seconds"]
    assert seconds < 5 * UNMET


def waiting(*members: Member) -> None:
    """Returns when whatever these members were ordered before has been said to the fleet."""
    for member in members:
        member.announce("nothing")
        member.until("announced")


def first_of(one: Member, other: Member, seconds: float) -> tuple[Member, Member]:
    """The one of two that gets a lease, and the one that has none."""
    end = time.monotonic() + seconds
    while not one.leased() + other.leased():
        assert time.monotonic() < end, "neither has got a lease"
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
    holder, other = first_of(second, third, SOON)
    holder.release(holder.leased()[0])
    assert other.until("leased", SOON)


def test_one_member_is_many_who_wait(medium: tuple[str, str], spawn: Spawn) -> None:
    (member,) = opened(spawn, medium, 1)
    member.lease("a")
    member.until("leased", name="a")
    member.lease("b")
    waiting(member)
    assert member.leased() == ["a"]
    member.release("a")
    member.until("leased", SOON, name="b")


def test_other_keys_are_other_leases_however_long_they_are(medium: tuple[str, str], spawn: Spawn) -> None:
    first, second = opened(spawn, medium, 2)
    long = "k" * 40_000
    first.lease("a", long + "1")
    first.until("leased")
    second.lease("b", long + "2")
    assert second.until("leased")["seconds"] < SOON


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
            member.until("leased", SOON)


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
            member.until("released", 10.0)


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
    second.until("leased", SOON, name="c")


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
    third.until("leased", SOON)


def test_a_holder_that_is_killed_holds_the_others_up_for_a_bounded_time(medium: tuple[str, str], spawn: Spawn) -> None:
    hub, holder, second, third = opened(spawn, medium, 4)
    holder.lease("a")
    holder.until("leased")
    for member in (second, third):
        member.lease("b")
        waiting(member)
    holder.signal(signal.SIGKILL)
    holder.process.wait()
    first, other = first_of(second, third, FREED)
    first.release("b", done=True)
    other.until("leased", SOON)


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
    third.until("leased", FREED)


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
    second.until("leased", SOON)


def test_words_are_heard_by_those_who_wait_and_those_who_come(tmp_path: object, spawn: Spawn) -> None:
    first, second, third = opened(spawn, ("local", str(tmp_path)), 3)
    first.lease("a")
    first.until("leased")
    second.lease("b", patience=3.0)
    waiting(second)
    first.tell("a", "one")
    second.until("word", SOON, word="one")
    third.lease("c")
    third.until("word", SOON, word="one")
    for _ in range(3):  # Patience begins anew with each word.
        time.sleep(1.1)
        first.tell("a", "two")
        second.until("word", SOON, word="two")
    assert second.leased() == []
    first.release("a")
    second.until("leased", SOON)
    second.release("b")
    third.until("leased", SOON)
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
        first_of(second, third, FREED)
        return
    time.sleep(0.6)  # The next hub would have granted by now what nobody holds.
    waiting(second, third)
    assert second.leased() == third.leased() == []
    holder.release("a", done=True)
    second.until("leased", SOON)
    third.until("leased", SOON)


def test_a_hub_that_hangs_holds_nobody_up_for_long(tmp_path: object, spawn: Spawn) -> None:
    hub = spawn("local", str(tmp_path))
    hub.until("open", state="ok")
    (member,) = opened(spawn, ("local", str(tmp_path)), 1)
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
    member.until("leased", SOON, name="e")


def test_who_never_met_anybody_is_alone_at_once(tmp_path: object, spawn: Spawn) -> None:
    member = spawn("local", f"{tmp_path}/missing")
    assert member.until("open")["state"] == "degraded"
    waits_for_nobody(member)


def test_without_redis_everyone_is_alone_at_once(own_redis: RedisServer, spawn: Spawn) -> None:
    first, second = opened(spawn, ("redis", own_redis.url), 2)
    first.lease("a")
    first.until("leased")
    second.lease("b")
    waiting(second)
    own_redis.kill()
    second.until("leased", SOON)
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
    second.until("leased", SOON, name="e")


def test_a_redis_that_hangs_holds_nobody_up_for_long(own_redis: RedisServer, spawn: Spawn) -> None:
    first, second = opened(spawn, ("redis", own_redis.url), 2)
    first.lease("a")
    first.until("leased")
    second.lease("b", times=50)
    waiting(second)
    own_redis.hang()
    for _ in range(50):
        second.until("leased", 5.0)
    first.release("a")
    first.until("released", SOON)
    own_redis.resume()
