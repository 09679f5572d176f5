"""Which request fields an answer was selected by (RFC 9111 section 4.1): the secondary key of what is stored.

It is made from the fields as they go upstream: where this proxy sends one value for all of its clients, as it does
for Accept-Encoding, there is one variant. Only a digest of the values is kept, for they may be secrets.
"""

from __future__ import annotations

import hashlib

from proxy.model import Headers
from proxy.rules import headers

SLOTS = 16
"""Variants kept beside the first of a key; where two fall into one slot, the later one replaces the other."""

_ANYTHING = "*"
# Fields in which neither case nor the order of members has a meaning (RFC 9110 sections 12.5.2 to 12.5.4).
_UNORDERED = frozenset(("accept-charset", "accept-encoding", "accept-language"))


def names(fields: Headers) -> tuple[str, ...] | None:
    """The names in Vary, sorted; None for `*`: such an answer is good for nothing but its own request."""
    listed = (headers.value(fields, b"vary") or b"").decode("latin-1").lower().split(",")
    found = sorted({name.strip() for name in listed} - {""})
    return None if _ANYTHING in found else tuple(found)


def variant(vary: tuple[str, ...], sent: Headers) -> str:
    """What stands for the values of these fields in a request as it was sent upstream; "" where there are none."""
    if not vary:
        return ""
    digest = hashlib.sha256()
    for name in vary:
        value = headers.value(sent, name.encode("latin-1"))
        digest.update(b"-" if value is None else b"%d:%b" % (len(normal := normalised(name, value)), normal))
    return digest.hexdigest()


def normalised(name: str, value: bytes) -> bytes:
    """The value without what makes no difference. White space inside of quotation marks may make one."""
    if b'"' in value:
        return value
    members = [member.strip() for member in value.split(b",")]
    return b",".join(sorted(member.lower() for member in members) if name in _UNORDERED else members)


def slot(key: str, variant: str) -> str:
    """Where a variant is kept that is not the first of its key."""
    return f"{key} {int(variant[:8], 16) % SLOTS}"


def family(key: str) -> tuple[str, ...]:
    """All places where something may be kept for a key."""
    return key, *(f"{key} {number}" for number in range(SLOTS))
