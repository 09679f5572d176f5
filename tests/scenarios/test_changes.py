"""Changes go straight through with the caller's token, and what they change is asked for afresh."""

from __future__ import annotations

import logging
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.proxied import Proxied, proxied
from tests.upstream import Source, Upstream, crates, faults, samples

CRATE, INDEX, VERSIONS = "/api/v1/crates/leaf", "/index/le/af/leaf", "/api/v1/crates/leaf/versions"
YANK = "/api/v1/crates/leaf/1.0.0/yank"
AUTH = {"authorization": samples.TOKEN}


def received(sock: socket.socket) -> bytes:
    """Everything until the other side closes."""
    data = b""
    while piece := sock.recv(65536):
        data += piece
    return data


@pytest.fixture
def filled(proxy: Proxied) -> Proxied:
    for path in (CRATE, INDEX, VERSIONS, "/api/v1/crates/abc"):
        assert proxy.get(path).headers["x-cache"] == "MISS"
    return proxy


def test_a_change_reaches_upstream_as_it_is_and_its_answer_comes_back_as_it_is(
    filled: Proxied, upstream: Upstream
) -> None:
    upstream.forget()
    answer = filled.client.delete(filled.url + YANK, headers=AUTH)
    assert (answer.status_code, answer.json()) == (200, {"ok": True})
    assert (answer.headers["x-cache"], answer.headers["cache-control"]) == ("PASS", "no-store")
    (asked,) = upstream.asked()
    assert (asked.method, asked.target, asked.header("authorization")) == ("DELETE", YANK, samples.TOKEN)
    assert asked.header("user-agent").startswith("crates-proxy/")
    assert upstream.registry.release("leaf", "1.0.0").yanked


def test_after_a_change_that_crate_is_asked_for_afresh_and_no_other(filled: Proxied) -> None:
    filled.clock.now += 5
    filled.client.delete(filled.url + YANK, headers=AUTH)
    filled.clock.now += 0.1
    assert b'"yanked":true' in filled.get(INDEX).content.splitlines()[0]
    assert filled.get(CRATE).headers["x-cache"] == "MISS"
    assert filled.get(VERSIONS).headers["x-cache"] == "MISS"
    assert filled.get("/api/v1/crates/abc").headers["x-cache"] == "HIT"


def test_for_a_minute_after_a_change_an_answer_is_fresh_for_a_second(filled: Proxied) -> None:
    filled.clock.now += 5
    filled.client.delete(filled.url + YANK, headers=AUTH)
    filled.clock.now += 0.1
    assert filled.get(CRATE).headers["cache-control"] == "public, max-age=1"
    filled.clock.now += 0.5
    assert filled.get(CRATE).headers["x-cache"] == "HIT"
    filled.clock.now += 0.6
    assert filled.get(CRATE).headers["x-cache"] == "MISS"
    filled.clock.now += 60
    assert filled.get(CRATE).headers["cache-control"] == "public, max-age=300"


def test_what_changed_still_serves_when_upstream_fails(filled: Proxied, upstream: Upstream) -> None:
    filled.clock.now += 5
    filled.client.delete(filled.url + YANK, headers=AUTH)
    filled.clock.now += 0.1
    upstream.stop()
    answer = filled.get(CRATE)
    assert (answer.status_code, answer.headers["x-cache"]) == (200, "STALE")


def test_the_mark_of_a_change_outlives_a_restart(upstream: Upstream, tmp_path: Path) -> None:
    with proxied(upstream, tmp_path) as first:
        first.get(CRATE)
        first.clock.now += 5
        first.client.delete(first.url + YANK, headers=AUTH)
        clock = first.clock
    clock.now += 1
    with proxied(upstream, tmp_path, clock) as second:
        assert second.get(CRATE).headers["x-cache"] == "MISS"


def test_publishing_is_seen_at_once(proxy: Proxied, upstream: Upstream) -> None:
    assert proxy.get("/index/ne/wc/newcomer").status_code == 404
    body = crates.publish_body(Source("newcomer", "0.1.0"))
    proxy.clock.now += 1
    answer = proxy.client.put(f"{proxy.url}/api/v1/crates/new", headers=AUTH, content=body)
    assert answer.status_code == 200, answer.text
    assert upstream.asked(method="PUT")[0].body_length == len(body)
    proxy.clock.now += 0.1
    assert proxy.get("/index/ne/wc/newcomer").status_code == 200
    assert proxy.get("/api/v1/crates/newcomer/0.1.0/download").status_code == 200


def test_a_refused_change_invalidates_nothing_and_is_told_in_upstreams_words(
    filled: Proxied, upstream: Upstream
) -> None:
    filled.clock.now += 5
    answer = filled.client.delete(filled.url + YANK, headers={"authorization": "cioWrongToken"})
    assert answer.status_code == 403
    assert "errors" in answer.json()
    upstream.fault("api DELETE", faults.Status(429, (("retry-after", "Wed, 21 Oct 2026 07:28:00 GMT"),)))
    limited = filled.client.delete(filled.url + YANK, headers=AUTH)
    assert (limited.status_code, limited.headers["retry-after"]) == (429, "Wed, 21 Oct 2026 07:28:00 GMT")
    filled.clock.now += 0.1
    assert filled.get(CRATE).headers["x-cache"] == "HIT"


@pytest.mark.parametrize("fault", [faults.Reset(), faults.Garbage(), faults.Status(502)], ids=repr)
def test_a_change_whose_end_is_unknown_is_not_repeated_but_what_it_may_have_changed_is_asked_afresh(
    fault: faults.Fault, filled: Proxied, upstream: Upstream
) -> None:
    upstream.forget()
    upstream.fault("api DELETE", fault)
    filled.clock.now += 5
    assert filled.client.delete(filled.url + YANK, headers=AUTH).status_code == 502
    assert len(upstream.asked(method="DELETE")) == 1
    filled.clock.now += 0.1
    assert filled.get(CRATE).headers["x-cache"] == "MISS"


def test_private_reads_carry_the_callers_credentials_and_are_never_stored(proxy: Proxied, upstream: Upstream) -> None:
    cookie = f"cargo_session={samples.SESSION}"
    for _ in range(2):
        answer = proxy.get("/api/v1/me", cookie=cookie)
        assert (answer.status_code, answer.headers["x-cache"]) == (200, "PASS")
    assert proxy.get("/api/v1/me").status_code == 403
    assert [asked.header("cookie") for asked in upstream.asked()] == [cookie, cookie, ""]


def test_clients_that_leave_in_mid_answer_leave_nothing_behind(proxy: Proxied, upstream: Upstream) -> None:
    """More of them than there are connections upstream: were theirs not closed, the next client would wait."""
    upstream.fault("api GET /api/v1/me", faults.Endless())
    address = urlsplit(proxy.url)
    for _ in range(20):
        with socket.create_connection((address.hostname or "", address.port or 0), timeout=5) as leaver:
            leaver.sendall(b"GET /api/v1/me HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert leaver.recv(65536).startswith(b"HTTP/1.1 403 ")
    upstream.heal()
    assert proxy.get("/api/v1/me").status_code == 403


def test_uploads_that_dawdle_keep_nobody_from_reading(proxy: Proxied) -> None:
    address = urlsplit(proxy.url)
    dawdlers = []
    for _ in range(40):
        dawdler = socket.create_connection((address.hostname or "", address.port or 0), timeout=5)
        dawdler.sendall(b"PUT /api/v1/crates/new HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000\r\n\r\nx")
        dawdlers.append(dawdler)
    assert proxy.get(CRATE).status_code == 200
    assert proxy.get("/api/v1/me").status_code == 403
    for dawdler in dawdlers:
        dawdler.close()


def test_a_change_that_never_went_out_changes_nothing_here(filled: Proxied, upstream: Upstream) -> None:
    address = urlsplit(filled.url)
    filled.clock.now += 5
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=5) as leaver:
        leaver.sendall(b"PUT /api/v1/crates/leaf/owners HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\nx")
        upstream.wait_for(1, host="index")
    upstream.stop()
    assert filled.client.delete(filled.url + YANK, headers=AUTH).status_code == 502
    filled.clock.now += 0.1
    assert filled.get(CRATE).headers["x-cache"] == "HIT"


def test_public_reads_carry_nothing_of_the_client(proxy: Proxied, upstream: Upstream) -> None:
    answer = proxy.get(
        "/api/v1/crates/leaf/owners",
        authorization=samples.TOKEN,
        cookie=f"cargo_session={samples.SESSION}",
        user_agent="curl/8",
        x_forwarded_host="evil.example",
        x_http_method_override="DELETE",
        origin="https://evil.example",
        accept="text/html",
    )
    assert answer.status_code == 200
    (asked,) = upstream.asked()
    sent = {name for name, _ in asked.headers}
    assert sent == {"host", "via", "user-agent", "accept", "accept-encoding"}
    assert asked.header("user-agent").startswith("crates-proxy/")


@pytest.mark.parametrize("size", [0, 1, 70_000, 3_000_000])
@pytest.mark.parametrize("split", [0, 1, 50])
def test_the_body_of_a_put_that_offers_h2c_arrives_whole(
    size: int, split: int, proxy: Proxied, upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    """As cargo 1.97 publishes on plain HTTP. uvicorn alone would lose the body."""
    body = struct.pack("<I", 2) + b"{}" + bytes(size)
    head = (
        b"PUT /api/v1/crates/new HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: " + samples.TOKEN.encode() + b"\r\n"
        b"Connection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n"
        b"Content-Length: %d\r\n\r\n" % len(body)
    )
    address = urlsplit(proxy.url)
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=10) as sock:
        data = head + body
        for start in range(0, len(head), split) if split else ():
            sock.sendall(data[start : min(start + split, len(head))])
        sock.sendall(data[len(head) if split else 0 :])
        answer = received(sock)
    assert answer.startswith(b"HTTP/1.1 "), answer[:100]
    (asked,) = upstream.asked(method="PUT")
    assert asked.body_length == len(body)
    assert not {"upgrade", "http2-settings"} & {name for name, _ in asked.headers}
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_read_only_refuses_every_change_and_names_the_setting(upstream: Upstream, tmp_path: Path) -> None:
    with proxied(upstream, tmp_path, access__read_only=True) as proxy:
        answer = proxy.client.delete(proxy.url + YANK, headers=AUTH)
        assert answer.status_code == 403
        assert "access.read_only" in answer.json()["errors"][0]["detail"]
        assert proxy.get("/index/config.json").json()["api"] == proxy.url
        assert not upstream.asked()


def test_offline_refuses_changes_and_serves_whatever_is_stored(upstream: Upstream, tmp_path: Path) -> None:
    with proxied(upstream, tmp_path) as online:
        for path in (CRATE, INDEX, "/api/v1/crates/leaf/1.0.0/download"):
            online.get(path)
        clock = online.clock
    upstream.forget()
    clock.now += 400 * 86400
    with proxied(upstream, tmp_path, clock, upstream__offline=True) as offline:
        for path in (CRATE, INDEX):
            answer = offline.get(path)
            assert (answer.status_code, answer.headers["x-cache"]) == (200, "STALE")
            assert answer.headers["cache-status"].endswith("detail=offline")
            assert answer.headers["cache-control"] == "no-cache"
        assert offline.get("/api/v1/crates/leaf/1.0.0/download").headers["x-cache"] == "HIT"
        missing = offline.get("/index/3/a/abc")
        assert missing.status_code == 504
        assert "crates-proxy warm" in missing.json()["errors"][0]["detail"]
        assert offline.get("/api/v1/crates/leaf/1.1.0/download").status_code == 504
        assert offline.client.delete(offline.url + YANK, headers=AUTH).status_code == 504
    assert not upstream.asked()


@pytest.fixture
def everything_logged(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.DEBUG):
        yield caplog


def test_a_token_is_in_no_log_store_or_answer(
    proxy: Proxied, upstream: Upstream, everything_logged: pytest.LogCaptureFixture
) -> None:
    secret = "cioSecretThatMustNotLeak00000000"
    fields = {"authorization": secret, "cookie": f"cargo_session={secret}"}
    upstream.fault("api DELETE", faults.Reset())
    answers = [
        proxy.client.request(method, proxy.url + path, headers=fields)
        for method, path in (
            ("DELETE", YANK),
            ("PUT", "/api/v1/crates/leaf/owners"),
            ("GET", "/api/v1/me"),
            ("GET", CRATE),
            ("GET", "/api/v1/crates/leaf/owners"),
            ("GET", "/api/v1/unknown"),
            ("GET", "/nowhere"),
        )
    ]
    assert not any(secret in answer.text for answer in answers)
    assert not any(secret in record.getMessage() for record in everything_logged.records if record.name != "httpx")
    stored = b"".join(path.read_bytes() for path in proxy.directory.rglob("*") if path.is_file())
    assert secret.encode() not in stored
