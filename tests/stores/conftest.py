from __future__ import annotations

from collections.abc import Iterator

import pytest

from proxy.stores.base import Observer
from tests.redis_server import RedisServer, redis_server


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[RedisServer]:
    """A server for tests that only use it; whoever hangs or kills one starts his own."""
    with redis_server() as server:
        yield server


@pytest.fixture
def told() -> list[str]:
    """What the observer was told."""
    return []


@pytest.fixture
def observer(told: list[str]) -> Observer:
    return lambda name, what: told.append(f"{name}: {what}")
