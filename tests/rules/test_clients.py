from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.rules import clients
from proxy.rules.clients import Networks

FRONTS = Networks.of(["10.0.0.0/24", "fd00::/8"])

ADDRESSES = {
    "192.0.2.1": "192.0.2.1",
    " 192.0.2.1 ": "192.0.2.1",
    "192.0.2.1:4711": "192.0.2.1",
    "2001:db8::1": "2001:db8::1",
    "[2001:db8::1]": "2001:db8::1",
    "[2001:db8::1]:4711": "2001:db8::1",
    "::ffff:192.0.2.1": "192.0.2.1",
    "": None,
    "unknown": None,
    "_hidden": None,
    "192.0.2.1.5": None,
    "192.0.2.1, 192.0.2.2": None,
}


@pytest.mark.parametrize(("text", "expected"), ADDRESSES.items())
def test_an_address_is_read_as_front_servers_write_it(text: str, expected: str | None) -> None:
    found = clients.address(text)
    assert (None if found is None else str(found)) == expected


# Peer, what X-Forwarded-For says, the client.
CLIENTS: list[tuple[str | None, str, str | None]] = [
    ("192.0.2.1", "", "192.0.2.1"),
    ("192.0.2.1", "198.51.100.7", "192.0.2.1"),  # anybody can write that
    ("10.0.0.2", "", "10.0.0.2"),
    ("10.0.0.2", "192.0.2.1", "192.0.2.1"),
    ("10.0.0.2", "192.0.2.1, 10.0.0.3", "192.0.2.1"),
    ("10.0.0.2", "198.51.100.7, 192.0.2.1", "192.0.2.1"),  # what the client itself wrote stands before it
    ("10.0.0.2", "10.0.0.9,fd00::1", "10.0.0.9"),  # all of them are front servers: the first is the client
    ("10.0.0.2", "192.0.2.1, unknown", "10.0.0.2"),
    ("10.0.0.2", "unknown, 10.0.0.3", "10.0.0.3"),
    ("10.0.0.2", ",".join(["192.0.2.1", *["10.0.0.3"] * 60]), "10.0.0.3"),
    (None, "", None),
    (None, "192.0.2.1", "192.0.2.1"),
]


@pytest.mark.parametrize(("peer", "forwarded", "expected"), CLIENTS)
def test_the_list_is_believed_from_its_end_while_who_speaks_is_trusted(
    peer: str | None, forwarded: str, expected: str | None
) -> None:
    found = clients.client(clients.address(peer) if peer else None, forwarded, FRONTS)
    assert (None if found is None else str(found)) == expected


@given(st.ip_addresses(), st.text(max_size=80))
def test_who_is_not_trusted_is_the_client_whatever_it_says(peer: clients.Address, forwarded: str) -> None:
    assert clients.client(peer, forwarded, Networks()) == peer


def test_only_a_trusted_peer_tells_scheme_and_host() -> None:
    assert clients.trusted_peer(None, Networks())
    assert clients.trusted_peer(ipaddress.ip_address("10.0.0.2"), FRONTS)
    assert not clients.trusted_peer(ipaddress.ip_address("192.0.2.1"), FRONTS)


@pytest.mark.parametrize(
    ("who", "allowed", "expected"),
    [
        ("192.0.2.1", [], True),
        ("192.0.2.1", ["192.0.2.0/24"], True),
        ("192.0.2.1", ["198.51.100.0/24", "::/0"], False),
        ("2001:db8::1", ["2001:db8::/32"], True),
        (None, ["192.0.2.0/24"], True),
    ],
)
def test_who_is_in_an_allowed_network_is_admitted(who: str | None, allowed: list[str], expected: bool) -> None:
    assert clients.admitted(clients.address(who) if who else None, Networks.of(allowed)) is expected
