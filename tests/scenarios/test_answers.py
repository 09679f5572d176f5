"""What an answer looks like: fields, validators, parts, own addresses, and what is refused before it is read."""

from __future__ import annotations

import gzip
import hashlib
import logging
import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.metered import metrics
from tests.proxied import Proxied, proxied
from tests.redis_server import redis_server
from tests.upstream import Source, Upstream, faults, samples

CRATE, INDEX, METADATA = "/api/v1/crates/leaf", "/index/le/af/leaf", "/api/v1/site_metadata"


def test_bodies_are_upstreams_byte_for_byte(proxy: Proxied, upstream: Upstream) -> None:
    assert proxy.get(INDEX).content == upstream.registry.index_file("leaf")
    direct = proxy.client.get(upstream.api + CRATE, headers={"user-agent": "tests"}).content
    assert proxy.get(CRATE).content == direct


def test_an_answer_tells_how_it_was_come_by_and_how_long_it_may_be_kept(proxy: Proxied) -> None:
    cold = proxy.get(CRATE, accept_encoding="identity")
    assert cold.headers["etag"] == f'"{hashlib.sha256(cold.content).hexdigest()}"'
    assert cold.headers["cache-control"] == "public, max-age=300"
    assert (cold.headers["age"], cold.headers["access-control-allow-origin"]) == ("0", "*")
    assert "date" in cold.headers
    unwanted = {"strict-transport-security", "x-frame-options", "set-cookie", "server", "via"}
    assert not unwanted & set(cold.headers)
    proxy.clock.now += 100
    warm = proxy.get(CRATE)
    assert (warm.headers["age"], warm.headers["cache-control"]) == ("100", "public, max-age=300")
    proxy.clock.now += 250
    stale = proxy.get(CRATE)
    assert (stale.headers["age"], stale.headers["cache-control"]) == ("350", "no-cache")


def test_config_json_is_our_own_and_costs_upstream_nothing(proxy: Proxied, upstream: Upstream) -> None:
    answer = proxy.get("/index/config.json")
    assert answer.json() == {
        "dl": f"{proxy.url}/files/crates/{{crate}}/{{version}}/{{sha256-checksum}}/download",
        "api": proxy.url,
    }
    assert answer.headers["cache-control"] == "no-cache"
    assert proxy.get("/index/config.json", if_none_match='"x"').status_code == 200
    assert proxy.get("/index/config.json", if_none_match=answer.headers["etag"]).status_code == 304
    assert not upstream.asked()


def test_own_addresses_are_given_for_known_hosts_only(proxy: Proxied, upstream: Upstream) -> None:
    for path in ("/index/config.json", METADATA):
        answer = proxy.get(path, host="evil.example")
        assert answer.status_code == 400
        assert "server.public_url" in answer.json()["errors"][0]["detail"]
    assert proxy.get(METADATA, host="localhost:1").json()["cdn_base"] == "http://localhost:1/files"
    assert proxy.get(METADATA).json()["cdn_base"] == f"{proxy.url}/files"
    assert len(upstream.asked()) == 1


def test_a_public_url_and_a_list_of_hosts_are_believed(upstream: Upstream, tmp_path: Path) -> None:
    with proxied(upstream, tmp_path, server__public_url="https://mirror.example/crates") as proxy:
        config = proxy.get("/index/config.json", host="evil.example").json()
        assert config["api"] == "https://mirror.example/crates"
    with proxied(upstream, tmp_path, server__hosts=("mirror.example",)) as proxy:
        config = proxy.get("/index/config.json", host="mirror.example:8080").json()
        assert config["api"] == "http://mirror.example:8080"


def test_a_client_that_has_the_answer_is_told_so_by_its_own_validator_only(proxy: Proxied, upstream: Upstream) -> None:
    cold = proxy.get(INDEX)
    proxy.clock.now += 61
    renewed = proxy.get(INDEX)
    assert (renewed.status_code, renewed.headers["x-cache"]) == (200, "REVALIDATED")
    assert upstream.asked(host="index")[1].header("if-none-match") == cold.headers["etag"]
    for field in ({"if_none_match": cold.headers["etag"]}, {"if_none_match": 'W/"x", ' + cold.headers["etag"]}):
        answer = proxy.get(INDEX, **field)
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", cold.headers["etag"])
    assert proxy.get(INDEX, if_modified_since=cold.headers["last-modified"]).status_code == 304
    assert proxy.get(INDEX, if_none_match='"other"').status_code == 200
    crate = proxy.get(CRATE)
    assert proxy.get(CRATE, if_none_match=crate.headers["etag"]).status_code == 304


def test_head_and_a_single_range_work_on_everything(proxy: Proxied) -> None:
    body = proxy.get(CRATE).content
    head = proxy.ask("HEAD", CRATE, accept_encoding="identity")
    assert (head.headers["content-length"], head.content) == (str(len(body)), b"")
    part = proxy.get(CRATE, range="bytes=2-5", accept_encoding="identity")
    assert (part.status_code, part.content) == (206, body[2:6])
    assert part.headers["content-range"] == f"bytes 2-5/{len(body)}"
    assert proxy.get(CRATE, range="bytes=999999-").status_code == 416
    assert proxy.ask("HEAD", "/api/v1/crates/nope").status_code == 404


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("//api/v1/crates", 400),
        ("/api/v1//crates", 400),
        ("/api/v1/crates/../me", 400),
        ("/api/v1/crates/%2e%2E/me", 400),
        ("/api/v1/./crates", 400),
        ("/api/v1/crates/a%2fb", 400),
        ("/api/v1/crates/a%5Cb", 400),
        ("/api/v1/crates/a\\b", 400),
        ("/api/v1/crates/a%00", 400),
        ("/api/v1/crates/a%zz", 400),
        ("/api/v1/crates?q=%zz", 400),
        ("/api/v1/crates?q=%00", 400),
        ("/api/v1/crates/leaf/", 404),
        ("/index/le/af/leaf/", 404),
        ("/index/", 404),
        ("/api/v1/crates/-leaf", 404),
        ("/api/v1/crates/" + "a" * 65, 404),
        ("/api/v1/crates/l%C3%A9af", 404),
        ("/api/v1/crates/leaf/1.0", 400),
        ("/files/crates/leaf/leaf-1.0.crate", 404),
        ("/files/crates/leaf/other-1.0.0.crate", 404),
        ("/files/crates/leaf/1.0.0/" + "g" * 64 + "/download", 404),
        ("/index/le/af/Leaf", 404),
        ("/index/xx/xx/leaf", 404),
        ("/index/config.jsonx", 404),
        ("/nowhere", 404),
        ("/api/v1", 404),
        ("/api/v2/crates", 404),
    ],
)
def test_what_has_no_single_meaning_or_cannot_exist_is_answered_without_asking(
    path: str, status: int, proxy: Proxied, upstream: Upstream
) -> None:
    address = urlsplit(proxy.url)
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=5) as sock:
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while piece := sock.recv(65536):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer[:200]
    assert b'{"errors": [{"detail": "' in answer
    assert not upstream.asked()


def test_a_change_where_nothing_can_be_changed_is_405(proxy: Proxied) -> None:
    for path in (INDEX, "/files/crates/leaf/leaf-1.0.0.crate"):
        answer = proxy.ask("PUT", path)
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    "fault",
    [
        faults.Status(200, (("content-type", "application/json"),), b'{"errors":[{"detail":"no"}]}'),
        faults.Status(200, (("content-type", "application/json"),), b"{"),
        faults.Status(200, (("content-type", "text/html"),), b"<html>"),
        faults.Truncate(faults.At.MIDDLE),
        faults.Reset(),
        faults.Status(503),
    ],
    ids=repr,
)
def test_what_is_no_answer_is_told_as_502_and_not_stored(
    fault: faults.Fault, proxy: Proxied, upstream: Upstream
) -> None:
    upstream.fault("", fault)
    for path in (CRATE, INDEX):
        answer = proxy.get(path)
        assert (answer.status_code, answer.headers["cache-control"]) == (502, "no-store")
        assert answer.json()["errors"][0]["detail"]
    upstream.heal()
    for path in (CRATE, INDEX):
        assert proxy.get(path).headers["x-cache"] == "MISS"


@pytest.mark.parametrize(
    "field",
    [
        ("cache-control", "no-store"),
        ("cache-control", "private"),
        ("set-cookie", "a=b"),
        ("vary", "*"),
    ],
)
def test_what_upstream_forbids_to_store_is_not_stored(
    field: tuple[str, str], proxy: Proxied, upstream: Upstream
) -> None:
    upstream.fault("api", faults.Status(200, (("content-type", "application/json"), field), b'{"crate":{}}'))
    for _ in range(2):
        answer = proxy.get(CRATE)
        assert (answer.status_code, answer.headers["x-cache"]) == (200, "MISS")
        assert answer.headers["cache-control"] == "no-store"
        assert "set-cookie" not in answer.headers
    assert len(upstream.asked()) == 2


def test_an_answer_whose_end_only_the_connection_tells_is_served_but_not_stored(
    proxy: Proxied, upstream: Upstream
) -> None:
    upstream.fault("", faults.CloseDelimited())
    assert [proxy.get(INDEX).headers["x-cache"] for _ in range(2)] == ["MISS", "MISS"]


def test_an_upstream_that_does_not_answer_is_504(upstream: Upstream, tmp_path: Path) -> None:
    upstream.fault("", faults.Stall())
    with proxied(upstream, tmp_path, upstream__read_timeout="300ms") as proxy:
        for path in (CRATE, INDEX, "/api/v1/me"):
            assert proxy.get(path).status_code == 504


@pytest.mark.parametrize(
    ("fields", "second"),
    [
        ((("cache-control", "max-age=60"),), "HIT"),
        ((("cache-control", "public, s-maxage=60, max-age=0"),), "HIT"),
        ((), "PASS"),
        ((("cache-control", "max-age=0"),), "PASS"),
        ((("cache-control", "max-age=60, private"),), "PASS"),
        ((("cache-control", "max-age=60"), ("set-cookie", "a=b")), "PASS"),
        ((("cache-control", "max-age=60"), ("vary", "cookie")), "HIT"),
        ((("cache-control", "max-age=60"), ("vary", "*")), "PASS"),
    ],
)
def test_a_route_without_times_of_ours_is_stored_where_upstreams_headers_let_it(
    fields: tuple[tuple[str, str], ...], second: str, proxy: Proxied, upstream: Upstream
) -> None:
    upstream.fault("api", faults.Status(200, (("content-type", "text/plain"), *fields), b"something new"))
    assert proxy.get("/api/v1/something/new").content == b"something new"
    answer = proxy.get("/api/v1/something/new")
    assert (answer.content, answer.headers["x-cache"]) == (b"something new", second)
    authorized = "HIT" if "public" in dict(fields).get("cache-control", "") else "PASS"
    assert proxy.get("/api/v1/something/new", authorization="cioX").headers["x-cache"] == authorized
    proxy.clock.now += 61
    assert proxy.get("/api/v1/something/new").headers["x-cache"] != "HIT"


def test_redirects_to_configured_hosts_lead_back_here(proxy: Proxied, upstream: Upstream) -> None:
    for location, here in (
        (f"{upstream.static}/crates/x.crate", f"{proxy.url}/files/crates/x.crate"),
        (f"{upstream.static}@elsewhere.example/", f"{upstream.static}@elsewhere.example/"),
        ("https://elsewhere.example/", "https://elsewhere.example/"),
    ):
        upstream.heal()
        upstream.fault("api", faults.Status(302, (("location", location),), b""))
        assert proxy.get("/api/v1/somewhere").headers["location"] == here


def test_nothing_that_a_client_or_upstream_does_is_logged_as_an_error(
    proxy: Proxied, upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    upstream.fault("static", faults.Truncate(faults.At.MIDDLE))
    upstream.fault("api", faults.Garbage())
    for path in ("/api/v1/crates/leaf/1.0.0/download", CRATE, "/api/v1/me", "/%zz"):
        proxy.get(path)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_a_304_and_a_204_of_upstreams_pass_without_the_length_they_may_carry(
    proxy: Proxied, upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    for status in (304, 204):
        upstream.heal()
        upstream.fault("api", faults.Status(status, (("content-length", "25"),), b""))
        answer = proxy.get("/api/v1/me", if_none_match='"x"')
        assert (answer.status_code, answer.content) == (status, b"")
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_a_body_of_a_read_goes_nowhere(proxy: Proxied, upstream: Upstream) -> None:
    for path in ("/api/v1/me", "/api/v1/something/new", CRATE):
        proxy.client.request("GET", proxy.url + path, content=b"12345")
    assert [asked.body_length for asked in upstream.asked()] == [0, 0, 0]


def test_an_error_on_a_route_that_passes_says_that_it_passed(proxy: Proxied, upstream: Upstream) -> None:
    upstream.stop()
    for method, path in (("GET", "/api/v1/me"), ("PUT", "/api/v1/crates/new")):
        answer = proxy.ask(method, path)
        assert (answer.status_code, answer.headers["x-cache"]) == (502, "PASS")
        assert answer.headers["cache-status"] == "crates-proxy; fwd=bypass"


def test_a_404_that_is_no_json_is_told_as_json(proxy: Proxied, upstream: Upstream) -> None:
    upstream.fault("api", faults.Status(404, (("content-type", "text/html"),), b"<html>gone</html>"))
    assert proxy.get(CRATE).json() == {"errors": [{"detail": "crates.io has nothing here"}]}


def test_answers_that_depend_on_accept_say_so(proxy: Proxied) -> None:
    for path in ("/api/v1/crates/leaf/1.0.0/download", "/api/v1/crates/leaf/1.0.0/readme"):
        for accept in ("*/*", "application/json"):
            assert "accept" in proxy.get(path, accept=accept).headers["vary"]


@pytest.mark.parametrize("upstreams", [True, False], ids=["gzip from upstream", "made here"])
def test_each_coding_of_an_answer_is_itself_with_a_tag_of_its_own(
    upstreams: bool, proxy: Proxied, upstream: Upstream
) -> None:
    for number in range(20):
        upstream.registry.add(Source("leaf", f"4.0.{number}"), samples.OWNER)
    if upstreams:
        upstream.fault("index", faults.Gzip())
    plain = proxy.get(INDEX, accept_encoding="identity")
    coded = proxy.get(INDEX, accept_encoding="deflate, gzip")
    assert plain.content == coded.content == upstream.registry.index_file("leaf")
    assert "content-encoding" not in plain.headers and coded.headers["content-encoding"] == "gzip"
    assert int(coded.headers["content-length"]) < int(plain.headers["content-length"])
    assert plain.headers["vary"] == coded.headers["vary"] == "accept-encoding"
    assert plain.headers["etag"] != coded.headers["etag"]
    for answer, accepted in ((plain, "identity"), (coded, "gzip")):
        tag = answer.headers["etag"]
        assert proxy.get(INDEX, if_none_match=tag, accept_encoding=accepted).status_code == 304
    proxy.clock.now += 61
    upstream.heal()
    renewed = proxy.get(INDEX, accept_encoding="gzip")
    assert (renewed.headers["x-cache"], renewed.headers["etag"]) == ("REVALIDATED", coded.headers["etag"])
    # Upstream is asked with its own tag, whichever coding that belongs to.
    asked = upstream.asked(host="index")[-1].header("if-none-match")
    assert asked == (coded if upstreams else plain).headers["etag"]
    assert len(upstream.asked()) == 2


def test_a_coding_that_cannot_be_read_is_refused(proxy: Proxied, upstream: Upstream) -> None:
    for coding, body in (("br", b"x"), ("gzip", b"no gzip"), ("gzip", gzip.compress(b"{}")[:-1])):
        upstream.heal()
        fields = (("content-type", "application/json"), ("content-encoding", coding))
        upstream.fault("", faults.Status(200, fields, body))
        for path in (CRATE, INDEX, "/api/v1/crates/leaf/1.0.0/readme"):
            assert proxy.get(path).status_code == 502


def test_a_short_answer_has_one_coding(proxy: Proxied) -> None:
    answer = proxy.get("/index/3/a/abc", accept_encoding="gzip")
    assert "content-encoding" not in answer.headers and "vary" not in answer.headers


def test_a_query_is_in_no_log(proxy: Proxied, upstream: Upstream, caplog: pytest.LogCaptureFixture) -> None:
    upstream.stop()
    proxy.get("/api/v1/crates?q=a-secret-project")
    assert caplog.records
    assert not any("a-secret-project" in record.getMessage() for record in caplog.records if record.name != "httpx")


def test_a_redis_that_hangs_is_waited_for_once_whatever_it_is_wanted_for(upstream: Upstream, tmp_path: Path) -> None:
    """Its values, marks, leases and budget are four things of one server."""
    with redis_server() as server, proxied(upstream, tmp_path, both_ways=False, redis__url=server.url) as proxy:
        server.hang()
        try:
            for path in ("/api/v1/crates/leaf", "/api/v1/crates/leaf/versions", "/index/le/af/leaf"):
                assert proxy.get(path).status_code == 200
            counted = metrics(proxy.url)
            assert sum(counted["store_errors_total", store] for store in ("json", "index")) == 1
        finally:
            server.resume()
