"""What members of a fleet say to each other: one JSON object a line. It knows no medium.

Every message tells its version and its kind, so that members of different releases can share a fleet: a kind or a
version that a member does not know is none of its business.
"""

from __future__ import annotations

from typing import Any

import orjson

from proxy.model import Invalidation, Selection

LONGEST = 64 * 1024
"""Bytes of a line. An invalidation has some 200; what is longer comes from a stranger."""

Message = dict[str, Any]


def line(kind: str, **fields: Any) -> bytes:
    return orjson.dumps({"v": 1, "kind": kind, **fields}) + b"\n"


def understood(data: bytes) -> Message:
    """The message, or an empty one where it is not for us."""
    try:
        message = orjson.loads(data)
    except orjson.JSONDecodeError:
        return {}
    match message:
        case {"v": 1, "kind": str()}:
            return dict(message)
    return {}


def of_invalidation(invalidation: Invalidation) -> Message:
    selection = invalidation.selection
    return {
        "crate": selection.crate,
        "endpoint": selection.endpoint,
        "key": selection.key,
        "soft": invalidation.soft,
        "at": invalidation.at,
    }


def invalidation(message: Message) -> Invalidation | None:
    match message:
        case {
            "kind": "invalidation",
            "crate": str() | None as crate,
            "endpoint": str() | None as endpoint,
            "soft": bool() as soft,
            "at": float() | int() as at,
        }:
            key = message.get("key")  # members of an older release name none
            if key is None or isinstance(key, str):
                return Invalidation(Selection(crate, endpoint, key), soft, float(at))
    return None
