from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy.stores import envelope

KEYS = st.text(st.characters(exclude_categories=["Cs"]))


@given(KEYS, st.binary())
def test_a_value_comes_out_as_it_went_in(key: str, value: bytes) -> None:
    assert envelope.unframed(key, envelope.framed(key, value)) == value


@given(KEYS, KEYS, st.binary())
def test_another_key_gets_nothing(key: str, other: str, value: bytes) -> None:
    assert (envelope.unframed(other, envelope.framed(key, value)) == value) == (key == other)


@given(st.binary())
def test_bytes_of_another_make_are_no_value(frame: bytes) -> None:
    assert envelope.unframed("crate serde", frame) is None


def test_every_truncation_and_every_changed_byte_is_seen() -> None:
    frame = envelope.framed("crate serde", b"value")
    for end in range(len(frame)):
        assert envelope.unframed("crate serde", frame[:end]) is None
        changed = frame[:end] + bytes([frame[end] ^ 1]) + frame[end + 1 :]
        assert envelope.unframed("crate serde", changed) is None
    assert envelope.unframed("crate serde", frame + b"\0") is None


def test_another_version_is_absent() -> None:
    frame = bytearray(envelope.framed("crate serde", b"value"))
    frame[3] = envelope.VERSION + 1
    assert envelope.unframed("crate serde", bytes(frame)) is None
