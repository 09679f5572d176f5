"""What a `Selection` takes, in terms of keys and tags. Pure; every store means the same by it."""

from __future__ import annotations

from proxy.model import Selection


def takes(selection: Selection, key: str, tag: str) -> bool:
    """Does the selection take the value under `key`, tagged `tag`? Both fields set: it must fit both."""
    return (selection.crate is None or selection.crate == tag) and of_endpoint(selection, key)


def of_endpoint(selection: Selection, key: str) -> bool:
    """Is the key of the selection's endpoint (any key, where it names none)?"""
    return selection.endpoint is None or key.startswith(prefix(selection.endpoint))


def prefix(endpoint: str) -> str:
    """What the keys of an endpoint begin with."""
    return f"{endpoint} "
