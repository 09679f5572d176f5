from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.proxied import Proxied, proxied
from tests.upstream import Upstream


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream.running() as running:
        yield running


@pytest.fixture
def proxy(upstream: Upstream, tmp_path: Path) -> Iterator[Proxied]:
    with proxied(upstream, tmp_path) as running:
        yield running
