"""Which stored files are believed to have their checksum without reading them again: those whose bytes were seen to
have it not long ago, that nobody has written to since, and of which no read has failed.

Disks lose bits in silence. Whoever hashes a file before its first use in a process, and once a day from then on, meets
that before a client does; what is read in between comes out of memory or was right a moment ago. It knows open files
and times, and neither names nor directories.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable

from proxy.stores.descriptor import Descriptor

LASTS = 86_400.0
"""Seconds for which a file is believed: a tarball of 60 KiB takes 40 us to hash, and is served for much longer."""
MOST = 20_000
"""Files that a process remembers, some 300 bytes each; who is forgotten is only read once more."""

State = tuple[int, ...]


class Proof:
    """That an open file had its checksum when it was in `state`, `at` that time; withdrawn for all who share it."""

    __slots__ = ("_at", "_clock", "_state")

    def __init__(self, state: State, clock: Callable[[], float]) -> None:
        self._state = state
        self._clock = clock
        self._at = clock()

    def holds(self, held: Descriptor) -> bool:
        # A clock that went backwards proves nothing.
        return 0.0 <= self._clock() - self._at < LASTS and _state(held) == self._state

    def withdraw(self) -> None:
        self._state = ()


DOUBTFUL = Proof((), lambda: 0.0)
"""Holds for no file."""


class Proofs:
    """By SHA-256, for several threads."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._known: OrderedDict[str, Proof] = OrderedDict()

    def of(self, sha256: str, held: Descriptor) -> Proof | None:
        """The proof that holds for this open file; None where it has to be read."""
        with self._lock:
            proof = self._known.get(sha256)
            if proof is None:
                return None
            if proof.holds(held):
                self._known.move_to_end(sha256)
                return proof
            del self._known[sha256]
            return None

    def proved(self, sha256: str, held: Descriptor) -> Proof:
        """All of the file has just been seen to have this checksum."""
        proof = Proof(_state(held), self._clock)
        with self._lock:
            self._known[sha256] = proof
            self._known.move_to_end(sha256)
            if len(self._known) > MOST:
                self._known.popitem(last=False)
        return proof


def _state(held: Descriptor) -> State:
    """What changes with every write to a file, and with nothing that a store does to a published one."""
    stat = os.fstat(held.number)
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
