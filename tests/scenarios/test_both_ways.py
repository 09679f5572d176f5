"""What the short way through the server takes, what it leaves to the app, and that nobody can tell the difference.

Every other play checks that too: `tests.proxied` asks again, at a door without it, whatever was answered that way.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from proxy.stores.base import MAPPED
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


def asked(
    url: str,
    path: str,
    fields: bytes = b"",
    method: str = "GET",
    version: str = "1.1",
    times: int = 1,
    host: str = "127.0.0.1",
) -> bytes:
    """All that comes back on one connection, byte for byte, but for the dates."""
    address = urlsplit(url)
    head = f"{method} {path} HTTP/{version}\r\nHost: {host}\r\n".encode() + fields + b"\r\n"
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
    return _warmed(proxy, [CRATE, INDEX, of_tarball(upstream, "leaf")])


def of_tarball(upstream: Upstream, name: str) -> str:
    return f"/files/crates/{name}/1.0.0/{upstream.registry.release(name, '1.0.0').line['cksum']}/download"


def large(proxy: Proxied, upstream: Upstream, size: int = 700_000) -> tuple[str, bytes]:
    """The path of a tarball that is too large for memory, and held open by now; and what is in it."""
    upstream.registry.add(Source("big", "1.0.0", padding=size), samples.OWNER)
    (path,) = _warmed(proxy, [of_tarball(upstream, "big")])
    return path, upstream.registry.release("big", "1.0.0").tarball


def tells(directory: Path) -> bool:
    """Whether the file system tells what of a file is in memory: one that is memory itself does not (tmpfs)."""
    with open(directory / "probe", "w+b") as file:
        file.write(b"x")
        file.flush()
        try:
            return os.preadv(file.fileno(), [bytearray(1)], 0, os.RWF_NOWAIT) == 1
        except OSError:
            return False


def _warmed(proxy: Proxied, paths: list[str]) -> list[str]:
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
    for path in (*warmed(proxy, upstream), *([large(proxy, upstream)[0]] if tells(proxy.directory) else []), CONFIG):
        for method in ("GET", "HEAD"):
            times = 1 if b"close" in fields else 3
            assert taken(proxy, path, fields, method, times=times) == times
            assert taken(proxy, path, fields, method, version="1.0") == 1
        proxy.clock.now += 7.25


@pytest.mark.parametrize("fields", UNUSUAL.values(), ids=UNUSUAL)
def test_what_is_unusual_goes_to_the_app(fields: bytes, proxy: Proxied, upstream: Upstream) -> None:
    for path in (*warmed(proxy, upstream), large(proxy, upstream)[0], CONFIG):
        assert taken(proxy, path, fields, times=2) == 0


@pytest.mark.parametrize("path", [README, PLAIN, METADATA, "/healthz", "/", "/nowhere", CRATE + "/nope", "/%"])
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


@pytest.mark.parametrize("given", ["127.0.0.1:1", "localhost", "[::1]:80", "LOCALHOST", "127.0.0.1:", "proxy.test"])
def test_everybody_is_told_the_address_that_he_uses(given: str, proxy: Proxied) -> None:
    asked(proxy.url, CONFIG, host=given)
    assert taken(proxy, CONFIG, times=2, host=given) == (0 if given == "proxy.test" else 2)
    assert given == "proxy.test" or f'"http://{given.lower()}"'.encode() in asked(proxy.url, CONFIG, host=given)


def test_more_addresses_than_are_remembered_are_told_too(proxy: Proxied) -> None:
    for _ in range(2):
        for number in range(100):
            host = f"127.0.0.1:{number}"
            assert f'"http://{host}"'.encode() in asked(proxy.url, CONFIG, host=host)
    assert taken(proxy, CONFIG, times=3) == 3


def test_who_has_config_json_is_told_so_the_short_way(proxy: Proxied) -> None:
    tag = proxy.get(CONFIG).headers["etag"]
    host = urlsplit(proxy.url).netloc
    fields = f"If-None-Match: {tag}\r\n".encode()
    assert taken(proxy, CONFIG, fields, times=2, host=host) == 2
    assert asked(proxy.url, CONFIG, fields, host=host).startswith(b"HTTP/1.1 304 ")


def test_a_larger_tarball_is_held_open_until_it_is_purged(upstream: Upstream, tmp_path: Path) -> None:
    with proxied(upstream, tmp_path, both_ways=False, access__admin_token="secret") as proxy:
        path, content = large(proxy, upstream)
        assert taken(proxy, path, times=2) == 2 * tells(tmp_path)
        assert proxy.get(path).content == content
        proxy.client.post(f"{proxy.url}/-/purge", json={"crate": "big"}, headers={"authorization": "Bearer secret"})
        assert proxy.get(path).headers["x-cache"] == "MISS"


def test_a_tarball_too_large_to_be_sent_in_one_goes_to_the_app(proxy: Proxied, upstream: Upstream) -> None:
    path, content = large(proxy, upstream, MAPPED)
    assert len(content) > MAPPED
    assert taken(proxy, path) == 0
    assert taken(proxy, path, method="HEAD") == 1
    assert proxy.get(path).content == content
    assert proxy.get(path, range="bytes=5-9").content == content[5:10]


def test_a_file_that_was_cut_short_is_not_sent_as_a_whole(upstream: Upstream, tmp_path: Path) -> None:
    with proxied(upstream, tmp_path, both_ways=False) as proxy:
        path, content = large(proxy, upstream)
        assert taken(proxy, path) == tells(tmp_path)
        (file,) = (tmp_path / "tarballs").glob("??/*")
        os.truncate(file, 300_000)
        again = proxy.get(path)
        assert (again.headers["x-cache"], again.content) == ("MISS", content)
        assert taken(proxy, path) == 0
        assert taken(proxy, path) == tells(tmp_path)


def test_a_file_that_is_cut_short_while_it_is_sent_ends_the_connection(upstream: Upstream, tmp_path: Path) -> None:
    with proxied(upstream, tmp_path, both_ways=False) as proxy:
        path, content = large(proxy, upstream, MAPPED - 100_000)
        (file,) = (tmp_path / "tarballs").glob("??/*")
        with slow_reader(proxy, path) as client:
            begun = client.recv(10_000)
            os.truncate(file, 100_000)
            with contextlib.suppress(ConnectionResetError):
                while piece := client.recv(1 << 20):
                    begun += piece
            assert len(begun) < len(content)
        assert proxy.get("/healthz").status_code == 200


def test_who_reads_slowly_holds_nobody_up_and_gets_all_of_it(upstream: Upstream, tmp_path: Path) -> None:
    with proxied(upstream, tmp_path, both_ways=False, access__admin_token="secret") as proxy:
        path, content = large(proxy, upstream, MAPPED - 100_000)
        small = warmed(proxy, upstream)
        with contextlib.ExitStack() as opened:
            clients = [opened.enter_context(slow_reader(proxy, path)) for _ in range(5)]
            begun = [bytearray(client.recv(10_000)) for client in clients]
            assert [taken(proxy, each) for each in small] == [1, 1, 1]
            # What they read stays theirs, whatever becomes of the file.
            proxy.client.post(f"{proxy.url}/-/purge", json={"all": True}, headers={"authorization": "Bearer secret"})
            for client, got in zip(clients, begun, strict=True):
                client.sendall(b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n")
                while piece := client.recv(1 << 20):
                    got += piece
                head, _, body = got.partition(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 200 ")
                assert body.startswith(content + b"HTTP/1.1 200 ")


@contextlib.contextmanager
def slow_reader(proxy: Proxied, path: str) -> Iterator[socket.socket]:
    """It has asked for it, and takes little at a time."""
    address = urlsplit(proxy.url)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.settimeout(10)
        client.connect((address.hostname or "", address.port or 0))
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        yield client


def test_the_app_sends_parts_of_a_larger_tarball(proxy: Proxied, upstream: Upstream) -> None:
    path, content = large(proxy, upstream, 2_500_000)
    before = proxy.short()
    for first, last in ((0, len(content) - 1), (1, 1), (1_048_575, 2_097_152), (2_000_000, len(content) - 1)):
        part = proxy.get(path, range=f"bytes={first}-{last}")
        assert part.content == content[first : last + 1]
    assert proxy.get(path, pragma="no-cache").content == content
    assert proxy.short() == before


def test_over_tls_nothing_is_taken_from_a_file_that_could_be_cut_short(proxy: Proxied, upstream: Upstream) -> None:
    path, content = large(proxy, upstream)
    lookup = proxy.lookup()
    scope = {"method": "GET", "raw_path": path.encode(), "query_string": b"", "headers": [(b"host", b"localhost")]}
    whole, over_tls = (lookup.wanted({**scope, "scheme": scheme}) for scheme in ("http", "https"))
    found = lookup.answer(whole)
    assert bytes(found[1]) == content if tells(proxy.directory) else found is None
    assert lookup.answer(over_tls) is None


def test_a_small_tarball_that_is_not_what_its_name_says_is_fetched_anew(upstream: Upstream, tmp_path: Path) -> None:
    with proxied(upstream, tmp_path) as proxy:
        path = warmed(proxy, upstream)[2]
    (file,) = (tmp_path / "tarballs").glob("??/*")
    file.write_bytes(b"x" * file.stat().st_size)
    with proxied(upstream, tmp_path, both_ways=False) as proxy:
        assert [proxy.get(path).headers["x-cache"] for _ in range(2)] == ["MISS", "HIT"]
        assert proxy.short() == 0
