from __future__ import annotations

import os

import hypothesis
import pytest

# A busy machine is no fault of what is tested; and what refuses a change has to be the same the next time.
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True)
hypothesis.settings.register_profile("here", deadline=None)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "here")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
