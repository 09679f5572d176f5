"""Content codings (RFC 9110 section 8.4): which one a client takes, and gzip made and unmade within bounds."""

from __future__ import annotations

import re
import zlib

GZIP = b"gzip"
WORTH = 1024
"""Bytes from which coding saves more than its fields cost."""

_PASSED_ON = (b"br", GZIP, b"zstd")  # what browsers and curl take, and servers give
_TEXT = re.compile(rb"(text/|application/(json|javascript|xml)|image/svg)", re.IGNORECASE)
_MEMBER = re.compile(rb"\s*([!#$%&'*+\-.^_`|~0-9A-Za-z]+)\s*(?:;\s*q=([01](?:\.[0-9]{0,3})?))?\s*")
_GZIP_WINDOW = 31  # zlib: a gzip header and trailer around 32 KiB of window
_LEVEL = 6  # 0.2 ms for a crate's page of 87 KB; higher levels cost more than they save


def takes_gzip(accept_encoding: bytes | None) -> bool:
    """Whether a client takes gzip: named or by `*`, with a weight above 0. Without the field identity is what
    every client takes for sure (RFC 9110 section 12.5.3)."""
    return _takes(_weights(accept_encoding), GZIP)


def accepted(accept_encoding: bytes | None) -> bytes:
    """Accept-Encoding as it goes upstream where answers are passed on in the coding that they come in: one spelling
    for all clients that take the same, so that what is stored for one fits the others."""
    weights = _weights(accept_encoding)
    return b", ".join([coding for coding in _PASSED_ON if _takes(weights, coding)]) or b"identity"


def _weights(accept_encoding: bytes | None) -> dict[bytes, float]:
    weights: dict[bytes, float] = {}
    for member in (accept_encoding or b"").split(b","):
        if (match := _MEMBER.fullmatch(member)) is not None:
            coding = match[1].lower()
            weights.setdefault(GZIP if coding == b"x-gzip" else coding, float(match[2] or 1))
    return weights


def _takes(weights: dict[bytes, float], coding: bytes) -> bool:
    return weights.get(coding, weights.get(b"*", 0.0)) > 0


def coded(content_type: bytes, body: bytes) -> bytes | None:
    """The body in gzip, always the same for the same body; None where that is not worth it."""
    if len(body) < WORTH or _TEXT.match(content_type) is None:
        return None
    maker = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP_WINDOW)
    made = maker.compress(body) + maker.flush()
    return made if len(made) < len(body) else None


def decoded(data: bytes, limit: int) -> bytes | None:
    """What a gzip body holds; None where it is not whole, not gzip, or holds more than `limit` bytes."""
    reader = zlib.decompressobj(_GZIP_WINDOW)
    try:
        body = reader.decompress(data, limit + 1)
    except zlib.error:
        return None
    return body if reader.eof and not reader.unused_data and len(body) <= limit else None
