"""What the short way through the server takes, what it leaves to the app, and that nobody can tell the difference.

Every other play checks that too: `tests.proxied` asks again, at a door without it, whatever was answered that way.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.proxied import Proxied, proxied
from tests.server.raw import OFFER
from tests.upstream import Source, Upstream, samples

CRATE, INDEX, METADATA = "/api/v1/crates/leaf", "/index/le/af/leaf", "/api/v1/site_metadata"
CONFIG, README, PLAIN = (
    "/index/config.json",
    "/files/readmes/leaf/leaf-1.0.0.html",
    "/api/v1/crates/leaf/1.0.0/download",
)

# Fields of a request that are added to a plain one. First those that the short way takes.
USUAL = {
    "none": b"",
    "an offer": OFFER,
    "gzip": b"Accept-Encoding: gzip, deflate\r\n",
    "no gzip": b"Accept-Encoding: gzip;q=0\r\n",
    "of a cargo": b"User-Agent: cargo/1.99\r\nAccept: */*\r\ncargo-protocol: version=1\r\n",
    "another tag": b'If-None-Match: "another"\r\n',
    "any tag": b"If-None-Match: *\r\n",
    "no tag": b"If-None-Match: another\r\n",
    "an empty tag": b"If-None-Match:\r\n",
    "changed since long ago": b"If-Modified-Since: Mon, 01 Jan 2001 00:00:00 GMT\r\n",
    "changed since": b"If-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT\r\n",
    "both conditions": b'If-None-Match: "another"\r\nIf-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT\r\n',
    "to be closed": b"Connection: close\r\n",
}
UNUSUAL = {
    "credentials": b"Authorization: a-token\r\n",
    "a cookie": b"Cookie: a=b\r\n",
    "a part": b"Range: bytes=0-9\r\n",
    "a part if": b'Range: bytes=0-9\r\nIf-Range: "another"\r\n',
    "a part by another condition": b'If-Match: "another"\r\n',
    "no cache": b"Cache-Control: no-cache\r\n",
    "a ttl": b"Cache-Control: max-age=5\r\n",
    "only if cached": b"Cache-Control: only-if-cached\r\n",
    "pragma": b"Pragma: no-cache\r\n",
    "a front server": b"X-Forwarded-For: 192.0.2.7\r\n",
    "a proxy": b"Via: 1.1 proxy\r\n",
    "an expectation": b"Expect: 100-continue\r\n",
    "trailers": b"TE: trailers\r\n",
    "a body": b"Content-Length: 0\r\n",
    "another host beside": b"Host: other\r\n",
    "two tags": b'If-None-Match: "a"\r\nIf-None-Match: "b"\r\n',
    "anything else": b"X-Something: 1\r\n",
}


def asked(url: str, path: str, fields: bytes = b"", method: str = "GET", version: str = "1.1", times: int = 1) -> bytes:
    """All that comes back on one connection, byte for byte, but for the dates."""
    address = urlsplit(url)
    head = f"{method} {path} HTTP/{version}\r\nHost: 127.0.0.1\r\n".encode() + fields + b"\r\n"
    found = b""
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=10) as client:
        with client.makefile("rb") as wire:
            for _ in range(times):
                client.sendall(head)
                found += _answer(wire, method)
                if b"\r\nconnection: close\r\n" in found:
                    assert wire.read() == b""
                    break
    return re.sub(rb"\r\ndate: [^\r]*", b"", found)


def _answer(wire: io.BufferedIOBase, method: str) -> bytes:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = wire.readline()
        assert line, f"the connection ended behind {head!r}"
        head += line
    if head.startswith(b"HTTP/1.1 100 "):
        return head + _answer(wire, method)
    length = re.search(rb"\r\ncontent-length: ([0-9]+)\r\n", head)
    return head + (wire.read(int(length[1])) if length is not None and method != "HEAD" else b"")


def warmed(proxy: Proxied, upstream: Upstream) -> list[str]:
    """Paths of what is at hand: JSON, an index file, a tarball."""
    line = upstream.registry.release("leaf", "1.0.0").line
    paths = [CRATE, INDEX, f"/files/crates/leaf/1.0.0/{line['cksum']}/download"]
    for path in paths:
        for _ in range(2):
            assert proxy.get(path).status_code == 200
    return paths


@pytest.fixture
def proxy(upstream: Upstream, tmp_path: Path) -> Iterator[Proxied]:
    with proxied(upstream, tmp_path, both_ways=False, access__admin_token="secret") as running:
        yield running


def taken(proxy: Proxied, *args: Any, **kwargs: Any) -> int:
    """How many requests of an exchange go the short way; both doors have to say the same."""
    before = proxy.short()
    assert asked(proxy.url, *args, **kwargs) == asked(proxy.long_url, *args, **kwargs)
    return proxy.short() - before


@pytest.mark.parametrize("fields", USUAL.values(), ids=USUAL)
def test_what_is_usual_goes_the_short_way_and_is_answered_the_same(
    fields: bytes, proxy: Proxied, upstream: Upstream
) -> None:
    for path in warmed(proxy, upstream):
        for method in ("GET", "HEAD"):
            times = 1 if b"close" in fields else 3
            assert taken(proxy, path, fields, method, times=times) == times
            assert taken(proxy, path, fields, method, version="1.0") == 1
        proxy.clock.now += 7.25


@pytest.mark.parametrize("fields", UNUSUAL.values(), ids=UNUSUAL)
def test_what_is_unusual_goes_to_the_app(fields: bytes, proxy: Proxied, upstream: Upstream) -> None:
    for path in warmed(proxy, upstream):
        assert taken(proxy, path, fields, times=2) == 0


@pytest.mark.parametrize("path", [CONFIG, README, PLAIN, METADATA, "/healthz", "/", "/nowhere", CRATE + "/nope", "/%"])
def test_what_is_not_the_same_for_all_or_not_at_hand_goes_to_the_app(path: str, proxy: Proxied) -> None:
    asked(proxy.url, path)
    assert taken(proxy, path, times=2) == 0


def test_a_client_that_has_it_is_told_so_the_short_way(proxy: Proxied, upstream: Upstream) -> None:
    for path in warmed(proxy, upstream):
        for coding in ("identity", "gzip"):
            tag = proxy.get(path, accept_encoding=coding).headers["etag"]
            accepts = b"Accept-Encoding: %b\r\n" % coding.encode()
            for given in (tag, f"W/{tag}", f'"a", {tag}', f'"a" , W/{tag},'):
                fields = accepts + f"If-None-Match: {given}\r\n".encode()
                assert taken(proxy, path, fields, times=2) == 2
                assert asked(proxy.url, path, fields).startswith(b"HTTP/1.1 304 ")


def test_age_and_what_is_left_are_right_to_the_second(proxy: Proxied, upstream: Upstream) -> None:
    path = warmed(proxy, upstream)[1]
    for step in (0.0, 0.25, 0.74, 0.01, 1.0, 30.5, 0.5, 26.0):
        proxy.clock.now += step
        assert taken(proxy, path, times=2) == 2
    assert b"\r\nage: 59\r\ncache-status: crates-proxy; hit; ttl=1\r\n" in asked(proxy.url, path)
    proxy.clock.now += 1
    assert b"\r\nx-cache: REVALIDATED\r\n" in asked(proxy.url, path)


def test_a_clock_that_goes_backwards_makes_nothing_fresh_for_longer(proxy: Proxied, upstream: Upstream) -> None:
    paths = warmed(proxy, upstream)
    proxy.clock.now += 20
    assert [taken(proxy, path) for path in paths] == [1, 1, 1]
    proxy.clock.now -= 15
    assert [taken(proxy, path) for path in paths] == [1, 1, 1]
    assert b"\r\nage: 5\r\ncache-status: crates-proxy; hit; ttl=55\r\n" in asked(proxy.url, INDEX)
    proxy.clock.now -= 5.5
    assert [taken(proxy, path) for path in paths] == [0, 0, 1]
    assert b"\r\nage: 0\r\n" in asked(proxy.url, INDEX)
    proxy.clock.now -= 1
    before = proxy.short()
    assert b"\r\nx-cache: HIT\r\n" not in asked(proxy.url, INDEX)
    assert proxy.short() == before


@pytest.mark.parametrize(
    ("purge", "gone"),
    [
        ({"crate": "leaf"}, (True, True, True)),
        ({"all": True}, (True, True, True)),
        ({"endpoint": "index"}, (False, True, False)),
        ({"endpoint": "download"}, (False, False, True)),
        ({"crate": "abc"}, (False, False, False)),
    ],
    ids=str,
)
def test_what_was_purged_is_not_served_between_two_equal_requests(
    purge: dict[str, object], gone: tuple[bool, ...], proxy: Proxied, upstream: Upstream
) -> None:
    paths = warmed(proxy, upstream)
    assert [taken(proxy, path, times=2) for path in paths] == [2, 2, 2]
    done = proxy.client.post(f"{proxy.url}/-/purge", json=purge, headers={"authorization": "Bearer secret"})
    assert done.status_code == 200
    for path, missing in zip(paths, gone, strict=True):
        before = proxy.short()
        assert (b"\r\nx-cache: MISS\r\n" in asked(proxy.url, path)) is missing
        assert proxy.short() - before == (not missing)


def test_what_was_purged_softly_is_revalidated_though_its_request_is_known(proxy: Proxied, upstream: Upstream) -> None:
    path = warmed(proxy, upstream)[1]
    assert taken(proxy, path, times=2) == 2
    proxy.clock.now += 2
    given = {"crate": "leaf", "soft": True}
    proxy.client.post(f"{proxy.url}/-/purge", json=given, headers={"authorization": "Bearer secret"})
    assert b"\r\nx-cache: REVALIDATED\r\n" in asked(proxy.url, path)


def test_a_new_copy_is_served_under_a_known_request(proxy: Proxied, upstream: Upstream) -> None:
    path = warmed(proxy, upstream)[1]
    assert taken(proxy, path, times=2) == 2
    upstream.registry.add(Source("leaf", "9.0.0"), samples.OWNER)
    proxy.clock.now += 61
    assert b'"9.0.0"' in asked(proxy.url, path)
    assert taken(proxy, path, times=2) == 2
    assert b'"9.0.0"' in asked(proxy.url, path)


def test_only_who_may_use_the_proxy_is_answered_the_short_way(upstream: Upstream, tmp_path: Path) -> None:
    with proxied(upstream, tmp_path, both_ways=False) as proxy:
        paths = warmed(proxy, upstream)
    with proxied(upstream, tmp_path, both_ways=False, access__networks=("192.0.2.0/24",)) as proxy:
        for path in paths:
            assert asked(proxy.url, path).startswith(b"HTTP/1.1 403 ")
        assert proxy.short() == 0


def test_a_log_of_requests_has_them_all_since_none_goes_the_short_way(upstream: Upstream, tmp_path: Path) -> None:
    with proxied(upstream, tmp_path, both_ways=False, log__access=True) as proxy:
        warmed(proxy, upstream)
        assert proxy.short() == 0


def test_every_answer_is_counted_with_its_bytes(proxy: Proxied, upstream: Upstream) -> None:
    path = warmed(proxy, upstream)[1]
    before = proxy.short()
    body = proxy.get(path, accept_encoding="identity").content
    proxy.ask("HEAD", path)
    proxy.get(path, if_none_match="*")
    assert proxy.short() == before + 3
    assert body == upstream.registry.index_file("leaf")


def test_a_large_tarball_goes_to_the_app_and_is_held_open(upstream: Upstream, tmp_path: Path) -> None:
    noise = "".join(f"// {os.urandom(60).hex()}\n" for _ in range(10_000))
    upstream.registry.add(Source("big", "1.0.0", code=noise), samples.OWNER)
    release = upstream.registry.release("big", "1.0.0")
    path = f"/files/crates/big/1.0.0/{release.line['cksum']}/download"
    with proxied(upstream, tmp_path, both_ways=False, access__admin_token="secret") as proxy:
        assert [proxy.get(path).content == release.tarball for _ in range(3)] == [True] * 3
        known = f'If-None-Match: "{release.line["cksum"]}"\r\n'.encode()
        for fields in (*USUAL.values(), *UNUSUAL.values(), known):
            assert taken(proxy, path, fields) == 0
        for fields in (*USUAL.values(), known):
            assert taken(proxy, path, fields, "HEAD") == 0
        for file in (tmp_path / "tarballs").glob("??/*"):
            file.unlink()
        assert proxy.get(path).content == release.tarball
        proxy.client.post(f"{proxy.url}/-/purge", json={"crate": "big"}, headers={"authorization": "Bearer secret"})
        assert proxy.get(path).headers["x-cache"] == "MISS"


def test_a_small_tarball_that_is_not_what_its_name_says_is_not_held(upstream: Upstream, tmp_path: Path) -> None:
    with proxied(upstream, tmp_path) as proxy:
        path = warmed(proxy, upstream)[2]
    (file,) = (tmp_path / "tarballs").glob("??/*")
    file.write_bytes(b"x" * file.stat().st_size)
    with proxied(upstream, tmp_path, both_ways=False) as proxy:
        again = proxy.get(path)
        assert again.headers["x-cache"] == "MISS", "it is set aside, and fetched anew"
        assert hashlib.sha256(again.content).hexdigest() == path.split("/")[-2]
        assert proxy.get(path).headers["x-cache"] == "HIT"
