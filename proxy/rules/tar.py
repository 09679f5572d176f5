"""The tar format (pax, POSIX.1-2001), as far as an archive of a cache needs it: regular files, with records.

It makes and reads headers, and never a file: what an archive names is a text here. Links, devices and everything
else that could reach out of an archive has no form to be read into.
"""

from __future__ import annotations

import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from proxy.errors import Refused

BLOCK = 512
END = bytes(2 * BLOCK)
"""Two blocks of zeros: nothing follows."""
LONGEST_RECORDS = 256 * 1024
"""Bytes of one file's records. Those of an answer are its header fields, which are far smaller."""

_MODE = 0o644
_DIGITS = 16  # of a number in a record: more bytes than any file has


class Kind(Enum):
    FILE = auto()
    RECORDS = auto()  # of the file behind them
    DIRECTORY = auto()


@dataclass(frozen=True, slots=True)
class Header:
    """`size`: of what follows, without its padding."""

    kind: Kind
    name: str
    size: int


_KINDS = {
    tarfile.REGTYPE: Kind.FILE,
    tarfile.AREGTYPE: Kind.FILE,
    tarfile.XHDTYPE: Kind.RECORDS,
    tarfile.DIRTYPE: Kind.DIRECTORY,
}


def header(name: str, size: int, records: Mapping[str, str]) -> bytes:
    """What stands before a file's bytes. The same for the same arguments: no time, no owner."""
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.pax_headers = size, _MODE, dict(records)
    return info.tobuf(tarfile.PAX_FORMAT)


def padding(size: int) -> int:
    """How many zeros follow so many bytes."""
    return -size % BLOCK


def parsed(block: bytes) -> Header | None:
    """The header in a block; None for a block of zeros. Raises `Refused`."""
    if not any(block):
        return None
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
    except (tarfile.HeaderError, UnicodeDecodeError):
        raise Refused("this is no header of a tar archive") from None
    if info.type not in _KINDS:
        raise Refused(f"{_shown(info.name)} is a link, a device or in a form that is not read here (pax is)")
    if info.size < 0:
        raise Refused(f"{_shown(info.name)} has less than no bytes")
    return Header(_KINDS[info.type], info.name, info.size)


def records(data: bytes) -> dict[str, str]:
    """The records of a file, `LENGTH KEYWORD=VALUE` and a line feed each. Raises `Refused`."""
    found: dict[str, str] = {}
    start = 0
    while start < len(data):
        space = data.find(b" ", start, start + _DIGITS)
        length = data[start : max(space, start)]
        end = start + int(length) if length.isdigit() else 0
        keyword, equals, value = data[space + 1 : max(end - 1, 0)].partition(b"=")
        if not space < end <= len(data) or data[end - 1 : end] != b"\n" or not equals:
            raise Refused("the records of a file cannot be read")
        try:
            found[keyword.decode()] = value.decode()
        except UnicodeDecodeError:
            raise Refused("the records of a file are not UTF-8") from None
        start = end
    return found


def described(plain: Header, told: Mapping[str, str]) -> Header:
    """A file's header with what its records say of name and size. Raises `Refused`."""
    size = told.get("size", str(plain.size))
    if not (size.isascii() and size.isdigit() and len(size) <= _DIGITS):
        raise Refused(f"{_shown(plain.name)} has a size that is no number")
    return Header(plain.kind, told.get("path", plain.name), int(size))


def _shown(name: str) -> str:
    return repr(name[:200])
