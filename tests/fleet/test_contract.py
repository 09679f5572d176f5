"""What every fleet keeps. Its members are processes, and die like processes.

That a purge is everywhere within a second must not depend on the machine. So no time is measured: where nobody hangs, a
member waits an hour for another (`member`), and an announcement that anybody were waited for in vain would not end.
How long one that hangs is waited for, `test_local` and `test_redis` show in virtual time.
"""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from proxy.model import Invalidation, State
from tests.fleet.member import Spawn, of, opened


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["local", "redis"])
async def test_who_announces_has_heard_it_when_that_returns(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    where = request.getfixturevalue("shared_redis").url if kind == "redis" else str(tmp_path)
    heard: list[Invalidation] = []
    fleet = await opened(kind, where, heard.append, lambda: None)
    try:
        await fleet.announce(of("serde", soft=False))
        assert heard == [of("serde", soft=False)]
        health = await fleet.health()
        assert health.name == "fleet" and health.state is State.OK
    finally:
        await fleet.aclose()


def test_everyone_hears_it_once_and_unchanged(medium: tuple[str, str], spawn: Spawn) -> None:
    members = [spawn(*medium) for _ in range(4)]
    for member in members:
        assert member.until("open")["state"] == "ok"
    for number, member in enumerate(members):
        member.announce(f"crate-{number}")
        member.until("announced")
        for other in members:
            if other is not member:
                event = other.until("heard", crate=f"crate-{number}")
                assert event["soft"] is True and event["at"] == 1700000000.25
    for member in members:
        member.announce("last")
        member.until("announced")
        assert sorted(name for name in member.heard() if name != "last") == [f"crate-{n}" for n in range(4)]
        assert not [event for event in member.events if event["what"] == "lost"]


def test_a_member_that_comes_and_goes_is_heard(medium: tuple[str, str], spawn: Spawn) -> None:
    server = spawn(*medium)
    server.until("open")
    for name in ("one", "two"):
        command = spawn(*medium)
        command.announce(name)
        command.leave()
        command.until("closed")
        assert command.process.wait() == 0
        server.until("heard", crate=name)


def test_a_member_that_hangs_holds_nobody_up(medium: tuple[str, str], spawn: Spawn) -> None:
    first = spawn(*medium, bounded=True)
    first.until("open")  # Where members need one to pass things on, it is this one.
    second, hanging = spawn(*medium, bounded=True), spawn(*medium)
    second.until("open")
    hanging.until("open")
    hanging.signal(signal.SIGSTOP)
    first.announce("a")
    second.until("heard", crate="a")
    first.until("announced")
    second.announce("b")
    first.until("heard", crate="b")
    hanging.signal(signal.SIGCONT)
    hanging.until("heard", crate="a")
    hanging.until("heard", crate="b")


def test_a_member_that_is_killed_is_not_waited_for(medium: tuple[str, str], spawn: Spawn) -> None:
    first = spawn(*medium)
    first.until("open")  # Where members need one to pass things on, it is this one: it is not killed here.
    second, killed = spawn(*medium), spawn(*medium)
    second.until("open")
    killed.until("open")
    killed.signal(signal.SIGSTOP)
    first.announce("in vain")
    second.until("heard", crate="in vain")
    killed.signal(signal.SIGKILL)
    killed.process.wait()
    first.until("announced")
    for crate in ("a", "b", "c", "d"):
        first.announce(crate)
        first.until("announced")
        second.until("heard", crate=crate)


def test_a_listener_with_a_bug_does_not_end_its_membership(medium: tuple[str, str], spawn: Spawn) -> None:
    first, second = spawn(*medium), spawn(*medium)
    first.until("open")
    second.until("open")
    third = spawn(*medium)
    third.until("open")
    third.announce("raise")  # Its own listener raises to itself: that ends this process, not the others.
    third.process.wait()
    first.announce("a")
    second.until("heard", crate="a")
