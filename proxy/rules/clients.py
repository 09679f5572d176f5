"""Who a client is: its address, also behind front servers that say for whom they ask, and whether it may ask at all.

It knows addresses and what is claimed about them. It knows no setting by its place and no connection.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

LONGEST = 50
"""Addresses in one X-Forwarded-For that are looked at: more front servers than anybody has in a row."""


@dataclass(frozen=True, slots=True)
class Networks:
    """A set of networks."""

    networks: tuple[Network, ...] = ()

    @classmethod
    def of(cls, texts: Iterable[str]) -> Networks:
        return cls(tuple(ipaddress.ip_network(text) for text in texts))

    def __bool__(self) -> bool:
        return bool(self.networks)

    def __contains__(self, address: Address) -> bool:
        return any(address in network for network in self.networks)


def address(text: str) -> Address | None:
    """An address as peers and front servers write it: with a port or brackets too, IPv4 in IPv6 as IPv4. None for
    what is none."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found


def client(peer: Address | None, forwarded_for: str, trusted: Networks) -> Address | None:
    """For whom a request is. `peer`: who made the connection, None for a Unix socket, whose peer is a front server of
    this machine. `forwarded_for`: all that X-Forwarded-For says.

    Each front server appends who asked it, so the list is believed from its end, for as long as those who speak are
    trusted. The first who is not is the client; where a trusted one says what is no address, it is itself.
    """
    if peer is not None and peer not in trusted:
        return peer
    speaker = peer
    for text in reversed(forwarded_for.split(",")[-LONGEST:]):
        found = address(text)
        if found is None:
            return speaker
        if found not in trusted:
            return found
        speaker = found
    return speaker


def trusted_peer(peer: Address | None, trusted: Networks) -> bool:
    """Whether what the peer says of the request's own scheme and host is believed."""
    return peer is None or peer in trusted


def admitted(who: Address | None, allowed: Networks) -> bool:
    """Whether a client may use the proxy. Whoever may open the Unix socket may."""
    return not allowed or who is None or who in allowed
