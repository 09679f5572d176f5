from __future__ import annotations

import ipaddress

import pytest

from proxy.rules import labels
from proxy.rules.labels import Labels

NETWORKS = {"10.0.0.0/8": "office", "10.1.0.0/16": "ci", "fd00::/8": "lab"}


@pytest.mark.parametrize(
    ("value", "label"),
    [
        (b"payments", "payments"),
        (b"team/a: b@c+d=e,f#1_2.3-4", "team/a: b@c+d=e,f#1_2.3-4"),
        (b"  two   words ", "two words"),
        (b'x"} 1\r\ncrates_proxy 2{', "x_ 1_crates_proxy 2_"),
        (b"<script>", "_script_"),
        ("büro".encode(), "b_ro"),
        (b"\xff\xfe", "_"),
        (b"(none)", "_none_"),
        (b"a\tb", "a_b"),
        (b"x" * 100, "x" * 64),
        (b"x" * 63 + b" y", "x" * 63),
        (b"", ""),
    ],
)
def test_a_label_from_a_header_has_harmless_characters_and_an_end(value: bytes, label: str) -> None:
    assert labels.sanitised(value) == label


@pytest.mark.parametrize(
    ("address", "label"),
    [
        ("10.2.3.4", "office"),
        ("10.1.3.4", "ci"),
        ("fd00::1", "lab"),
        ("192.0.2.1", labels.NONE),
    ],
)
def test_the_narrowest_network_labels_an_address(address: str, label: str) -> None:
    assert Labels.of("", NETWORKS).placed(ipaddress.ip_address(address)) == label


def test_a_client_on_a_unix_socket_is_in_no_network() -> None:
    assert Labels.of("", NETWORKS).placed(None) == labels.NONE


def test_a_client_calls_itself_by_the_header_of_the_settings_and_no_other() -> None:
    found = Labels.of("X-Project", {})
    assert found.named(((b"x-project", b"a"), (b"x-other", b"b"))) == "a"
    assert found.named(((b"x-other", b"b"),)) == ""
    assert Labels.of("", NETWORKS).named(((b"x-project", b"a"),)) == ""


@pytest.mark.parametrize(
    ("header", "networks", "wanted"), [("", {}, False), ("X-Project", {}, True), ("", NETWORKS, True)]
)
def test_nobody_is_labelled_where_the_settings_are_silent(header: str, networks: dict[str, str], wanted: bool) -> None:
    assert Labels.of(header, networks).wanted is wanted
