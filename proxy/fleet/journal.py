"""What was booked and who is held, in a file, so that neither a restart nor a killed process forgets it.

A line is written before anybody is told what it says: what is lost with a process has cost nothing yet, and what is
in the file may have been sent. There is no fsync: only a machine that loses its power forgets the last seconds, and
it takes longer than those to come back. Until it boots anew a steady clock counts, which nobody sets; from then on only
the wall clock can tell how long ago a line was written.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import orjson

from proxy.fleet.base import Hold
from proxy.model import Host
from proxy.rules.holds import LONGEST, Why

log = logging.getLogger("proxy")

SPARE = 1000
"""Lines that may be out of date before the file is written anew."""


@dataclass(frozen=True, slots=True)
class Record:
    """`spent`: names and times of requests, in seconds from now. A negative one is past."""

    spent: tuple[tuple[str, float], ...]
    holds: Mapping[Host, Hold]


class Journal(Protocol):
    """Times are seconds from now."""

    def read(self) -> Record: ...

    def spent(self, name: str, at: float) -> None: ...

    def held(self, host: Host, hold: Hold) -> None: ...

    def due(self, lines: int) -> bool:
        """Whether it is long enough to be written anew, where only so many lines are still true."""
        ...

    def renew(self, record: Record) -> None: ...

    def close(self) -> None: ...


class Nowhere:
    """The journal of those who write nothing down."""

    def read(self) -> Record:
        return Record((), {})

    def spent(self, name: str, at: float) -> None:
        pass

    def held(self, host: Host, hold: Hold) -> None:
        pass

    def due(self, lines: int) -> bool:
        return False

    def renew(self, record: Record) -> None:
        pass

    def close(self) -> None:
        pass


def boot() -> str:
    """What this boot of the machine is called, and no other; "" where the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()  # proc(5)
    except OSError:
        return ""


class File:
    """A journal at `path`. Where it cannot be written, that is logged once and all goes on.

    `wall` and `steady`: clocks, in seconds. The latter is the same for all processes of one `boot`, "" where unknown.
    """

    def __init__(self, path: Path, wall: Callable[[], float], steady: Callable[[], float], boot: str) -> None:
        self._path = path
        self._wall = wall
        self._steady = steady
        self._boot = boot
        self._descriptor: int | None = None
        self._lines = 0
        self._failed = False

    def read(self) -> Record:
        """What is written there. Whatever cannot be read is not there."""
        spent: dict[str, float] = {}
        holds: dict[Host, Hold] = {}
        try:
            lines = self._path.read_bytes().splitlines()
        except OSError:
            lines = []
        for number, line in enumerate(lines):
            with contextlib.suppress(ValueError):  # one that was not finished, or nothing of ours
                match understood := orjson.loads(line):
                    case {"spent": float() | int() as at}:
                        name = understood.get("name")  # earlier releases gave none
                        spent[name if isinstance(name, str) else f"line {number} {at}"] = self._left(at, understood)
                    case {"held": str(host), "until": float() | int() as until, "why": str(why), "words": str(words)}:
                        # A clock that went backwards makes no hold longer; earlier releases gave no length.
                        length = understood.get("seconds")
                        most = float(length) if isinstance(length, float | int) else LONGEST
                        holds[Host(host)] = Hold(min(self._left(until, understood), most), Why(why), words)
        in_order = sorted(spent.items(), key=lambda each: each[1])
        return Record(tuple(in_order), {host: hold for host, hold in holds.items() if hold.seconds > 0})

    def spent(self, name: str, at: float) -> None:
        self._write([self._spent(name, at)])

    def held(self, host: Host, hold: Hold) -> None:
        self._write([self._held(host, hold)])

    def due(self, lines: int) -> bool:
        return self._lines > 2 * lines + SPARE

    def renew(self, record: Record) -> None:
        """Write the whole file anew, and go on behind its end."""
        self.close()
        lines = [*(self._spent(*each) for each in record.spent), *(self._held(*item) for item in record.holds.items())]
        new = self._path.with_suffix(".new")
        try:
            descriptor = os.open(new, os.O_WRONLY | os.O_TRUNC | os.O_CREAT | os.O_CLOEXEC, 0o600)
            with open(descriptor, "wb") as file:
                file.write(b"".join(lines))
            new.replace(self._path)
        except OSError as error:
            self._noted(error)
        self._lines = len(lines)

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _left(self, at: float, line: Mapping[str, object]) -> float:
        """Seconds from now until the time of a line, `at` by the wall clock."""
        steady = line.get("steady")
        if isinstance(steady, float | int) and line.get("boot") == self._boot != "":
            return steady - self._steady()
        return at - self._wall()

    def _spent(self, name: str, at: float) -> bytes:
        return self._line({"spent": self._wall() + at, "name": name}, at)

    def _held(self, host: Host, hold: Hold) -> bytes:
        until = self._wall() + hold.seconds
        fields = {"held": host, "until": until, "seconds": hold.seconds, "why": hold.why, "words": hold.words}
        return self._line(fields, hold.seconds)

    def _line(self, fields: Mapping[str, object], seconds: float) -> bytes:
        return orjson.dumps({**fields, "steady": self._steady() + seconds, "boot": self._boot}) + b"\n"

    def _write(self, lines: Iterable[bytes]) -> None:
        data = b"".join(lines)
        try:
            if self._descriptor is None:
                flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
                self._descriptor = os.open(self._path, flags, 0o600)
            os.write(self._descriptor, data)
            self._failed = False
        except OSError as error:
            self._noted(error)
        self._lines += 1

    def _noted(self, error: OSError) -> None:
        if not self._failed:
            log.warning(
                "budget: %s cannot be written; a restart will not remember what was spent: %s", self._path, error
            )
        self._failed = True
