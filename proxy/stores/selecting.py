"""What a `Selection` takes, in terms of keys. Pure; every store means the same by it."""

from __future__ import annotations

from proxy.model import Selection


def takes(selection: Selection, key: str) -> bool:
    """Is it one of the selection's endpoint and of its key, as far as it names them? A key's variants count as it."""
    if selection.key is not None and key != selection.key and not key.startswith(f"{selection.key} "):
        return False
    return of_endpoint(selection, key)


def of_endpoint(selection: Selection, key: str) -> bool:
    """Is the key of the selection's endpoint (any key, where it names none)?"""
    return selection.endpoint is None or key.startswith(prefix(selection.endpoint))


def prefix(endpoint: str) -> str:
    """What the keys of an endpoint begin with."""
    return f"{endpoint} "
