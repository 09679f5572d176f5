"""An asyncio event loop whose time passes only when nothing else can happen: a week of timers takes minutes.

Where the loop of the standard library would sleep until its next timer, this one sets its clock to it. Before that
it looks at its sockets, and while a thread still works for it, it waits for that thread: real work takes no virtual
time, and nothing that is under way is overtaken by a timeout. So the other ends of its sockets must live in the
same loop. What another process or a thread of its own says it may hear too late, but for what is waited for `really`.

    with virtual_time.running() as runner:
        runner.run(main())
"""

from __future__ import annotations

import asyncio
import contextlib
import selectors
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

EPOCH = 1_700_000_000.0
"""What `VirtualTimeLoop.clock` says at the start, in seconds since the real epoch."""
_RESOLUTION = 1e-6
"""Seconds that are no time. The loop adds them when it looks for what is due; after half a year its own, a nanosecond,
is lost in the rounding, and what is due just now would never be."""
_STUCK = 60.0  # real seconds after which a thread that does not end is an error, rather than a run that hangs


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Its `time` begins at zero."""

    def __init__(self) -> None:
        self._now = 0.0
        self._threads_at_work = 0
        super().__init__(_Jumping(self._idle))
        self._clock_resolution = _RESOLUTION
        self._default_threads = ThreadPoolExecutor(thread_name_prefix="virtual-time")
        self.set_default_executor(self._default_threads)

    def time(self) -> float:
        return self._now

    def clock(self) -> float:
        """Seconds since the epoch, for what wants to be given a clock."""
        return EPOCH + self._now

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        call = (executor or self._default_threads).submit(func, *args)
        self._threads_at_work += 1
        result = asyncio.wrap_future(call, loop=self)
        # After the callback that hands the result over: time stands still until that has arrived.
        call.add_done_callback(self._ended)
        return result

    def _ended(self, call: Future[Any]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self.call_soon_threadsafe(self._one_fewer)

    def _one_fewer(self) -> None:
        self._threads_at_work -= 1

    def _idle(self, seconds: float) -> bool:
        """Nothing is ready and the next timer is `seconds` away: whether it was fetched near."""
        if self._threads_at_work:
            return False
        self._now += seconds
        return True


class _Jumping(selectors.DefaultSelector):
    """`idle(seconds)` is asked before a wait: True where there is nothing to wait for, since the time has passed."""

    def __init__(self, idle: Callable[[float], bool]) -> None:
        super().__init__()
        self._idle = idle

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None:
            events = super().select(0)
            if events or timeout <= 0 or self._idle(timeout):
                return events
        events = super().select(_STUCK)
        if not events:
            raise RuntimeError(f"for {_STUCK:.0f} real seconds a thread has been at work, or nothing can ever happen")
        return events


@contextlib.contextmanager
def running() -> Iterator[asyncio.Runner]:
    """A runner of coroutines in virtual time. Its loop is a `VirtualTimeLoop`."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        yield runner


async def really(work: Awaitable[T]) -> T:
    """What comes of `work` that waits for another process. Time stands still meanwhile: no timeout ends it."""
    over = threading.Event()
    task = asyncio.ensure_future(work)
    task.add_done_callback(lambda _: over.set())
    await asyncio.to_thread(over.wait)
    return await task


def clock() -> Callable[[], float]:
    """The clock of the running loop."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    return loop.clock
