"""The load: so many connections, each asking again as soon as it has its answer.

Three generators, each much cheaper than any server that it meets, so that the server's core is what is measured:

    wrk     nearly everything; it parses each answer, at some 5 us a request
    bulk    large files: it has the kernel throw the bodies away uncopied, where wrk would copy them 8 KB at a time
    crowd   all at once, each once
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.raw import Address

NUMBER = b"########"
"""In a request: eight digits that never come twice."""

_SCRIPT = Path(__file__).with_name("load.lua")
_TOLD = re.compile(r"^TOLD (\d+) (\d+) (\d+) (\d+) (\d+) (\d+)$", re.MULTILINE)


class Failed(Exception):
    """A run in which an answer was wrong or missing is no measurement."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a generator saw; `busy` is the share of its core that it needed itself, `p99` in seconds."""

    requests: int
    seconds: float
    bytes: int
    busy: float
    p99: float


def wrk(address: Address, requests: Sequence[bytes], connections: int, seconds: float, first: int = 0) -> Loaded:
    """Ask these requests in turn for so long. `first`: where the numbers begin that stand for `NUMBER`.

    Raises `Failed` for any answer that is an error, and for any connection that broke.
    """
    with tempfile.NamedTemporaryFile(prefix="requests-") as file:
        file.write(b"".join(b"%d\n%b" % (len(request), request) for request in requests))
        file.flush()
        command = ["wrk", "-t1", f"-c{connections}", "-d3600s", "--timeout=30s", "--latency", "-s", str(_SCRIPT)]
        command += [f"http://{address[0]}:{address[1]}", file.name, str(first)]
        before = os.times()
        printed = _interrupted(command, seconds)
        after = os.times()
    told = _TOLD.search(printed)
    if told is None:
        raise Failed(f"wrk ended: {printed}")
    count, micros, size, broken, wrong, p99 = (int(number) for number in told.groups())
    if broken or wrong:
        raise Failed(f"{count} requests: {broken} broke off, {wrong} were answered with an error")
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return Loaded(count, micros / 1e6, size, spent / (micros / 1e6), p99 / 1e6)


def _interrupted(command: Sequence[str], seconds: float) -> str:
    """What wrk prints when it is interrupted after so long: by itself it runs for whole seconds only."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            return process.communicate(timeout=seconds)[0]
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            return process.communicate()[0]
        finally:
            process.kill()
