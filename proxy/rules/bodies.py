"""What a 200 has to look like before it is believed: a captive portal and a cargo-style error are 200s too."""

from __future__ import annotations

from proxy.rules import documents, names, sparse
from proxy.rules.endpoints import Kind

_LONGEST = 500  # characters of upstream's words that are passed on and logged


def fault(kind: Kind, content_type: bytes, body: bytes, crate: str = "") -> str | None:
    """Why this body is not what a row of this kind answers with 200; None when it is. `crate`: the folded name of the
    crate that was asked for: an answer out of step with the questions would be about another."""
    if kind is Kind.JSON:
        return _json_fault(content_type, body, crate)
    if kind is Kind.INDEX:
        first = next(sparse.releases(body), None)
        return "it holds no line of an index file" if first is None else _foreign(first.name, crate)
    return None


def reason(body: bytes) -> str | None:
    """The first detail of crates.io's error form, on one line and not for ever; None for any other body."""
    try:
        return " ".join(str(documents.parsed(body)["errors"][0]["detail"])[:_LONGEST].split())
    except (ValueError, TypeError, LookupError):
        return None


def _json_fault(content_type: bytes, body: bytes, crate: str) -> str | None:
    if not content_type.lower().startswith(b"application/json"):
        return f"it is {content_type.decode('latin-1') or 'of no type'}, not JSON"
    try:
        content = documents.parsed(body)
    except ValueError as error:
        return str(error)
    # The code of crates.io can flatten errors to 200 for cargo's sake; cargo too goes by the key.
    if isinstance(content, dict) and "errors" in content:
        return reason(body) or "it lists errors"
    match content:
        case {"crate": {"id": str(name)}} | {"version": {"crate": str(name)}}:
            return _foreign(name, crate)
    return None


def _foreign(name: str, crate: str) -> str | None:
    return f"it tells of another crate, `{name[:_LONGEST]}`" if crate and names.folded(name) != crate else None
