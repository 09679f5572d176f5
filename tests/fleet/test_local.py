from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import resource
import signal
import socket
import stat
import struct
import tempfile
from pathlib import Path

import pytest
import uvloop

from proxy.fleet import hub, link, local, place
from proxy.fleet.base import Turn
from proxy.fleet.local import LocalFleet
from proxy.model import Invalidation, State
from proxy.rules.bucket import Urgency
from tests import virtual_time
from tests.fleet.member import Spawn, of
from tests.waiting import WITHIN, happened


def hub_of(directory: Path) -> int:
    """The process that listens."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(directory / "fleet.sock"))
        pid, _, _ = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        return int(pid)


def test_the_others_choose_a_new_hub_when_it_is_killed(tmp_path: Path, spawn: Spawn) -> None:
    members = [spawn("local", str(tmp_path)) for _ in range(4)]
    for member in members:
        member.until("open", state="ok")
    while len(members) > 1:
        (hub,) = [member for member in members if member.process.pid == hub_of(tmp_path)]
        members.remove(hub)
        hub.signal(signal.SIGKILL)
        hub.process.wait()
        for member in members:
            member.until("lost")
        for member in members:
            member.until("lost")  # The second time it is back.
        members[0].announce(f"to {len(members)}")
        for member in members:
            member.until("heard", crate=f"to {len(members)}")
        members[0].until("announced")


def test_who_announces_when_the_hub_has_just_died_waits_for_the_next(tmp_path: Path, spawn: Spawn) -> None:
    first = spawn("local", str(tmp_path))
    first.until("open")
    second, third = spawn("local", str(tmp_path)), spawn("local", str(tmp_path))
    second.until("open")
    third.until("open")
    first.signal(signal.SIGSTOP)
    second.announce("a")  # The hub takes it and never answers.
    second.until("heard", crate="a")
    first.signal(signal.SIGKILL)
    third.until("lost")
    second.until("announced")


async def _in_the_moment_of_a_break(directory: Path) -> None:
    """The connection is lost, and the member has had no turn yet to see it."""
    hub = await LocalFleet.opened(directory, lambda _: None, lambda: None)
    member = await LocalFleet.opened(directory, lambda _: None, lambda: None)
    try:
        for say in (_leased, _booked, _announced):
            await happened(member._joined.is_set)
            broken = member._link
            assert isinstance(broken, link.Far)
            broken._writer.transport.abort()
            await asyncio.sleep(0)
            assert member._link is broken and member._joined.is_set()
            await say(member)
    finally:
        await member.aclose()
        await hub.aclose()


async def _leased(member: LocalFleet) -> None:
    async with member.lease("serde", 5.0):
        pass


async def _booked(member: LocalFleet) -> None:
    assert isinstance(await member.budget.book(Urgency.CALLER), Turn)


async def _announced(member: LocalFleet) -> None:
    await member.announce(of("serde"))


def test_whoever_speaks_in_the_moment_in_which_the_hub_dies_is_not_refused(tmp_path: Path) -> None:
    """To uvloop, which serves, it is a mistake to write to what was closed a moment ago."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_in_the_moment_of_a_break(tmp_path))


def test_a_hub_that_hangs_holds_nobody_up_for_long(tmp_path: Path, spawn: Spawn) -> None:
    first = spawn("local", str(tmp_path))
    first.until("open")
    second = spawn("local", str(tmp_path), bounded=True)
    second.until("open")
    first.signal(signal.SIGSTOP)
    second.announce("a")
    second.until("announced")
    third = spawn("local", str(tmp_path), bounded=True)
    third.until("open")
    first.signal(signal.SIGCONT)
    first.until("heard", crate="a")


def test_an_announcement_is_heard_by_all_when_it_returns_and_waits_for_nothing_else(tmp_path: Path) -> None:
    async def main() -> None:
        now = asyncio.get_running_loop().time
        heard: list[list[Invalidation]] = [[] for _ in range(4)]
        fleets = [await LocalFleet.opened(tmp_path, mine.append, lambda: None) for mine in heard]
        begun = now()
        await asyncio.gather(*(fleet.announce(of(str(number))) for number, fleet in enumerate(fleets)))
        assert [{str(event.selection.crate) for event in mine} for mine in heard] == [{"0", "1", "2", "3"}] * 4
        assert [len(mine) for mine in heard] == [4] * 4
        assert now() == begun
        for fleet in fleets:
            await fleet.aclose()

    with virtual_time.running() as runner:
        runner.run(main())


def test_who_does_not_hear_holds_who_announces_up_for_a_second_and_the_others_not_at_all(tmp_path: Path) -> None:
    async def main() -> None:
        now = asyncio.get_running_loop().time
        heard: list[float] = []
        first = await LocalFleet.opened(tmp_path, lambda _: None, lambda: None)
        second = await LocalFleet.opened(tmp_path, lambda _: heard.append(now()), lambda: None)
        _, deaf = await asyncio.open_unix_connection(tmp_path / "fleet.sock")
        await asyncio.sleep(1.0)  # it is a member by then
        begun = now()
        await first.announce(of("serde"))
        assert heard == [begun]
        assert now() == pytest.approx(begun + 1.0)
        deaf.transport.abort()
        for fleet in (first, second):
            await fleet.aclose()

    with virtual_time.running() as runner:
        runner.run(main())


def test_a_hub_that_says_nothing_is_waited_for_a_second(tmp_path: Path) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'{"v":1,"kind":"welcome"}\n')
        await reader.read(-1)
        writer.close()

    async def main() -> None:
        now = asyncio.get_running_loop().time
        heard: list[Invalidation] = []
        server = await asyncio.start_unix_server(silent, tmp_path / "fleet.sock")
        fleet = await LocalFleet.opened(tmp_path, heard.append, lambda: None)
        begun = now()
        await fleet.announce(of("serde"))
        assert heard == [of("serde")] and now() == pytest.approx(begun + 1.0)
        await fleet.aclose()
        server.close()
        await server.wait_closed()
        await asyncio.sleep(1.0)  # its other end is closed by then

    with virtual_time.running() as runner:
        runner.run(main())


@pytest.mark.anyio
async def test_the_socket_is_for_its_owner_alone(tmp_path: Path) -> None:
    fleet = await LocalFleet.opened(tmp_path, lambda _: None, lambda: None)
    assert stat.S_IMODE((tmp_path / "fleet.sock").stat().st_mode) == 0o600
    await fleet.aclose()
    assert not (tmp_path / "fleet.sock").exists()


@pytest.mark.anyio
async def test_a_socket_that_a_dead_hub_left_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(tmp_path / "fleet.sock"))
    fleet = await LocalFleet.opened(tmp_path, lambda _: None, lambda: None)
    assert (await fleet.health()).state is State.OK
    await fleet.aclose()


@pytest.mark.anyio
async def test_a_hub_whose_socket_was_removed_makes_another(tmp_path: Path) -> None:
    lost: list[int] = []
    fleet = await LocalFleet.opened(tmp_path, lambda _: None, lambda: lost.append(1))
    (tmp_path / "fleet.sock").unlink()
    assert fleet._link is not None
    await fleet._link.aclose()
    await happened(lambda: len(lost) == 2)
    await asyncio.wait_for(fleet._joined.wait(), WITHIN)
    assert (tmp_path / "fleet.sock").exists()
    await fleet.aclose()


@pytest.mark.parametrize("turns", range(6))
def test_a_hub_that_leaves_while_somebody_comes_says_nothing_of_it(
    turns: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    came: list[socket.socket] = []

    async def leave() -> None:
        fleet = await LocalFleet.opened(tmp_path, lambda _: None, lambda: None)
        for _ in range(3):
            came.append(socket.socket(socket.AF_UNIX))
            came[-1].connect(str(tmp_path / "fleet.sock"))
        for _ in range(turns):  # of the loop: they are accepted in one, and told in the next
            await asyncio.sleep(0)
        await fleet.aclose()

    asyncio.run(leave(), debug=True)  # which cancels what is left
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
    for one in came:
        one.settimeout(WITHIN)
        with contextlib.suppress(ConnectionResetError):
            while one.recv(4096):
                pass  # what it was told before
        one.close()


@pytest.mark.anyio
async def test_a_hub_that_leaves_is_followed_by_another(tmp_path: Path) -> None:
    heard: list[Invalidation] = []
    lost: list[float] = []
    leaving = await LocalFleet.opened(tmp_path, lambda _: None, lambda: None)
    staying = await LocalFleet.opened(tmp_path, heard.append, lambda: lost.append(1))
    await leaving.aclose()
    await happened(lambda: len(lost) == 2)  # When it broke, and when all is well again.
    coming = await LocalFleet.opened(tmp_path, lambda _: None, lambda: None)
    await coming.announce(of("serde"))
    assert heard == [of("serde")]
    await coming.aclose()
    await staying.aclose()


@pytest.mark.anyio
async def test_strangers_and_their_words_are_ignored(tmp_path: Path) -> None:
    heard: list[Invalidation] = []
    fleet = await LocalFleet.opened(tmp_path, heard.append, lambda: None)
    for words in (
        b"not json\n[]\n7\n",
        b'{"v":2,"kind":"invalidation","crate":"a","endpoint":null,"soft":true,"at":1}\n',
        b'{"v":1,"kind":"lease","key":"a"}\n{"v":1}\n{"v":1,"kind":["heard"]}\n',
        b'{"v":1,"kind":"heard","id":99}\n{"v":1,"kind":"heard","id":"x"}\n',
        b'{"v":1,"kind":"invalidation","crate":7,"endpoint":null,"soft":true,"at":1}\n',
        b'{"v":1,"kind":"invalidation"',
    ):
        _, writer = await asyncio.open_unix_connection(tmp_path / "fleet.sock")
        writer.write(words)
        writer.close()
        await writer.wait_closed()
    reader, writer = await asyncio.open_unix_connection(tmp_path / "fleet.sock")
    writer.write(b"x" * 1_000_000)  # No end in sight: the hub hangs up.
    with contextlib.suppress(ConnectionResetError):
        assert await asyncio.wait_for(reader.read(), WITHIN) == b""
    writer.close()
    assert heard == []
    await fleet.announce(of("serde"))
    assert heard == [of("serde")] and (await fleet.health()).state is State.OK
    await fleet.aclose()


@pytest.mark.anyio
async def test_members_ignore_what_they_do_not_know(tmp_path: Path) -> None:
    heard: list[Invalidation] = []
    told: list[bytes] = []

    async def newer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(
            b'{"v":1,"kind":"welcome"}\n{"v":1,"kind":"weather","sun":true}\n{"v":9}\nnoise\n{"v":1,"kind":"heard","id":5}\n'
        )
        fields = {"crate": "a", "endpoint": None, "soft": False, "at": 2}
        writer.write(json.dumps({"v": 1, "kind": "invalidation", "id": 3, **fields}).encode() + b"\n")
        while b'"recall"' in (line := await reader.readline()):
            pass  # what it remembers of the counters
        told.append(line)
        writer.close()
        await writer.wait_closed()

    # It hangs up after each answer: a member comes back, but not at once for ever.
    server = await asyncio.start_unix_server(newer, tmp_path / "fleet.sock")
    fleet = await LocalFleet.opened(tmp_path, heard.append, lambda: None)
    await happened(lambda: told)
    assert json.loads(told[0]) == {"v": 1, "kind": "heard", "id": 3}
    assert (heard[0].selection.crate, heard[0].soft, heard[0].at) == ("a", False, 2.0)
    await fleet.aclose()
    server.close()
    await server.wait_closed()


def test_a_listener_with_a_bug_is_logged_and_counts_as_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def broken(_: Invalidation) -> None:
        raise ValueError("a bug")

    async def main() -> None:
        now = asyncio.get_running_loop().time
        first = await LocalFleet.opened(tmp_path, lambda _: None, lambda: None)
        second = await LocalFleet.opened(tmp_path, broken, lambda: None)
        begun = now()
        await first.announce(of("serde"))
        assert now() == begun
        await first.aclose()
        await second.aclose()

    with virtual_time.running() as runner:
        runner.run(main())
    assert "a bug" in caplog.text


@pytest.mark.anyio
async def test_a_member_that_does_not_read_is_put_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "BACKLOG", 10_000)
    monkeypatch.setattr(local, "BOUND", 0.05)
    fleet = await LocalFleet.opened(tmp_path, lambda _: None, lambda: None)
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.connect(str(tmp_path / "fleet.sock"))
        deaf.setblocking(False)
        assert fleet._hub is not None
        members = fleet._hub._members
        await happened(lambda: len(members) == 2)
        for _ in range(10):
            await asyncio.gather(*(fleet.announce(of("x" * 1000)) for _ in range(500)))
            if len(members) == 1:
                break
        await happened(lambda: len(members) == 1)
    await fleet.aclose()


@pytest.mark.anyio
async def test_whoever_has_the_fleet_to_himself_is_told_so_with_his_lease(tmp_path: Path) -> None:
    first = await LocalFleet.opened(tmp_path, lambda _: None, lambda: None)
    async with first.lease("a", WITHIN) as lease:
        assert lease.alone
        second = asyncio.ensure_future(first.lease("a", WITHIN).__aenter__())
        await asyncio.sleep(0.01)
    assert not (await second).alone, "it had to wait"
    async with first.lease("a", WITHIN), first.lease("a", 0.05) as lease:
        assert not lease.alone, "it has waited in vain"
    other = await LocalFleet.opened(tmp_path, lambda _: None, lambda: None)
    for each in (first, other):
        async with each.lease("b", WITHIN) as lease:
            assert not lease.alone
    await other.aclose()
    assert first._hub is not None
    await happened(lambda: first._hub.alone)  # type: ignore[union-attr]
    async with first.lease("b", WITHIN) as lease:
        assert lease.alone
    await first.aclose()
    async with first.lease("c", 0.1) as lease:
        assert not lease.alone, "nobody knows"


@pytest.mark.anyio
async def test_nothing_is_remembered_of_what_was_announced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "FORGET", 0.05)
    monkeypatch.setattr(local, "BOUND", 0.05)
    fleet = await LocalFleet.opened(tmp_path, lambda _: None, lambda: None)
    assert fleet._hub is not None
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.connect(str(tmp_path / "fleet.sock"))
        await happened(lambda: len(fleet._hub._members) == 2)  # type: ignore[union-attr]
        await fleet.announce(of("serde"))
        assert fleet._unheard == {}
        await happened(lambda: fleet._hub._announcements == {})  # type: ignore[union-attr]
    await fleet.aclose()


@pytest.mark.anyio
async def test_who_has_no_place_to_meet_is_alone_and_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(local, "BOUND", 0.1)
    heard: list[Invalidation] = []
    missing = tmp_path / "missing"
    fleet = await LocalFleet.opened(missing, heard.append, lambda: None)
    await fleet.announce(of("serde"))
    health = await fleet.health()
    assert heard == [of("serde")] and health.state is State.DEGRADED and "alone" in health.detail
    assert [record.levelno for record in caplog.records if record.name == "proxy"] == [logging.WARNING]
    missing.mkdir()
    await asyncio.wait_for(fleet._joined.wait(), WITHIN)
    assert (await fleet.health()).state is State.OK
    await fleet.aclose()


def test_a_long_path_is_met_elsewhere(tmp_path: Path, spawn: Spawn) -> None:
    deep = tmp_path / ("d" * 100) / "cache"
    deep.mkdir(parents=True)
    (tmp_path / "short").symlink_to(deep)
    first, second = spawn("local", str(deep)), spawn("local", str(tmp_path / "short"))
    first.until("open", state="ok")
    second.until("open", state="ok")
    first.announce("a")
    second.until("heard", crate="a")
    point = place.meeting_point(deep)
    assert len(os.fsencode(point)) <= 100 and stat.S_IMODE(point.parent.stat().st_mode) == 0o700
    for member in (first, second):
        member.leave()
        member.until("closed")
    assert not point.exists()
    point.with_suffix(".lock").unlink()


def test_a_place_that_others_can_write_to_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    private = tmp_path / f"crates-proxy-{os.getuid()}"
    private.mkdir()
    private.chmod(0o777)
    with pytest.raises(PermissionError):
        place.meeting_point(tmp_path / ("d" * 100))
    private.rmdir()
    private.symlink_to("/tmp")
    with pytest.raises(PermissionError):
        place.meeting_point(tmp_path / ("d" * 100))


def test_a_claim_that_fails_leaves_no_lock(tmp_path: Path) -> None:
    (tmp_path / "fleet.sock").mkdir()
    with pytest.raises(OSError):
        place.claimed(tmp_path / "fleet.sock")
    (tmp_path / "fleet.sock").rmdir()
    claim = place.claimed(tmp_path / "fleet.sock")
    assert claim is not None and place.claimed(tmp_path / "fleet.sock") is None
    claim.give_up()


def test_a_claim_for_which_there_are_not_enough_descriptors_leaves_no_lock(tmp_path: Path) -> None:
    """Left behind, it would keep this process and all others from ever becoming the hub."""
    free = os.open(os.devnull, os.O_RDONLY)  # the lowest
    os.close(free)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + 1, limit[1]))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            place.claimed(tmp_path / "fleet.sock")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
    claim = place.claimed(tmp_path / "fleet.sock")
    assert claim is not None
    claim.give_up()
