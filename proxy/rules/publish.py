"""Which crate does a publish change? The name inside the body, read as it passes and without touching it.

The body: a length (32 bits, little endian), that many bytes of JSON, another length, the tarball. A body that
cannot be understood has no name; whether it is accepted is upstream's business.
"""

from __future__ import annotations

import json

from proxy.rules import names

_LENGTH = 4
_MAX_METADATA = 1024 * 1024  # crates.io refuses more


class NameReader:
    """Feed it the body's pieces in order. It holds a length and the metadata at most, and never raises."""

    def __init__(self) -> None:
        self.name: str | None = None
        self.done = False
        """Whether `name` is final: known, or known to be absent."""
        self._held = bytearray()

    def feed(self, piece: bytes) -> None:
        if self.done:
            return
        self._held += piece[: _LENGTH + _MAX_METADATA - len(self._held)]
        if len(self._held) < _LENGTH:
            return
        length = int.from_bytes(self._held[:_LENGTH], "little")
        if length > _MAX_METADATA:
            self._finish(None)
        elif len(self._held) >= _LENGTH + length:
            self._finish(_name(bytes(self._held[_LENGTH : _LENGTH + length])))

    def _finish(self, name: str | None) -> None:
        self.name, self.done, self._held = name, True, bytearray()


def _name(metadata: bytes) -> str | None:
    try:
        fields = json.loads(metadata)
    except (ValueError, RecursionError):
        return None
    match fields:
        case {"name": str(name)} if names.is_name(name):
            return name
        case _:
            return None
