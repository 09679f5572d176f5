"""Is what came the file that the index promised? SHA-256, taken piece by piece as the bytes pass."""

from __future__ import annotations

import hashlib


class Digest:
    """`expected`: 64 hexadecimal digits, in either case."""

    def __init__(self, expected: str) -> None:
        self._expected = expected.lower()
        self._hash = hashlib.sha256()
        self.size = 0

    def update(self, data: bytes | bytearray) -> None:
        self._hash.update(data)
        self.size += len(data)

    def matches(self) -> bool:
        """Of all that was taken so far."""
        return self._hash.hexdigest() == self._expected
