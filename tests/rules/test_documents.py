from __future__ import annotations

import json
import tracemalloc

import pytest

from proxy.rules import documents
from proxy.rules.documents import MOST


@pytest.mark.parametrize("text", [b"", b"{", b"<html>", b'"\xff"', b"[" * 100_000, b"9" * 5000])
def test_what_is_no_json_is_told(text: bytes) -> None:
    with pytest.raises(ValueError, match="it is not JSON"):
        documents.parsed(text)


@pytest.mark.parametrize("part", [b"{},", b"[],", b"0,"])
def test_a_bomb_is_told_without_being_set_off(part: bytes) -> None:
    text = b"[" + part * MOST + b"0]"
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="it has more than 4000000 parts"):
            documents.parsed(text)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_the_largest_page_that_is_known_is_read() -> None:
    """Nine versions with 23,000 features each."""
    features: dict[str, list[str]] = {f"icon-{number:06}{'-of-a-collection' * 4}": [] for number in range(23_000)}
    versions = [{"num": f"0.0.{number}", "features": features} for number in range(9)]
    page = {"crate": {"id": "icondata"}, "versions": versions}
    text = json.dumps(page, separators=(",", ":")).encode()
    assert len(text) > 16_000_000
    assert documents.parsed(text) == page
