"""Whatever one client sends, the next one gets what he would have got without it."""

from __future__ import annotations

import pytest

from proxy.upstream.retried import PASSING
from tests.attacks.stage import OTHER, PATHS, SAYS, Got, Stage
from tests.upstream import faults

EVIL = "evil.example"
# Fields that no key holds: that say for which host, path, method, scheme or client a request is, in every spelling.
UNKEYED = {
    "x-forwarded-host": EVIL,
    "x-forwarded-server": EVIL,
    "x-forwarded-scheme": "http",
    "x-forwarded-proto": "gopher",
    "x-forwarded-port": "1",
    "x-forwarded-prefix": "/evil",
    "x-forwarded-path": "/evil",
    "x-forwarded-uri": "/evil",
    "x-forwarded-for": "127.0.0.1",
    "x-forwarded": f"host={EVIL}",
    "x-forward-host": EVIL,
    "x-forward-for": "127.0.0.1",
    "x-forwarder-for": "127.0.0.1",
    "forwarded-for": "127.0.0.1",
    "forwarded": f"for=127.0.0.1;host={EVIL};proto=https",
    "x-host": EVIL,
    "x-host-override": EVIL,
    "host-override": EVIL,
    "x-server-name": EVIL,
    "x-http-host-override": EVIL,
    "x-original-host": EVIL,
    "x-original-url": "/api/v1/me",
    "x-rewrite-url": "/api/v1/me",
    "x-override-url": "/api/v1/me",
    "x-http-destinationurl": f"http://{EVIL}/",
    "x-backend-host": EVIL,
    "x-proxy-url": f"http://{EVIL}/",
    "x-proxy-host": EVIL,
    "proxy": f"http://{EVIL}/",
    "base-url": f"http://{EVIL}/",
    "request-uri": "/api/v1/me",
    "destination": f"http://{EVIL}/",
    "x-http-method-override": "DELETE",
    "x-http-method": "HEAD",
    "x-method-override": "POST",
    "x-method": "POST",
    "x-real-ip": "127.0.0.1",
    "true-client-ip": "127.0.0.1",
    "client-ip": "127.0.0.1",
    "x-client-ip": "127.0.0.1",
    "x-remote-addr": "127.0.0.1",
    "x-originating-ip": "127.0.0.1",
    "cf-connecting-ip": "127.0.0.1",
    "fastly-client-ip": "127.0.0.1",
    "fly-client-ip": "127.0.0.1",
    "akamai-client-ip": "127.0.0.1",
    "proxy-client-ip": "127.0.0.1",
    "wl-proxy-client-ip": "127.0.0.1",
    "remote-addr": "127.0.0.1",
    "x-proxyuser-ip": "127.0.0.1",
    "x-custom-ip-authorization": "127.0.0.1",
    "x-azure-clientip": "127.0.0.1",
    "x-appengine-user-ip": "127.0.0.1",
    "x-vercel-forwarded-for": "127.0.0.1",
    "cloudfront-forwarded-proto": "http",
    "x-cloudfront-auth": "a",
    "x-amz-website-redirect-location": f"http://{EVIL}/",
    "x-envoy-original-path": "/api/v1/me",
    "front-end-https": "on",
    "x-scheme": "gopher",
    "x-url-scheme": "gopher",
    "x_forwarded_host": EVIL,
    "x_original_url": "/api/v1/me",
    "x_http_method_override": "DELETE",
    "origin": f"https://{EVIL}",
    "referer": f"https://{EVIL}/",
    "via": f"1.1 {EVIL}",
    "te": "trailers",
    "proxy-authorization": "Basic YTpi",
    "expect": "100-continue",
}
# Fields that upstream may hear, or that concern only who sends them.
HARMLESS = {
    "accept": "text/html",
    "accept-encoding": "br;q=1, gzip;q=0",
    "accept-language": "xx",
    "authorization": "cioSomebodysTokenThatIsWrong0000",
    "cookie": "cargo_session=somebody",
    "content-length": "0",
    "if-match": '"nothing"',
    "if-none-match": '"nothing"',
    "if-modified-since": "Sun, 06 Nov 1994 08:49:37 GMT",
    "if-range": '"nothing"',
    "max-forwards": "0",
    "range": "bytes=0-0",
    "user-agent": "",
    "x-requested-with": "XMLHttpRequest",
    "x-anything": EVIL,
}
# What says no more than what is asked for, on rows with times of ours.
_OURS = frozenset(("host", "via", "user-agent", "accept", "accept-encoding", "if-none-match", "if-modified-since"))


@pytest.fixture(scope="module")
def always(stage: Stage) -> dict[str, Got]:
    """What everybody gets from an empty cache."""
    stage.empty()
    found = stage.clean()
    assert {status for status, _, _ in found.values()} == {200}
    return found


@pytest.mark.parametrize("name", UNKEYED)
def test_a_field_that_no_key_holds_goes_nowhere_and_changes_nothing(
    name: str, stage: Stage, always: dict[str, Got]
) -> None:
    for path in PATHS:
        stage.got(path, {name: UNKEYED[name]})
    assert stage.upstream.asked()
    for asked in stage.upstream.asked():
        assert (asked.header(name), asked.method, asked.body_length) in (
            ("", "GET", 0),
            ("1.1 crates-proxy", "GET", 0),  # Via, of this proxy's own
        )
        assert EVIL not in asked.target and asked.header("host").startswith("127.0.0.1:")
    assert stage.clean() == always


@pytest.mark.parametrize("name", HARMLESS)
def test_a_field_that_may_be_heard_changes_nothing_for_the_next(
    name: str, stage: Stage, always: dict[str, Got]
) -> None:
    for path in PATHS:
        stage.got(path, {name: HARMLESS[name]})
    for asked in stage.upstream.asked():
        if not asked.target.startswith(OTHER):
            assert {field for field, _ in asked.headers} <= _OURS
            assert HARMLESS[name] != asked.header(name) or name == "accept"
    assert stage.clean() == always


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE", "PURGE", "QUERY"])
def test_another_method_changes_nothing_for_the_next(method: str, stage: Stage, always: dict[str, Got]) -> None:
    for path in PATHS:
        stage.got(path, {"authorization": "cioSomebodysTokenThatIsWrong0000"}, method)
    assert {asked.method for asked in stage.upstream.asked()} <= {method, "GET"} - {"TRACE", "PURGE", "QUERY"}
    assert stage.clean() == always


def test_a_body_of_a_read_goes_nowhere(stage: Stage, always: dict[str, Got]) -> None:
    for path in (*PATHS, "/api/v1/me"):
        answer = stage.proxy.client.request("GET", stage.proxy.url + path, content=b"q=evil&page=2")
        assert answer.status_code in (200, 403)
    for asked in stage.upstream.asked():
        assert (asked.body_length, asked.header("content-length"), asked.header("transfer-encoding")) == (0, "", "")
    assert stage.clean() == always


@pytest.mark.parametrize("size", [4096, 8192, 16384, 30000, 40000, 64000])
def test_a_head_that_upstream_would_refuse_is_not_what_the_next_one_gets(
    size: int, stage: Stage, always: dict[str, Got]
) -> None:
    stage.upstream.heal()
    stage.upstream.fault(lambda request: len(request.header("x-big")) > 4000, faults.Status(431))
    stage.upstream.fault(f"api GET {OTHER}", SAYS)
    for path in PATHS:
        status, _, _ = stage.got(path, {"x-big": "a" * size})
        assert status == (431 if size > 32768 or path == OTHER else 200)
    assert stage.clean() == always


@pytest.mark.parametrize("meta", [b"\x07", b"\x7f", b"\x01", b"\0", b"\n", b"\r", b"\x0b", b"\x1b"])
def test_control_characters_go_nowhere(meta: bytes, stage: Stage, always: dict[str, Got]) -> None:
    for path in PATHS:
        head = b"GET %b HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Meta: a%bb\r\n\r\n" % (path.encode(), meta)
        assert [status for status, _ in stage.raw(head)] == [400]
    assert stage.upstream.asked() == []
    assert stage.clean() == always


@pytest.mark.parametrize("ranges", ["0-0", "5-2", "-0", "-1", "9999999-", "a-b", "0-0,2-3", ",".join(["0-1"] * 1000)])
def test_a_part_is_never_taken_for_the_whole(ranges: str, stage: Stage, always: dict[str, Got]) -> None:
    for path in PATHS:
        status, _, _ = stage.got(path, {"range": f"bytes={ranges}"})
        assert status in (200, 206, 416)
    fetched = len(stage.upstream.asked(host="static", contains=".crate"))
    assert fetched == 1, "a range of one byte fetches a file once"
    assert stage.clean() == always
    assert len(stage.upstream.asked(host="static", contains=".crate")) == 1


def test_a_part_that_upstream_gives_is_not_stored(stage: Stage) -> None:
    stage.upstream.heal()
    part = faults.Status(206, (("cache-control", "max-age=60"), ("content-range", "bytes 0-0/9")), b"a")
    stage.upstream.fault(f"api GET {OTHER}", part, times=1)
    stage.upstream.fault(f"api GET {OTHER}", SAYS)
    assert stage.got(OTHER, {"range": "bytes=0-0"})[0] == 206
    assert stage.got(OTHER)[0::2] == (200, b"as always")


# Two targets that differ for upstream, or only look so: 1 for one entry, 2 for two.
QUERIES = {
    "another value": ("q=a", "q=b", 2),
    "another name": ("q=a", "Q=a", 2),
    "another order": ("q=a&page=1", "page=1&q=a", 1),
    "another order of one name": ("q=a&q=b", "q=b&q=a", 2),
    "once and twice": ("q=a", "q=a&q=a", 2),
    "a semicolon": ("q=a;page=1", "q=a&page=1", 2),
    "an encoded ampersand": ("q=a%26page=1", "q=a&page=1", 2),
    "an encoded letter": ("q=%61", "q=a", 1),
    "an encoded name": ("%71=a", "q=a", 1),
    "a blank in two spellings": ("q=a+b", "q=a%20b", 1),
    "a plus": ("q=a%2Bb", "q=a+b", 2),
    "an empty value": ("q=", "q", 1),
    "an empty parameter": ("q=a&", "q=a", 1),
    "brackets": ("ids[]=1", "ids%5B%5D=1", 1),
    "a parameter for trackers": ("q=a&utm_source=x", "q=a", 2),
    "a parameter that names a callback": ("q=a&callback=x", "q=a", 2),
    "a name for the method": ("q=a&_method=DELETE", "q=a", 2),
    "the case of an escape": ("q=%c3%a9", "q=%C3%A9", 1),
    "another encoding of a letter": ("q=%e9", "q=%c3%a9", 2),
}


@pytest.mark.parametrize("name", QUERIES)
@pytest.mark.parametrize("path", ["/api/v1/crates", OTHER])
def test_queries_share_an_entry_only_where_upstream_hears_the_same(name: str, path: str, stage: Stage) -> None:
    one, other, entries = QUERIES[name]
    for query in (one, other):
        assert stage.got(f"{path}?{query}")[0] == 200
    asked = [each.target for each in stage.upstream.asked(contains=path)]
    assert len(asked) == len(set(asked)) == entries


@pytest.mark.parametrize("host", [EVIL, "127.0.0.1.evil.example", "localhost@evil.example", "crates.io", "[::1", ""])
def test_nobody_is_told_an_address_that_another_client_made_up(host: str, stage: Stage, always: dict[str, Got]) -> None:
    for path in PATHS:
        status, fields, body = stage.got(path, {"host": host})
        assert status in (200, 400)
        assert b"evil" not in body or status == 400
        assert not any(EVIL in value for _, value in fields)
    assert stage.clean() == always


ERRORS = [*(each for each in range(400, 432) if each not in (404, 410, 429)), *range(500, 512), 599]


@pytest.mark.parametrize("status", [each for each in ERRORS if each != 503])
def test_an_error_is_never_what_the_next_one_gets(status: int, stage: Stage, always: dict[str, Got]) -> None:
    fields = (("cache-control", "public, max-age=600"), ("content-type", "application/json"))
    for path in PATHS:
        if path.endswith(("config.json", "leaf/1.0.0/readme", "leaf/1.0.0/download")) or (
            status == 403 and path.startswith("/files/")
        ):
            continue  # those have nothing of upstream's or are there twice; the last is how the static host says 404
        stage.upstream.heal()
        stage.upstream.fault(lambda _: True, faults.Status(status, fields), times=2 if status in PASSING else 1)
        stage.upstream.fault(f"api GET {OTHER}", SAYS)
        assert stage.got(path)[0] in (status, 502), path
        stage.upstream.heal()
        stage.upstream.fault(f"api GET {OTHER}", SAYS)
        assert stage.got(path) == always[path]
