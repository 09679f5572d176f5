"""A file in zstd (RFC 8878), written or read in pieces, off the loop. It knows nothing of what is in it."""

from __future__ import annotations

import asyncio
import sys
from io import FileIO
from typing import BinaryIO, Literal

from proxy.errors import Refused

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_LEVEL = 3
_PIECE = 512 * 1024
"""Bytes that go to a thread at a time: a turn there costs as much as packing some 50 KiB."""
_WINDOW_LOG = 23
"""A reader holds a window of at most 8 MiB: what levels up to 19 ask for. A hostile file can ask for 2 GiB."""


class Packed:
    """Writes. `finish` ends the file, which without it is told as truncated."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        # The checksum costs nothing beside the rest, and tells damage in what lies between files.
        parameter = zstd.CompressionParameter
        options: dict[int, int] = {parameter.compression_level: _LEVEL, parameter.checksum_flag: 1}
        self._compressor = zstd.ZstdCompressor(options=options)
        self._pending = bytearray()
        self.size = 0
        """Bytes written to the file by now."""

    async def write(self, data: bytes) -> None:
        """OSError where the file cannot be written."""
        self._pending += data
        if len(self._pending) >= _PIECE:
            await self._flush(zstd.ZstdCompressor.CONTINUE)

    async def finish(self) -> None:
        await self._flush(zstd.ZstdCompressor.FLUSH_FRAME)

    async def _flush(self, mode: Literal[0, 1, 2]) -> None:
        pending, self._pending = self._pending, bytearray()

        def pack() -> int:
            made = self._compressor.compress(pending, mode)
            self._file.write(made)
            return len(made)

        self.size += await asyncio.to_thread(pack)


class Unpacked:
    """Reads. Where `file` gives what is there without waiting for more, so does this."""

    def __init__(self, file: BinaryIO | FileIO) -> None:
        options: dict[int, int] = {zstd.DecompressionParameter.window_log_max: _WINDOW_LOG}
        self._file = zstd.ZstdFile(file, options=options)
        self._ahead = b""

    async def read(self, size: int) -> bytes:
        """At most `size` bytes (and never more than a piece), none at the end only. Raises `Refused` where the file
        is damaged or ends too early; OSError where it cannot be read."""
        if not self._ahead:
            try:
                self._ahead = await asyncio.to_thread(self._file.read1, _PIECE)
            except EOFError:
                raise Refused("it ends too early: it was not written or not copied to its end") from None
            except zstd.ZstdError as error:
                raise Refused(f"it is no zstd file, or it is damaged ({error})") from None
        found, self._ahead = self._ahead[:size], self._ahead[size:]
        return found
