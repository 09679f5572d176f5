"""Secrets that are found again wherever they turn up, in whatever form."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Iterable, Mapping
from urllib.parse import quote


def canary() -> str:
    """A secret like no other. It does not look like a token of crates.io's, which the log masks in any case."""
    return f"Z{secrets.token_hex(9)}~/+{secrets.token_hex(9)}"


def forms(secret: str) -> set[bytes]:
    """The ways in which it could have been written: plain, as JSON, in a URL, in hexadecimal, and in base64 at each
    of the three places at which it may begin."""
    raw = secret.encode()
    found = {raw, json.dumps(secret)[1:-1].encode(), raw.hex().encode(), raw.hex().upper().encode()}
    found |= {quote(secret).encode(), quote(secret, safe="").encode(), quote(secret, safe="").lower().encode()}
    for before in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            # The first and the last letters depend on what stands beside it.
            found.add(encode(b"x" * before + raw).rstrip(b"=")[4:-4])
    # A part of it is as bad.
    return found | {secret.partition("~")[0].encode(), secret.rpartition("+")[2].encode()}


def told(secrets: Mapping[str, str], places: Iterable[tuple[str, bytes]]) -> list[str]:
    """Which of these secrets, by what they are, are in which of these places."""
    known = {name: forms(secret) for name, secret in secrets.items()}
    return [
        f"{name} in {place}: …{_around(data, form)!r}…"
        for place, data in places
        for name, each in known.items()
        for form in each
        if form in data
    ]


def _around(data: bytes, form: bytes) -> bytes:
    at = data.index(form)
    return data[max(0, at - 80) : at + len(form) + 40]
