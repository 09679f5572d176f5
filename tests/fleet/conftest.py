from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fleet.member import Member, Spawn
from tests.fleet.member import unbound as unbound_
from tests.redis_server import RedisServer, redis_server


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[RedisServer]:
    """A server for tests that only use it; whoever hangs or kills one starts his own."""
    with redis_server() as server:
        yield server


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    """Starts members; they are killed at the end."""
    members: list[Member] = []

    def started(kind: str, where: str, *, bounded: bool = False) -> Member:
        members.append(Member(kind, where, bounded=bounded))
        return members[-1]

    yield started
    for member in members:
        member.end()


@pytest.fixture
def unbound(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the members in this process, too."""
    unbound_(monkeypatch.setattr)


@pytest.fixture(params=["local", "redis"])
def medium(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    """A kind of fleet with several members, and where they meet."""
    if request.param == "local":
        return "local", str(tmp_path)
    # What members leave behind that are killed is no business of the next test.
    return "redis", f"{request.getfixturevalue('shared_redis').url}|{tmp_path.name}"
