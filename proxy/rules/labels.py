"""Which label a client goes by in the books: a header's value, or that of the network it is in.

Pure: how many labels there are is for who counts them to bound.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass

from proxy.model import Headers
from proxy.rules import headers as headers_
from proxy.rules.clients import Address, Network

NONE = "(none)"
"""Whoever has no label. No label of a client's own has parentheses."""
LONGEST = 64
"""Characters of a label; whatever is behind them is dropped."""

_FOREIGN = re.compile(r"[^A-Za-z0-9 ._:/@+=,#-]+")


def sanitised(value: bytes) -> str:
    """What of a header's value is a label: letters, digits and ` ._:/@+=,#-`, each run of others as one `_`."""
    text = _FOREIGN.sub("_", value.decode("utf-8", "replace"))
    return " ".join(text.split())[:LONGEST].rstrip()


@dataclass(frozen=True, slots=True)
class Labels:
    """`header`: the name of a field, lower-case, b"" for none. `networks`: the narrowest first."""

    header: bytes = b""
    networks: tuple[tuple[Network, str], ...] = ()

    @classmethod
    def of(cls, header: str, networks: Mapping[str, str]) -> Labels:
        """From what the settings say. Raises `ValueError` for what is no network."""
        parsed = [(ipaddress.ip_network(network), label) for network, label in networks.items()]
        return cls(header.lower().encode("ascii"), tuple(sorted(parsed, key=lambda pair: -pair[0].prefixlen)))

    @property
    def wanted(self) -> bool:
        return bool(self.header or self.networks)

    def named(self, fields: Headers) -> str:
        """What the client calls itself, "" where it does not."""
        value = headers_.value(fields, self.header) if self.header else None
        return sanitised(value) if value is not None else ""

    def placed(self, address: Address | None) -> str:
        """What the client's network is called; None for a client on a Unix socket."""
        found = (label for network, label in self.networks if address is not None and address in network)
        return next(found, NONE)
