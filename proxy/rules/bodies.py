"""What a 200 has to look like before it is believed: a captive portal and a cargo-style error are 200s too."""

from __future__ import annotations

import json

from proxy.rules import sparse
from proxy.rules.endpoints import Kind

_LONGEST = 500  # characters of upstream's words that are passed on and logged


def fault(kind: Kind, content_type: bytes, body: bytes) -> str | None:
    """Why this body is not what a row of this kind answers with 200; None when it is."""
    if kind is Kind.JSON:
        return _json_fault(content_type, body)
    if kind is Kind.INDEX and next(sparse.releases(body), None) is None:
        return "it holds no line of an index file"
    return None


def reason(body: bytes) -> str | None:
    """The first detail of crates.io's error form, on one line and not for ever; None for any other body."""
    try:
        return " ".join(str(json.loads(body)["errors"][0]["detail"])[:_LONGEST].split())
    except (ValueError, TypeError, LookupError, RecursionError):
        return None


def _json_fault(content_type: bytes, body: bytes) -> str | None:
    if not content_type.lower().startswith(b"application/json"):
        return f"it is {content_type.decode('latin-1') or 'of no type'}, not JSON"
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return "it is not JSON"
    # The code of crates.io can flatten errors to 200 for cargo's sake; cargo too goes by the key.
    if isinstance(content, dict) and "errors" in content:
        return reason(body) or "it lists errors"
    return None
