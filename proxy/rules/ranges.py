"""Which part of a file a request asks for (RFC 9110 section 14): one range of bytes, or the whole."""

from __future__ import annotations

import re
from dataclasses import dataclass

from proxy.rules.conditional import http_date

_HEADER = re.compile(rb"bytes=(.*)", re.IGNORECASE | re.DOTALL)
_RANGE = re.compile(rb"([0-9]*)-([0-9]*)")
_SPACE = b" \t"
_FAR = 10**20  # past the end of anything; Python refuses to convert thousands of digits, and nobody needs them
_FAR_DIGITS = 20


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes `first` to `last`, both included, of a file of `size` bytes: a 206."""

    first: int
    last: int
    size: int

    @property
    def length(self) -> int:
        return self.last - self.first + 1

    @property
    def content_range(self) -> bytes:
        return b"bytes %d-%d/%d" % (self.first, self.last, self.size)


@dataclass(frozen=True, slots=True)
class Unsatisfiable:
    """A range, but none of a file of `size` bytes: a 416."""

    size: int

    @property
    def content_range(self) -> bytes:
        return b"bytes */%d" % self.size


def single(header: bytes, size: int) -> Span | Unsatisfiable | None:
    """What a Range field asks of a file of `size` bytes; None: serve the whole.

    Several ranges, other units and what cannot be read are ignored, as section 14.2 allows.
    """
    match = _HEADER.fullmatch(header)
    if match is None:
        return None
    ranges = [part for part in (piece.strip(_SPACE) for piece in match[1].split(b",")) if part]
    if len(ranges) != 1 or (bounds := _RANGE.fullmatch(ranges[0])) is None:
        return None
    if bounds[1]:
        return _from_start(_number(bounds[1]), _number(bounds[2]) if bounds[2] else _FAR, size)
    return _from_end(_number(bounds[2]), size) if bounds[2] else None


def asks(header: bytes) -> bool:
    """Whether a Range field asks for a part of a file, however large that is."""
    return single(header, _FAR) is not None


def _from_start(first: int, last: int, size: int) -> Span | Unsatisfiable | None:
    if first > last:
        return None
    return Span(first, min(last, size - 1), size) if first < size else Unsatisfiable(size)


def _from_end(length: int, size: int) -> Span | Unsatisfiable | None:
    if length == 0:
        return Unsatisfiable(size)
    # The last bytes of an empty file are satisfiable (section 14.1.2), yet no Content-Range can tell them.
    return Span(max(size - length, 0), size - 1, size) if size else None


def _number(digits: bytes) -> int:
    digits = digits.lstrip(b"0")
    return int(digits or b"0") if len(digits) <= _FAR_DIGITS else _FAR


def if_range_matches(value: bytes, etag: str, last_modified: bytes | None) -> bool:
    """Whether the part asked for still belongs to what the client has (RFC 9110 section 13.1.5).

    Strong comparison: a weak tag never matches, a date only where it is the very one that was sent.
    """
    text = value.decode("latin-1")
    if text.startswith(('"', "W/")):
        return text == etag and not etag.startswith("W/")
    date = http_date(value)
    return date is not None and last_modified is not None and date == http_date(last_modified)
