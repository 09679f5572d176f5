from __future__ import annotations

import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.rules.publish import NameReader

MIB = 1024 * 1024


def body(metadata: bytes, length: int | None = None) -> bytes:
    return (len(metadata) if length is None else length).to_bytes(4, "little") + metadata + b"\3\0\0\0tar"


def read(*pieces: bytes) -> NameReader:
    reader = NameReader()
    for piece in pieces:
        reader.feed(piece)
    return reader


GOOD = body(json.dumps({"name": "Foo_bar", "vers": "1.0.0"}).encode())

# what, whether that settles it
NAMELESS = {
    "no JSON": (body(b"{"), True),
    "not UTF-8": (body(b'{"name": "\xff"}'), True),
    "nested beyond reason": (body(b'{"name": ' + b"[" * 100_000), True),
    "no object": (body(b'["name"]'), True),
    "no name": (body(b'{"vers": "1.0.0"}'), True),
    "name of another type": (body(b'{"name": 1}'), True),
    "no crate name": (body(b'{"name": "a/b"}'), True),
    "no metadata": (body(b""), True),
    "metadata too long": (body(b'{"name": "a"}', length=MIB + 1), True),
    "metadata cut short": (body(b'{"name": "a"}', length=100), False),
    "length cut short": (b"\1\0\0", False),
    "nothing": (b"", False),
}


@pytest.mark.parametrize(("content", "done"), NAMELESS.values(), ids=NAMELESS.keys())
def test_what_cannot_be_understood_has_no_name(content: bytes, done: bool) -> None:
    reader = read(content)
    assert reader.name is None
    assert reader.done is done


@given(st.lists(st.integers(0, len(GOOD))))
def test_the_name_is_found_however_the_body_is_cut(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(GOOD)]
    reader = read(*(GOOD[start:end] for start, end in zip(edges, edges[1:], strict=False)))
    assert reader.done
    assert reader.name == "Foo_bar"


def test_the_name_is_known_before_the_tarball_comes() -> None:
    assert read(GOOD[:-7]).name == "Foo_bar"
    assert read(GOOD[:-8]).name is None


def test_metadata_of_the_greatest_length_are_read() -> None:
    assert read(body(b'{"name": "a"}'.ljust(MIB))).name == "a"


@given(st.binary(), st.binary())
def test_no_bytes_can_upset_the_reader(start: bytes, rest: bytes) -> None:
    read(start, rest)
    read(body(start), rest)


def test_a_tarball_is_not_held() -> None:
    piece = bytes(MIB)
    tracemalloc.start()
    try:
        read(GOOD, *[piece] * 100)
        read((MIB).to_bytes(4, "little"), *[piece] * 100)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * MIB
