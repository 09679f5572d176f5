from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import Refused
from proxy.model import Host
from proxy.rules import addresses

ORIGINS = {
    Host.API: "https://crates.io",
    Host.INDEX: "https://index.crates.io",
    Host.STATIC: "https://static.crates.io",
}
BASE = "http://mirror:8080"
HOSTS = ("mirror.example", "other.example:81")

# Host field -> the base that it makes, None for one that is not believed.
BASES = {
    b"localhost": "http://localhost",
    b"localhost:8080": "http://localhost:8080",
    b"localhost:": "http://localhost:",
    b"localhost:65535": "http://localhost:65535",
    b"LOCALHOST:80": "http://localhost:80",
    b"127.0.0.1": "http://127.0.0.1",
    b"10.1.2.3:8080": "http://10.1.2.3:8080",
    b"[::1]": "http://[::1]",
    b"[FE80::1]:8080": "http://[fe80::1]:8080",
    b"[::ffff:10.0.0.1]": "http://[::ffff:10.0.0.1]",
    b"mirror.example": "http://mirror.example",
    b"Mirror.Example:8080": "http://mirror.example:8080",
    b"other.example:81": "http://other.example:81",
    b"other.example:82": None,
    b"other.example": None,
    b"": None,
    b":80": None,
    b"evil.example": None,
    b"mirror.example.evil.example": None,
    b"localhost.evil.example": None,
    b"localhost:65536": None,
    b"localhost:999999999999": None,
    b"localhost:+80": None,
    b"localhost:80:80": None,
    b"localhost, localhost": None,
    b"user@localhost": None,
    b"localhost/path": None,
    b"localhost?": None,
    b"localhost#": None,
    b"localhost\\x": None,
    b"local\thost": None,
    b" localhost": None,
    b"localhost\n": None,
    b"evil.example[::1]": None,
    b"[::1]evil.example": None,
    b"[::1%evil]": None,
    b"[::1%25eth0]": None,
    b"[127.0.0.1]": None,
    b"[]": None,
    b"[v1.a]": None,
    b"::1": None,
    b"127.1": None,
    b"1.2.3.4.5": None,
    b"256.0.0.1": None,
    b"2130706433": None,
    b"\xff": None,
}

REWRITTEN = {
    "https://crates.io": BASE,
    "https://crates.io/": BASE + "/",
    "https://crates.io/api/v1/crates/foo?a=b": BASE + "/api/v1/crates/foo?a=b",
    "https://index.crates.io/3/f/foo": BASE + "/index/3/f/foo",
    "https://static.crates.io/crates/foo/foo-1.0.0.crate": BASE + "/files/crates/foo/foo-1.0.0.crate",
    "https://static.crates.io": BASE + "/files",
    "https://crates.io.evil.example/": None,
    "https://crates.io:8443/": None,
    "https://crates.io@evil.example/": None,
    "http://crates.io/": None,
    "//crates.io/": None,
    "/crates/foo": None,
    "": None,
}


@pytest.mark.parametrize("host", BASES)
def test_only_a_host_that_is_known_becomes_part_of_an_answer(host: bytes) -> None:
    expected = BASES[host]
    if expected is None:
        with pytest.raises(Refused, match=r"server\.public_url") as caught:
            addresses.base("", HOSTS, "http", host)
        assert caught.value.status == 400
    else:
        assert addresses.base("", HOSTS, "http", host) == expected


def test_the_scheme_of_the_request_is_kept() -> None:
    assert addresses.base("", (), "https", b"localhost:8443") == "https://localhost:8443"


@pytest.mark.parametrize("host", [b"localhost", b"evil.example", b""])
def test_a_configured_url_wins_over_every_host(host: bytes) -> None:
    assert addresses.base("https://mirror.example/x", (), "http", host) == "https://mirror.example/x"


def test_a_refusal_repeats_no_more_than_the_start_of_a_host() -> None:
    with pytest.raises(Refused) as caught:
        addresses.base("", (), "http", b"x" * 30_000)
    assert len(caught.value.detail) < 300


@given(st.binary(max_size=40) | st.from_regex(rb"\A[\[\]0-9a-z.:%@/]{1,20}\Z"))
def test_any_host_is_refused_or_becomes_a_plain_base(host: bytes) -> None:
    try:
        base = addresses.base("", HOSTS, "http", host)
    except Refused as error:
        assert error.status == 400
    else:
        assert base == "http://" + host.decode("ascii").lower()
        assert set(base[7:]) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-_:[]")


@pytest.mark.parametrize("url", REWRITTEN)
def test_an_address_of_a_configured_host_becomes_one_of_this_proxy(url: str) -> None:
    assert addresses.rewritten(url, ORIGINS, BASE) == REWRITTEN[url]


def test_site_metadata_names_this_proxy_as_its_cdn() -> None:
    body = b'{"deployed_sha":"a","cdn_base":"https://static.crates.io"}'
    told = json.loads(addresses.without_cdn(body, ORIGINS, BASE))
    assert told == {"deployed_sha": "a", "cdn_base": BASE + "/files"}


@pytest.mark.parametrize(
    "body", [b'{"cdn_base": "https://cdn.example"}', b'{"cdn_base": null}', b'{"cdn_base": 1}', b"{}", b"[]", b'"x"']
)
def test_site_metadata_without_an_address_of_ours_stays_as_it_is(body: bytes) -> None:
    assert addresses.without_cdn(body, ORIGINS, BASE) == body
