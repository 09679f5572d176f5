"""Bytes made from others: a seed, changed in a few places. The same dice make the same bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

LONGEST = 64 * 1024
"""Bytes of an input."""
# What readers treat in a way of its own: separators, brackets, limits of numbers, bytes that are no text.
_TOKENS = tuple(
    token.encode("latin-1")
    for token in (
        *"\0 \t\r\n\v:;,=&?#%/\\.\"'[]{}()<>+-_*@~^|",
        *("\r\n", "\r\n\r\n", "%00", "%2f", "%2e%2e", "%", "//", "/../", "\x7f", "\xff", "\xc3\x28", "\xef\xbb\xbf"),
        *("0", "-1", "1e999", "NaN", "Infinity", "4294967296", "18446744073709551616", "9" * 400, "null", "true"),
        *("[" * 200, "{" * 200, "chunked", "Transfer-Encoding: chunked\r\n", "Content-Length: 3\r\n", "Host: h\r\n"),
    )
)


def mutated(seeds: Sequence[bytes], dice: Random) -> bytes:
    """One of `seeds`, with up to eight changes."""
    data = bytearray(dice.choice(seeds))
    for _ in range(dice.choice((1, 1, 1, 2, 2, 4, 8))):
        dice.choice(_CHANGES)(data, seeds, dice)
    return bytes(data[:LONGEST])


def _flip(data: bytearray, seeds: Sequence[bytes], dice: Random) -> None:
    if data:
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)


def _put(data: bytearray, seeds: Sequence[bytes], dice: Random) -> None:
    if data:
        data[dice.randrange(len(data))] = dice.randrange(256)


def _insert(data: bytearray, seeds: Sequence[bytes], dice: Random) -> None:
    at = dice.randint(0, len(data))
    data[at:at] = dice.choice(_TOKENS)


def _replace(data: bytearray, seeds: Sequence[bytes], dice: Random) -> None:
    start, end = _span(data, dice)
    data[start:end] = dice.choice(_TOKENS)


def _remove(data: bytearray, seeds: Sequence[bytes], dice: Random) -> None:
    start, end = _span(data, dice)
    del data[start:end]


def _repeat(data: bytearray, seeds: Sequence[bytes], dice: Random) -> None:
    start, end = _span(data, dice)
    data[end:end] = data[start:end] * dice.choice((1, 1, 2, 50))


def _splice(data: bytearray, seeds: Sequence[bytes], dice: Random) -> None:
    other = dice.choice(seeds)
    start, end = _span(bytearray(other), dice)
    at = dice.randint(0, len(data))
    data[at : at + dice.choice((0, end - start))] = other[start:end]


def _cut(data: bytearray, seeds: Sequence[bytes], dice: Random) -> None:
    del data[dice.randint(0, len(data)) :]


def _span(data: bytearray, dice: Random) -> tuple[int, int]:
    """Somewhere in it, more often short than long."""
    start = dice.randint(0, len(data))
    return start, min(len(data), start + int(dice.choice((1, 4, 16, 64, 1024)) * dice.random()) + 1)


_CHANGES: tuple[Callable[[bytearray, Sequence[bytes], Random], None], ...] = (
    _flip,
    _put,
    _insert,
    _insert,
    _replace,
    _remove,
    _repeat,
    _splice,
    _cut,
)
