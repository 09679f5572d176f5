"""diskcache's `Disk` without its faults: no pickle, no stray files. It knows nothing of what is stored.

Stock diskcache unpickles what it finds (CVE-2025-69872), so whoever can write its directory runs code in its
readers; it leaves a file behind whenever a write fails; and it writes large values line by line.
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from diskcache import UNKNOWN, Disk
from diskcache.core import MODE_BINARY, MODE_RAW

_FILENAME = re.compile(r"[0-9a-f]{2}/[0-9a-f]{2}/[0-9a-f]{28}\.val")


class GuardedDisk(Disk):  # type: ignore[misc]  # diskcache carries no types
    """Keys are str; values are bytes, or int (for counters). Any other row reads as a miss (OSError)."""

    def __init__(self, directory: str, **settings: Any) -> None:
        super().__init__(directory, **settings)
        self._directory: str
        self.min_file_size: int
        self._written = threading.local()

    def put(self, key: object) -> tuple[str, bool]:
        if type(key) is not str:
            raise TypeError("keys are str")
        return key, True

    def get(self, key: object, raw: object) -> str:
        if type(key) is not str or not raw:
            raise OSError("a key that this program did not write")
        return key

    def store(self, value: object, read: bool, key: object = UNKNOWN) -> tuple[int, int, str | None, object]:
        if type(value) is int:
            return 0, MODE_RAW, None, value
        if type(value) is not bytes or read:
            raise TypeError("values are bytes")
        if len(value) < self.min_file_size:
            return 0, MODE_RAW, None, sqlite3.Binary(value)
        filename, full_path = self.filename(key, value)
        self._write(full_path, (value,), "xb")
        self._files().append(filename)
        return len(value), MODE_BINARY, filename, None

    def fetch(self, mode: object, filename: object, value: object, read: bool) -> bytes | int:
        if mode == MODE_RAW and type(value) in (bytes, int) and not read:
            return value  # type: ignore[return-value]  # narrowed by `type() in`
        if mode == MODE_BINARY and not read:
            return (Path(self._directory) / self._checked(filename)).read_bytes()
        raise OSError("a value that this program did not write")

    def remove(self, file_path: object) -> None:
        """Remove a value's file; a path that a tampered row names elsewhere is left alone."""
        with contextlib.suppress(OSError):
            super().remove(self._checked(file_path))

    @contextlib.contextmanager
    def cleaning(self) -> Iterator[None]:
        """What this thread writes inside is removed again when the block fails."""
        self._written.files = []
        try:
            yield
        except BaseException:
            for filename in self._files():
                self.remove(filename)
            raise

    def _write(self, full_path: str, iterator: Iterable[bytes], mode: str, encoding: str | None = None) -> Any:
        try:
            return super()._write(full_path, iterator, mode, encoding)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(full_path)
            raise

    def _files(self) -> list[str]:
        files: list[str] = self._written.__dict__.setdefault("files", [])
        return files

    def _checked(self, filename: object) -> str:
        if not isinstance(filename, str) or _FILENAME.fullmatch(filename) is None:
            raise OSError("a file name that this program did not make")
        return filename
