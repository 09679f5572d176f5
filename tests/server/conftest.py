from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture
def nothing_to_report(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whatever is sent, the server has nothing to complain of: no exception that nobody has thought of."""
    yield
    logged = caplog.get_records("call")  # what `records` has at this point is of the teardown
    assert [record.getMessage() for record in logged if record.levelname not in ("DEBUG", "INFO")] == []
