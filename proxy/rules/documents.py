"""JSON from upstream as objects, of which there are never more than crates.io has reason for."""

from __future__ import annotations

import json
from typing import Any

MOST = 4_000_000
"""Parts, as counted by commas and opening brackets. crates.io's largest page so far, of a crate with 23,000 features,
has half a million in 20 MB; a body of that size that consists of nothing else takes 25 times its bytes."""


def parsed(text: bytes) -> Any:
    """What a JSON text (RFC 8259) says. Raises ValueError, which tells what is wrong, for any other."""
    if len(text) > MOST and sum(text.count(mark) for mark in (b",", b"[", b"{")) > MOST:
        raise ValueError(f"it has more than {MOST} parts")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError("it is not JSON") from error
