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

        OSError once closed: to the adapters a closed store is one more medium that fails.
        """
        if self._closed:
            raise OSError(errno.ESHUTDOWN, "the store is closed")
        call = asyncio.get_running_loop().run_in_executor(self._pool, lambda: do(*args, **kwargs))
        return await asyncio.shield(call)

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

        loop = asyncio.get_running_loop()
        await asyncio.gather(*(loop.run_in_executor(self._pool, leave) for _ in range(self._count)))
        self._pool.shutdown(wait=True)
