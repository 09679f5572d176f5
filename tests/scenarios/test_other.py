"""Plays on the row `other`, where upstream's own headers rule: what it answers, what is asked, what is served."""

from __future__ import annotations

import concurrent.futures
import gzip
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx
import pytest

from tests.proxied import Proxied
from tests.scenarios.plays import Wait, answered
from tests.upstream import Upstream, faults
from tests.waiting import WITHIN, until

PATH = "/api/v1/something/new"
Fields = Mapping[str, str]


@dataclass(frozen=True)
class Says:
    """From here on upstream answers everything like this."""

    fields: Fields = field(default_factory=dict)
    status: int = 200
    body: bytes = b"0123456789"


@dataclass(frozen=True)
class Ask:
    """A request, the X-Cache it must get, and what else is told of the answer."""

    verdict: str
    fields: Fields = field(default_factory=dict)
    status: int = 200
    body: bytes | None = None
    says: str = ""
    told: Fields = field(default_factory=dict)
    method: str = "GET"
    path: str = PATH
    soon: bool = False
    """What a fetch in the background brings about: asked again until it has."""


@dataclass(frozen=True)
class Asked:
    """How often upstream has been asked by now, and fields of the newest request (None: it must not have them)."""

    times: int
    fields: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Down:
    """From here on upstream breaks every connection off."""


Step = Says | Ask | Wait | Asked | Down


def cached(directives: str = "max-age=60", *, body: bytes = b"0123456789", **fields: str) -> Says:
    named = {name.replace("_", "-"): value for name, value in fields.items()}
    return Says({"cache-control": directives, **named}, body=body)


def takes(codings: str) -> Fields:
    return {"accept-encoding": codings}


def wish(directives: str) -> Fields:
    return {"cache-control": directives}


PLAIN = b"compressible " * 100
PACKED = gzip.compress(PLAIN, mtime=0)
LENGTH = str(len(PACKED))
TAGGED = cached(etag='"a"')
NOT_MODIFIED = Says({"etag": '"a"', "cache-control": "max-age=90", "x-new": "1"}, 304, b"")

PLAYS: dict[str, list[Step]] = {
    "what upstream lets a shared cache keep is kept for as long": [
        cached(x_own="1"),
        Ask("MISS", says="fwd=uri-miss; stored"),
        Wait(59),
        Ask("HIT", says="hit; ttl=1", told={"age": "59", "x-own": "1", "cache-control": "max-age=60"}),
        Wait(2),
        Ask("MISS", says="fwd=stale; stored"),
        Asked(2),
    ],
    "what upstream is silent about passes": [Says(), Ask("PASS", says="fwd=uri-miss"), Ask("PASS"), Asked(2)],
    "what passes tells why": [
        Says(),
        Ask("PASS", {"authorization": "cio1"}, says="fwd=uri-miss"),
        Ask("PASS", {"if-match": '"b"'}, says="fwd=bypass"),
        cached(vary="foo"),
        Ask("MISS", {"foo": "1"}),
        Ask("PASS", {"foo": "1", "authorization": "cio1"}, says="fwd=miss"),
        cached("no-store", vary="foo"),
        Ask("PASS", {"foo": "2"}, says="fwd=vary-miss"),
        Ask("PASS", {"foo": "1", "cache-control": "no-cache"}, method="HEAD", says="fwd=request"),
        Wait(61),
        Down(),
        Ask("PASS", {"foo": "2"}, status=502, says="fwd=vary-miss"),
    ],
    "an error is never kept, whatever its headers say": [
        *(
            step
            for status in (400, 401, 403, 408, 500, 503, 429)  # the last one holds what comes after it
            for step in (Says({"cache-control": "public, max-age=60"}, status), Ask("PASS", status=status))
        ),
        Asked(7),
    ],
    "but an absence is, where upstream says for how long, and for a minute at most": [
        Says({"cache-control": "max-age=3600", "x-own": "1"}, 404, b"none"),
        Ask("MISS", status=404, says="fwd=uri-miss; stored"),
        Wait(59),
        Ask("HIT", status=404, says="hit; ttl=1", body=b"none", told={"x-own": "1"}),
        Wait(2),
        Ask("MISS", status=404, says="fwd=stale; stored"),
        Asked(2),
        Says({"etag": '"a"', "last-modified": "Sun, 06 Nov 1994 08:49:37 GMT"}, 404),
        Wait(61),
        Ask("PASS", status=404),
        Ask("PASS", status=404),
    ],
    "an absence ends what is stored, and is never served when upstream fails": [
        cached("max-age=60, stale-if-error=1000"),
        Ask("MISS"),
        Wait(61),
        Says({"cache-control": "max-age=60, stale-if-error=1000, stale-while-revalidate=1000"}, 410),
        Ask("MISS", status=410),
        Ask("HIT", status=410),
        Wait(61),
        Down(),
        Ask("PASS", status=502),
        Ask("PASS", wish("max-stale"), status=502),
        cached(),
        Ask("MISS", status=200),
        Ask("HIT", status=200),
    ],
    "redirects are kept where upstream says for how long": [
        Says({"cache-control": "max-age=60", "location": "/api/v1/x"}, 302),
        Ask("MISS", status=302),
        Ask("HIT", status=302, told={"location": "/api/v1/x"}),
    ],
    "a field for caches like this one wins over Cache-Control": [
        cached("no-store", cdn_cache_control="max-age=60"),
        Ask("MISS"),
        Ask("HIT"),
    ],
    "the age that an answer arrives with counts": [
        cached(age="50"),
        Ask("MISS", told={"age": "50"}),
        Wait(9),
        Ask("HIT", told={"age": "59"}),
        Wait(1),
        Ask("MISS"),
    ],
    "a stale answer is revalidated and freshened by a 304": [
        TAGGED,
        Ask("MISS"),
        Wait(61),
        NOT_MODIFIED,
        Ask("REVALIDATED", body=b"0123456789", says="fwd=stale; fwd-status=304", told={"x-new": "1"}),
        Asked(2, {"if-none-match": '"a"'}),
        Wait(89),
        Ask("HIT", told={"x-new": "1"}),
    ],
    "a 304 about something else is asked again without conditions": [
        TAGGED,
        Ask("MISS"),
        Wait(61),
        Says({"etag": '"b"', "cache-control": "max-age=60"}, 304, b""),
        Ask("PASS", status=304),
        Asked(3, {"if-none-match": None}),
    ],
    "a 304 that forbids to store ends what is stored": [
        TAGGED,
        Ask("MISS"),
        Wait(61),
        Says({"etag": '"a"', "cache-control": "no-store"}, 304, b""),
        Ask("REVALIDATED", body=b"0123456789"),
        TAGGED,
        Ask("MISS", says="fwd=uri-miss"),
    ],
    "an answer that may not be stored ends what was": [
        cached(),
        Ask("MISS"),
        Wait(61),
        cached("no-store"),
        Ask("PASS"),
        cached(),
        Ask("MISS", says="fwd=uri-miss"),
    ],
    "no-cache and max-age of a request are heeded every time": [
        TAGGED,
        Ask("MISS"),
        NOT_MODIFIED,
        Ask("REVALIDATED", wish("no-cache"), says="fwd=request"),
        Ask("REVALIDATED", wish("max-age=0")),
        Ask("REVALIDATED", {"pragma": "no-cache"}),
        Wait(10),
        Ask("HIT", wish("max-age=10")),
        Ask("REVALIDATED", wish("max-age=9")),
        Ask("HIT", wish("min-fresh=90")),
        Ask("REVALIDATED", wish("min-fresh=91")),
        Asked(6),
    ],
    "a client may take what is stale": [
        cached(),
        Ask("MISS"),
        Wait(70),
        Ask("STALE", wish("max-stale=10"), says="hit; ttl=-10; detail=max-stale"),
        Ask("STALE", wish("max-stale")),
        Ask("MISS", wish("max-stale=9")),
    ],
    "unless upstream forbids it": [
        cached("max-age=60, proxy-revalidate"),
        Ask("MISS"),
        Wait(70),
        Ask("MISS", wish("max-stale")),
    ],
    "only-if-cached asks nobody": [
        cached(),
        Ask("PASS", wish("only-if-cached"), status=504),
        Asked(0),
        Ask("MISS"),
        Ask("HIT", wish("only-if-cached")),
        Wait(61),
        Ask("PASS", wish("only-if-cached"), status=504),
        Asked(1),
    ],
    "a request that forbids to store leaves nothing behind": [
        cached(),
        Ask("PASS", wish("no-store")),
        Ask("MISS"),
        Ask("HIT", wish("no-store")),
    ],
    "stale-while-revalidate answers now and fetches behind": [
        cached("max-age=60, stale-while-revalidate=30"),
        Ask("MISS"),
        Wait(61),
        Ask("STALE", says="hit; ttl=-1; detail=stale-while-revalidate"),
        Asked(2),
        Ask("HIT", soon=True),
        Wait(90),
        Ask("MISS"),
    ],
    "what is fetched behind and may not be stored is thrown away": [
        cached("max-age=60, stale-while-revalidate=30"),
        Ask("MISS"),
        Wait(61),
        cached("no-store"),
        Ask("STALE"),
        Ask("PASS", soon=True),
    ],
    "stale-if-error covers for errors as long as it says": [
        cached("max-age=60, stale-if-error=30"),
        Ask("MISS"),
        Wait(61),
        Says({}, 503),
        Ask("STALE", says="fwd=stale; fwd-status=503; detail=stale-if-error"),
        Down(),
        Ask("STALE", says="fwd=stale; detail=stale-if-error"),
        Wait(29),
        Says({}, 503),
        Ask("PASS", status=503),
        Down(),
        Ask("PASS", status=502),
    ],
    "where upstream is silent about errors, only its silence is covered for": [
        cached(),
        Ask("MISS"),
        Wait(61),
        Says({}, 503),
        Ask("PASS", status=503),
        Down(),
        Ask("STALE", says="detail=stale-if-error"),
        Wait(30 * 86400),
        Ask("PASS", status=502),
    ],
    "must-revalidate means an error rather than a stale answer": [
        cached("max-age=60, must-revalidate"),
        Ask("MISS"),
        Wait(61),
        Down(),
        Ask("PASS", status=502),
    ],
    "answers that vary are kept apart": [
        cached(vary="Foo"),
        Ask("MISS", {"foo": "1"}),
        Ask("MISS", {"foo": "2"}, says="fwd=vary-miss; stored"),
        Ask("MISS"),
        Ask("HIT", {"foo": "1"}),
        Ask("HIT", {"foo": "2", "bar": "3"}),
        Ask("HIT"),
        Asked(3),
    ],
    "each variant is revalidated by itself": [
        cached(vary="Foo", etag='"a"'),
        Ask("MISS", {"foo": "1"}),
        Ask("MISS", {"foo": "2"}),
        Wait(61),
        NOT_MODIFIED,
        Ask("REVALIDATED", {"foo": "2"}),
        Asked(3, {"if-none-match": '"a"', "foo": "2"}),
        Ask("HIT", {"foo": "2"}),
        Ask("REVALIDATED", {"foo": "1"}),
    ],
    "credentials go upstream, and what comes of them is nobody else's": [
        cached(),
        Ask("PASS", {"authorization": "cio1"}),
        Asked(1, {"authorization": "cio1"}),
        Ask("MISS"),
        Ask("PASS", {"authorization": "cio1"}),
        Ask("HIT", {"cookie": "a=b"}),
        Wait(61),
        Ask("PASS", {"cookie": "a=b"}),
        Asked(4, {"cookie": "a=b"}),
    ],
    "unless upstream says that it is everybody's": [
        cached("public, max-age=60"),
        Ask("MISS", {"authorization": "cio1"}),
        Ask("HIT"),
        Ask("HIT", {"authorization": "cio2"}),
    ],
    "what upstream compressed is kept as it is, for those who take it": [
        cached(vary="Accept-Encoding", etag='"g"', content_encoding="gzip", body=PACKED),
        Ask("MISS", takes("gzip, deflate"), body=PLAIN, told={"content-encoding": "gzip", "etag": '"g"'}),
        Asked(1, {"accept-encoding": "gzip"}),
        Ask("HIT", takes("x-gzip;q=0.5, compress"), body=PLAIN, told={"etag": '"g"', "content-length": LENGTH}),
        Ask("HIT", {**takes("gzip"), "if-none-match": '"g"'}, 304, b""),
        cached(vary="Accept-Encoding", etag='"i"', body=PLAIN),
        Ask("MISS", takes("identity"), says="fwd=vary-miss; stored", body=PLAIN),
        Asked(2, {"accept-encoding": "identity"}),
        Ask("HIT", takes("gzip;q=0"), body=PLAIN, told={"etag": '"i"'}),
        Ask("HIT", {**takes("identity"), "if-none-match": '"g"'}, body=PLAIN),
        Ask("HIT", takes("gzip"), told={"etag": '"g"'}),
    ],
    "and so it is where upstream does not say that it depends": [
        cached(content_encoding="gzip", body=PACKED),
        Ask("MISS", takes("gzip"), body=PLAIN),
        cached(body=PLAIN),
        Ask("MISS", takes("identity"), body=PLAIN),
        Asked(2),
    ],
    "a coding that nobody here knows is passed and kept as well": [
        cached(content_encoding="br", body=b"no brotli at all"),
        Ask("MISS", takes("br, zstd"), told={"content-encoding": "br", "content-length": "16"}, method="GET"),
        Ask("HIT", takes("zstd;q=0.1, BR"), told={"content-encoding": "br"}),
        Asked(1, {"accept-encoding": "br, zstd"}),
    ],
    "a part is served from the whole": [
        TAGGED,
        Ask("MISS"),
        Ask("HIT", {"range": "bytes=1-2"}, 206, b"12"),
        Ask("HIT", {"range": "bytes=-1", "if-range": '"a"'}, 206, b"9"),
        Ask("HIT", {"range": "bytes=1-2", "if-range": '"b"'}, 200, b"0123456789"),
        Wait(61),
        NOT_MODIFIED,
        Ask("REVALIDATED", {"range": "bytes=1-2"}, 206, b"12"),
        Asked(2, {"range": None}),
    ],
    "a part that upstream sends is passed and not kept": [
        Says({"cache-control": "max-age=60", "content-range": "bytes 0-1/10"}, 206, b"01"),
        Ask("PASS", {"range": "bytes=0-1"}, 206, b"01"),
        Asked(1, {"range": "bytes=0-1"}),
    ],
    "a client's own validator is answered from what is stored": [
        cached(etag='W/"a"', last_modified="Sun, 06 Nov 1994 08:49:37 GMT"),
        Ask("MISS"),
        Ask("HIT", {"if-none-match": '"b", "a"'}, 304, b""),
        Ask("HIT", {"if-modified-since": "Sun, 06 Nov 1994 08:49:37 GMT"}, 304, b""),
        Ask("HIT", {"if-none-match": '"b"', "if-modified-since": "Sun, 06 Nov 1994 08:49:37 GMT"}),
        Wait(61),
        Says({"etag": 'W/"a"'}, 304, b""),
        Ask("REVALIDATED", {"if-none-match": '"a"'}, 304, b""),
        Wait(61),
        Ask("REVALIDATED", {"if-none-match": '"b"'}, 200, b"0123456789"),
    ],
    "with nothing stored the client's conditions go upstream": [
        NOT_MODIFIED,
        Ask("PASS", {"if-none-match": '"a"'}, 304, b""),
        Asked(1, {"if-none-match": '"a"'}),
    ],
    "conditions of changes are upstream's to judge": [
        cached(),
        Ask("MISS"),
        Says({}, 412),
        Ask("PASS", {"if-match": '"b"'}, 412),
    ],
    "HEAD is answered from a stored GET, and freshens it": [
        cached(x_own="1"),
        Ask("MISS"),
        Ask("HIT", method="HEAD", told={"content-length": "10"}, body=b""),
        Wait(61),
        cached("max-age=90", x_own="2"),
        Ask("PASS", method="HEAD"),
        Wait(89),
        Ask("HIT", told={"x-own": "2"}, body=b"0123456789"),
        Asked(2),
    ],
    "HEAD of something else ends what is stored": [
        cached(),
        Ask("MISS"),
        Wait(61),
        Says({"cache-control": "max-age=90"}, body=b"other"),
        Ask("PASS", method="HEAD"),
        Ask("MISS", says="fwd=uri-miss"),
    ],
    "a HEAD of which nothing is stored, or which fails, is passed": [
        cached(),
        Ask("PASS", method="HEAD"),
        Ask("MISS"),
        Wait(61),
        Says({}, 500),
        Ask("PASS", method="HEAD", status=500),
    ],
    "a HEAD that forbids to store changes nothing": [
        cached(),
        Ask("MISS"),
        Wait(61),
        cached("no-store"),
        Ask("PASS", method="HEAD"),
    ],
    "a change of the same URL ends what is stored, a failed one does not": [
        cached(vary="Foo"),
        Ask("MISS"),
        Ask("MISS", {"foo": "1"}),
        Wait(1),
        Says({}, 500),
        Ask("PASS", method="POST", status=500),
        Ask("HIT"),
        Says({"location": "/api/v1/named"}, 201),
        Ask("PASS", method="POST", status=201),
        Wait(1),
        cached(vary="Foo"),
        Ask("MISS"),
        Ask("MISS", {"foo": "1"}),
        Ask("HIT", {"foo": "1"}),
    ],
    "and so it does for a URL that its answer names": [
        cached(),
        Ask("MISS", path="/api/v1/named"),
        Wait(1),
        Says({"location": "/api/v1/named"}, 201),
        Ask("PASS", method="DELETE", status=201),
        Wait(1),
        cached(),
        Ask("MISS", path="/api/v1/named"),
    ],
    "an answer too large to be stored passes": [
        Says({"cache-control": "max-age=60"}, body=b"x" * (5 * 2**20)),
        Ask("PASS", body=b"x" * (5 * 2**20)),
        Ask("PASS"),
    ],
}


@pytest.mark.parametrize("name", PLAYS)
def test_play(name: str, proxy: Proxied, upstream: Upstream) -> None:
    for number, step in enumerate(PLAYS[name]):
        where = f"step {number}: {step}"[:300]
        match step:
            case Says():
                upstream.heal()
                upstream.fault("api", faults.Status(step.status, tuple(step.fields.items()), step.body))
            case Down():
                upstream.heal()
                upstream.fault("api", faults.Garbage())
            case Wait():
                proxy.clock.now += step.seconds
            case Asked():
                asked = upstream.wait_for(step.times) if step.times else upstream.log
                assert len(asked) == step.times, where
                for field_name, value in step.fields.items():
                    assert dict(asked[-1].headers).get(field_name) == value, where
            case Ask():
                _ask(proxy, step, where)


def _ask(proxy: Proxied, step: Ask, where: str) -> None:
    answer = answered(lambda: _answer(proxy, step), step.verdict, soon=step.soon)
    assert (answer.status_code, answer.headers["x-cache"]) == (step.status, step.verdict), where
    assert step.says in answer.headers["cache-status"], where
    assert step.body is None or answer.content == step.body, where
    for name, value in step.told.items():
        assert answer.headers.get(name) == value, where


def _answer(proxy: Proxied, step: Ask) -> httpx.Response:
    return proxy.client.request(step.method, proxy.url + step.path, headers=dict(step.fields))


def _crowd(proxy: Proxied, upstream: Upstream, size: int) -> list[str]:
    """The Cache-Status of so many requests that arrive while upstream is thinking about the first."""
    upstream.hold("api")
    with concurrent.futures.ThreadPoolExecutor(size) as pool:
        asked = [pool.submit(httpx.get, proxy.url + PATH, trust_env=False, timeout=WITHIN) for _ in range(size)]
        until(lambda: proxy.under_way() == size)
        time.sleep(0.3)  # they have looked into the store by then
        upstream.release()
        return [each.result().headers["cache-status"] for each in asked]


def test_a_crowd_is_one_request_where_the_answer_may_be_stored(proxy: Proxied, upstream: Upstream) -> None:
    upstream.fault("api", faults.Status(200, (("cache-control", "max-age=60"),), b"x"))
    told = _crowd(proxy, upstream, 8)
    assert len(upstream.log) == 1
    assert sum("collapsed" in each for each in told) == 7


def test_a_crowd_asks_one_by_one_where_it_may_not(proxy: Proxied, upstream: Upstream) -> None:
    upstream.fault("api", faults.Status(200, (("cache-control", "no-store"),), b"x"))
    assert _crowd(proxy, upstream, 4) == ["crates-proxy; fwd=uri-miss"] * 4
    assert len(upstream.log) == 4


def test_a_crowd_asks_one_by_one_where_a_renewal_forbids_to_store(proxy: Proxied, upstream: Upstream) -> None:
    upstream.fault("api", faults.Status(200, (("cache-control", "max-age=60"), ("etag", '"a"')), b"x"))
    proxy.get(PATH)
    proxy.clock.now += 61
    upstream.heal()
    upstream.forget()
    upstream.fault("api", faults.Status(304, (("cache-control", "no-store"), ("etag", '"a"')), b""))
    assert not any("collapsed" in each for each in _crowd(proxy, upstream, 4))
    assert len(upstream.log) == 4


@pytest.mark.parametrize("path", ["/api/v1/crates/leaf", "/index/le/af/leaf", "/api/v1/crates/leaf/1.0.0/download"])
def test_only_if_cached_asks_nobody_on_other_rows_either(path: str, proxy: Proxied, upstream: Upstream) -> None:
    assert proxy.get(path, cache_control="only-if-cached").status_code == 504
    assert not upstream.log
    assert proxy.get(path).status_code == 200
    assert proxy.get(path, cache_control="only-if-cached").status_code == 200


@pytest.mark.parametrize("directives", ["max-age=1", "min-fresh=1000000", "max-stale=0"])
def test_a_client_cannot_drill_through_the_rows_with_a_ttl(directives: str, proxy: Proxied, upstream: Upstream) -> None:
    proxy.get("/api/v1/crates/leaf")
    proxy.clock.now += 100
    assert proxy.get("/api/v1/crates/leaf", cache_control=directives).headers["x-cache"] == "HIT"
    assert len(upstream.log) == 1


EARLY = b"HTTP/1.1 103 Early Hints\r\nlink: </a>; rel=preload\r\n\r\n"
HOP = b"HTTP/1.1 103 Early Hints\r\nserver: s\r\nset-cookie: a=b\r\nx-a: 1\r\n\r\n"


def _raw(proxy: Proxied, request: str) -> bytes:
    """All that comes back on a connection that the proxy closes."""
    address = urlsplit(proxy.url)
    with socket.create_connection((address.hostname, address.port), 10) as client:
        client.sendall(request.encode())
        data = b""
        while piece := client.recv(65536):
            data += piece
    return data


@pytest.mark.parametrize("request_line", [f"GET {PATH}", "GET /api/v1/me", "DELETE /api/v1/crates/leaf/1.0.0/yank"])
def test_interim_answers_reach_the_client(request_line: str, proxy: Proxied, upstream: Upstream) -> None:
    upstream.fault("api", faults.Interim((EARLY, HOP)))
    told = _raw(proxy, f"{request_line} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
    expected = EARLY + b"HTTP/1.1 103 Early Hints\r\nx-a: 1\r\n\r\nHTTP/1.1 "
    assert told.startswith(expected)
    assert b"103" not in told[len(expected) :][:3]


def test_interim_answers_are_not_for_old_clients_nor_for_rows_with_a_ttl(proxy: Proxied, upstream: Upstream) -> None:
    upstream.fault("api", faults.Interim((EARLY,)))
    assert b" 103 " not in _raw(proxy, f"GET {PATH} HTTP/1.0\r\nhost: localhost\r\n\r\n")
    fields = "host: localhost\r\nconnection: close\r\n\r\n"
    told = _raw(proxy, f"GET /api/v1/crates/leaf HTTP/1.1\r\n{fields}")
    assert told.startswith(b"HTTP/1.1 200 ")


def test_an_old_client_gets_an_answer_without_a_length_up_to_its_end(proxy: Proxied, upstream: Upstream) -> None:
    upstream.fault("api", faults.Chunked())
    told = _raw(proxy, f"GET {PATH} HTTP/1.0\r\nhost: localhost\r\n\r\n")
    head, body = told.split(b"\r\n\r\n", 1)
    assert b"transfer-encoding" not in head.lower()
    assert body == proxy.get(PATH).content
