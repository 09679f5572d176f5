from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.redis_server import RedisServer, redis_server


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[RedisServer]:
    """A server for tests that only use it; whoever hangs or kills one starts his own."""
    with redis_server() as server:
        yield server


@pytest.fixture
def told() -> list[tuple[str, str]]:
    """What an observer was told; `told.append` of pairs is done by `observing`."""
    return []
