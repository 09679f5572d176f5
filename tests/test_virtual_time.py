from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests import virtual_time


def test_a_week_passes_at_once_and_timers_come_in_order() -> None:
    async def main() -> list[str]:
        loop = asyncio.get_running_loop()
        said: list[str] = []
        loop.call_later(7 * 86400, said.append, "week")
        loop.call_later(0.5, said.append, "half a second")
        await asyncio.sleep(86400)
        said.append(f"{loop.time():.0f}")
        await asyncio.sleep(7 * 86400)
        return said

    begun = time.monotonic()
    with virtual_time.running() as runner:
        assert runner.run(main()) == ["half a second", "86400", "week"]
    assert time.monotonic() - begun < 5


def test_no_time_passes_while_a_thread_works() -> None:
    async def main() -> tuple[float, float]:
        go = threading.Event()
        loop = asyncio.get_running_loop()
        # Another thread lets it go, in real time: the loop has nothing to do but to wait for it.
        threading.Timer(0.05, go.set).start()
        async with asyncio.timeout(0.001):
            assert await asyncio.to_thread(go.wait, 10)
        at = loop.time()
        await asyncio.sleep(1)
        return at, loop.time()

    with virtual_time.running() as runner:
        assert runner.run(main()) == (0.0, 1.0)


def test_a_thread_whose_caller_has_left_still_stops_time() -> None:
    async def main() -> float:
        go = threading.Event()
        loop = asyncio.get_running_loop()
        call = loop.run_in_executor(None, go.wait, 10)
        call.cancel()
        threading.Timer(0.05, go.set).start()
        await asyncio.sleep(1)
        assert go.is_set(), "time passed before the thread had ended"
        return loop.time()

    with virtual_time.running() as runner:
        assert runner.run(main()) == 1.0


def test_a_call_that_a_full_pool_never_began_does_not_stop_time_for_ever() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        go = threading.Event()
        with ThreadPoolExecutor(1) as pool:
            first = loop.run_in_executor(pool, go.wait, 10)
            second = loop.run_in_executor(pool, go.wait, 10)
            second.cancel()
            await asyncio.sleep(0)
            go.set()
            await first
        await asyncio.sleep(3600)

    with virtual_time.running() as runner:
        runner.run(main())


def test_sockets_of_the_same_loop_are_heard_before_time_passes(tmp_path: Path) -> None:
    async def main() -> tuple[bytes, float]:
        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.readline())
            writer.close()

        server = await asyncio.start_unix_server(echo, tmp_path / "socket")
        async with asyncio.timeout(0.001):
            reader, writer = await asyncio.open_unix_connection(tmp_path / "socket")
            writer.write(b"hello\n")
            heard = await reader.readline()
        writer.close()
        server.close()
        return heard, asyncio.get_running_loop().time()

    with virtual_time.running() as runner:
        assert runner.run(main()) == (b"hello\n", 0.0)


def test_the_clock_moves_with_the_loop() -> None:
    async def main() -> float:
        clock = virtual_time.clock()
        before = clock()
        await asyncio.sleep(90.5)
        return clock() - before

    with virtual_time.running() as runner:
        assert runner.run(main()) == pytest.approx(90.5)


@pytest.mark.parametrize("days", [40, 97, 200, 365, 4000])
def test_after_a_long_time_what_is_due_still_happens(days: int) -> None:
    async def main() -> float:
        await asyncio.sleep(days * 86_400.0)
        for _ in range(100):
            await asyncio.sleep(0.02)
        return asyncio.get_running_loop().time()

    with virtual_time.running() as runner:
        assert runner.run(main()) == pytest.approx(days * 86_400.0 + 2.0)
