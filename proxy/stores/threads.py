"""A few threads of one store's own, for calls that block.

Few and fixed, because every thread that touches a database keeps a connection to it. It knows nothing of
what runs in them.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

_PATIENCE = 5.0

P = ParamSpec("P")
T = TypeVar("T")


class Threads:
    def __init__(self, name: str, count: int = 3) -> None:
        self._count = count
        self._pool = ThreadPoolExecutor(count, thread_name_prefix=name)
        self._closed = False

    async def run(self, do: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`do(...)` in one of the threads. A cancelled caller leaves it to run to its end.

        OSError once closed, and where the system has no thread for it: to the adapters both are one more medium that
        fails.
        """
        if self._closed:
            raise OSError(errno.ESHUTDOWN, "the store is closed")
        return await asyncio.shield(self._called(lambda: do(*args, **kwargs)))

    async def aclose(self, last: Callable[[], None]) -> None:
        """Finish what runs, call `last` once in each thread, end them all. A second call does nothing."""
        if self._closed:
            return
        self._closed = True
        barrier = threading.Barrier(self._count)

        def leave() -> None:
            # Holds each thread until all are here, so that none takes two of these calls.
            with contextlib.suppress(threading.BrokenBarrierError):
                barrier.wait(_PATIENCE)
            last()

        calls: list[asyncio.Future[None]] = []
        with contextlib.suppress(OSError):  # what has no thread has nothing to leave
            for _ in range(self._count):
                calls.append(self._called(leave))
        await asyncio.gather(*calls)
        self._pool.shutdown(wait=True)

    def _called(self, do: Callable[[], T]) -> asyncio.Future[T]:
        try:
            return asyncio.get_running_loop().run_in_executor(self._pool, do)
        except RuntimeError as error:  # threads are started when they are first needed
            raise OSError(errno.EAGAIN, str(error)) from error
