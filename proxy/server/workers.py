"""Several workers of one server: starts them, replaces one that dies, and ends them in order.

The supervisor accepts nothing. It keeps the listening sockets open, so that what the kernel has queued for a
worker that died waits for the one that takes its place, also where the server ends meanwhile: then that one answers
what waits, and ends. It knows processes; it knows neither HTTP nor the app.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from subprocess import Popen
from typing import Any

from proxy.server import notify, sockets
from proxy.server.guard import Limits
from proxy.server.serving import App, Reread, Terms, Tls, announced, ignored, reloading, serve, unchanged
from proxy.server.worker import Job, packed

log = logging.getLogger("proxy")

# A worker that lived this long was well: whatever killed it is no reason to wait before the next one. Seconds.
STEADY = 10.0
# Then 0, 0.2, 0.4 ... seconds between attempts, no more than this.
PAUSE, LONGEST_PAUSE = 0.1, 5.0
# So many workers in a row that die before they serve are no accident. About 1.5 s of pauses, which is how long
# connections to this worker's socket wait for nothing.
ATTEMPTS = 5
# After the drain timeout, for the workers to close their stores. Seconds.
MARGIN = 5.0


def run(
    make_app: Callable[[Any], App],
    settings: Any,
    *,
    groups: Sequence[Sequence[socket.socket]],
    tls: Tls | None = None,
    drain_timeout: float = 30.0,
    limits: Limits | None = None,
    on_drain: Callable[[App], None] = ignored,
    reread: Reread = unchanged,
    on_reload: Callable[[App, Any], None] = ignored,
) -> int:
    """Serve with one worker a group of sockets until SIGTERM or SIGINT, and return the exit status.

    One worker is this process. Several are processes of their own, in which nothing is configured when
    `make_app(settings)` is called, not even logging; make_app, settings, on_drain and on_reload must be picklable.
    `reread` is called here, on SIGHUP: what it gives is in force in every worker, and in those that are started later.
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is something to read again
    if len(groups) == 1:
        return serve(
            lambda: make_app(settings),
            sockets=groups[0],
            tls=tls,
            drain_timeout=drain_timeout,
            limits=limits,
            on_drain=on_drain,
            reread=reread,
            on_reload=on_reload,
        )
    job = Job(make_app, Terms(settings, tls, drain_timeout, limits), on_drain, on_reload)
    return asyncio.run(Supervisor(job, groups, reread).run())


@dataclass(eq=False)
class _Life:
    """A worker's. `ready`: it accepts what comes to its sockets."""

    group: Sequence[socket.socket]
    writer: asyncio.StreamWriter
    ready: bool = False


class Supervisor:
    def __init__(self, job: Job, groups: Sequence[Sequence[socket.socket]], reread: Reread) -> None:
        self.job = job
        self.groups = groups
        self.reread = reread
        self.stopping = asyncio.Event()
        self.hurrying = False  # nobody is waited for any more
        self.processes: dict[Process, _Life] = {}
        self.listening: set[socket.socket] = set()  # at these the kernel queues who comes, whether one accepts or not

    @property
    def waiting_for(self) -> int:
        """How many sockets nobody has served yet."""
        return sum(self.listening.isdisjoint(group) for group in self.groups)

    async def run(self) -> int:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._stop)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._reload)
        keepers = [asyncio.create_task(self._keep(group)) for group in self.groups]
        stopped = asyncio.create_task(self.stopping.wait())
        await asyncio.wait([stopped, *keepers], return_when=asyncio.FIRST_COMPLETED)
        status = 0 if self.stopping.is_set() else 1  # A keeper that ends by itself has given up.
        if status:
            self._stop()
        _, late = await asyncio.wait(keepers, timeout=self.job.terms.drain_timeout + MARGIN)
        if late:
            log.error("crates-proxy: %d workers did not end in time and were killed", len(late))
            self.hurrying = True
            self._signal(signal.SIGKILL)
        await asyncio.gather(stopped, *keepers)
        return status

    def _stop(self) -> None:
        """The second time somebody is impatient: workers take a second SIGINT for an order not to wait."""
        if self.stopping.is_set():
            self.hurrying = True
            self._signal(signal.SIGINT)
            return
        notify.tell("STOPPING=1", "STATUS=finishing what is under way")
        self.stopping.set()
        for process, life in self.processes.items():
            if life.ready or self.listening.isdisjoint(life.group):
                self._dismiss(process, life)

    def _dismiss(self, process: Process, life: _Life) -> None:
        """Have a worker finish what is under way, and what waits at its sockets. It holds the only ones now, so that
        nobody queues in vain."""
        sockets.close([life.group])
        signalled(process, signal.SIGTERM)

    def _reload(self) -> None:
        terms = reloading(self.reread)
        if terms is not None:
            self.job = replace(self.job, terms=terms)
            for life in self.processes.values():
                life.writer.write(packed(terms))

    def _signal(self, number: signal.Signals) -> None:
        for process in self.processes:
            signalled(process, number)

    async def _keep(self, group: Sequence[socket.socket]) -> None:
        """Sees that somebody serves these sockets. Returns when the server ends, or when it is of no use."""
        try:
            await self._kept(group)
        finally:
            sockets.close([group])

    async def _kept(self, group: Sequence[socket.socket]) -> None:
        failures = short_lives = 0
        while not self.stopping.is_set() or self._waits(group):
            last = self.stopping.is_set()
            born, process, served = time.monotonic(), None, False
            try:
                served, process = await self._life(group)
            except (OSError, RuntimeError) as error:  # no descriptor, no process or no thread (RuntimeError) is left
                log.warning("crates-proxy: a worker cannot be started: %s", error)
            if last:
                return
            if self.stopping.is_set():
                continue
            if process is not None:
                log.warning("crates-proxy: worker %d ended with %s", process.pid, _told(process.returncode))
            short_lives = 0 if time.monotonic() - born > STEADY else short_lives + 1
            # What is lacking while others serve may come back, however long that takes.
            failures = 0 if served or not (process or self.waiting_for) else failures + 1
            # One that ends by itself at the first start has said why, and the next would say the same.
            hopeless = process is not None and process.returncode == 1 and self.waiting_for and not served
            if failures == ATTEMPTS or hopeless:
                log.error("crates-proxy: workers do not start; giving up")
                return
            pause = min(PAUSE * 2 ** (short_lives - 1), LONGEST_PAUSE) if short_lives > 1 else 0.0
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.stopping.wait(), pause)

    def _waits(self, group: Sequence[socket.socket]) -> bool:
        """Whether somebody may wait at these sockets for a worker that died."""
        return not self.hurrying and not self.listening.isdisjoint(group) and group[0].fileno() >= 0

    async def _life(self, group: Sequence[socket.socket]) -> tuple[bool, Process]:
        """One worker, from its start to its end; whether it has served."""
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=ours)
        try:
            with theirs:
                process = await _started([theirs, *group])
            life = self.processes[process] = _Life(group, writer)
            try:
                return await self._lived(process, life, reader), process
            finally:
                del self.processes[process]
        finally:
            writer.close()

    async def _lived(self, process: Process, life: _Life, reader: asyncio.StreamReader) -> bool:
        if self.stopping.is_set() and self.listening.isdisjoint(life.group):
            self._dismiss(process, life)
        try:
            life.writer.write(packed(self.job))
            life.ready = bool(await reader.read(1))
            if life.ready:
                self._serves(process, life)
        except ConnectionError:
            life.ready = False
        await process.wait()
        return life.ready

    def _serves(self, process: Process, life: _Life) -> None:
        waiting_for = self.waiting_for
        self.listening.update(life.group)
        if self.stopping.is_set():
            self._dismiss(process, life)
        elif waiting_for and not self.waiting_for:
            announced(self.groups[0], self.job.terms.tls)


async def _started(inherited: Sequence[socket.socket]) -> Process:
    descriptors = [sock.fileno() for sock in inherited]
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-c"),
        f"from proxy.server.worker import main; main{(*descriptors,)}",
        stdin=DEVNULL,
        pass_fds=descriptors,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
    )


def signalled(process: Process | Popen[bytes], number: signal.Signals) -> None:
    """Send a signal to a worker. Its own `send_signal` would look first whether it has ended, and so take the news of
    its end from whoever waits for that."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)


def _told(status: int | None) -> str:
    return f"signal {-status}" if status is not None and status < 0 else f"exit status {status}"
