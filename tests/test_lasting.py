from __future__ import annotations

import asyncio

import pytest

from proxy import lasting

pytestmark = pytest.mark.anyio


async def test_what_fails_is_told_and_begins_anew(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lasting, "PAUSE", 0.0)
    times = 0

    async def work() -> None:
        nonlocal times
        times += 1
        if times < 3:
            raise ZeroDivisionError("nobody has foreseen this")

    await lasting.lasting("some work", work)
    assert times == 3
    assert [record.getMessage() for record in caplog.records] == [
        "some work failed inside this proxy, and goes on in 0 s"
    ] * 2
    assert all(record.exc_info for record in caplog.records)


async def test_it_can_be_ended() -> None:
    task = asyncio.create_task(lasting.lasting("some work", asyncio.Event().wait))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
