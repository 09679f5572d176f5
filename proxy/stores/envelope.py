"""How a stored value is framed, so that a read can tell whether it is whole and really this key's.

Pure functions over bytes. It knows no medium and nothing of what the value means.
"""

from __future__ import annotations

import struct
import zlib

VERSION = 2
"""Raised whenever the frame or what is written into it changes; media keep versions apart by it."""

_MAGIC = b"cp"
_START = struct.Struct(">2sHIQI")  # magic, version, length of key, length of value, CRC-32 of both


def framed(key: str, value: bytes) -> bytes:
    """The bytes to store for `value` under `key`. UnicodeError for a key that UTF-8 cannot spell."""
    name = key.encode()
    check = zlib.crc32(value, zlib.crc32(name))
    return b"".join((_START.pack(_MAGIC, VERSION, len(name), len(value), check), name, value))


def unframed(key: str, frame: bytes) -> bytes | None:
    """The value that `framed` made of this very key; None for anything else.

    Another key, another version, a byte too few, too many or changed: all of it is None. The checksum is
    there because a file system may keep a file's length and lose its blocks when the power goes.
    """
    if len(frame) < _START.size:
        return None
    magic, version, name_size, value_size, check = _START.unpack_from(frame)
    start = _START.size + name_size
    if (magic, version, len(frame)) != (_MAGIC, VERSION, start + value_size):
        return None
    if frame[_START.size : start] != key.encode():
        return None
    return frame[start:] if zlib.crc32(memoryview(frame)[_START.size :]) == check else None
