"""Lock files on the disk whose needs are to stay, read again when they change. It blocks.

A file that cannot be read says so, and what it said last counts on: a lock file that is just being written, or a
share that is away, must not let go of what a build needs.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from proxy.errors import Refused
from proxy.rules import lockfile
from proxy.rules.lockfile import Locked

_LARGEST = 64 * 2**20


@dataclass(frozen=True, slots=True)
class _Read:
    """What a file said when it was as `version` tells it."""

    version: tuple[int, ...]
    packages: tuple[Locked, ...]


class Pins:
    """`packages`: what all files together need. `problems`: file -> why it cannot be read now."""

    def __init__(self, files: Sequence[str]) -> None:
        self._files = files
        self._said: dict[str, _Read] = {}
        self.packages: frozenset[Locked] = frozenset()
        self.problems: dict[str, str] = {}

    def read(self) -> bool:
        """Look at all files; whether what they need is another than before."""
        for file in self._files:
            try:
                self._look(file)
                self.problems.pop(file, None)
            except OSError as error:
                self.problems[file] = error.strerror or str(error)
            except UnicodeDecodeError:
                self.problems[file] = "it is not text"
            except Refused as error:
                self.problems[file] = error.detail
        before, self.packages = self.packages, frozenset().union(*(said.packages for said in self._said.values()))
        return self.packages != before

    def _look(self, file: str) -> None:
        stat = os.stat(file)
        version = (stat.st_dev, stat.st_ino, stat.st_mtime_ns, stat.st_size)
        if file in self._said and self._said[file].version == version:
            return
        if stat.st_size > _LARGEST:
            raise Refused("it is too large for a lock file")
        self._said[file] = _Read(version, lockfile.read(Path(file).read_text(encoding="utf-8")).packages)
