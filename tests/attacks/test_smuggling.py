"""One connection, one reading: nothing that is sent in a request is ever taken for another, here or upstream."""

from __future__ import annotations

import json

import pytest

from tests.attacks.stage import Stage
from tests.server.test_guard import HEADS

EVIL = b"GET /api/v1/crates/abc HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
CRATE = b"GET /api/v1/crates/leaf HTTP/1.1\r\nHost: 127.0.0.1\r\n"
LAST = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
# What has a request inside, each a request of its own that is to be answered; how many requests upstream hears.
HIDDEN = {
    "in the body of a read": CRATE + b"Content-Length: %d\r\n\r\n" % len(EVIL) + EVIL,
    "in chunks of a read": CRATE + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(EVIL), EVIL),
    "in a trailer": CRATE + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX-Evil: GET /api/v1/crates/abc HTTP/1.1\r\n\r\n",
    "in a chunk's extension": CRATE + b'Transfer-Encoding: chunked\r\n\r\n1;a="GET";b=HTTP\r\na\r\n0\r\n\r\n',
    "behind an offer of HTTP/2": CRATE
    + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n"
    + b"Content-Length: %d\r\n\r\n" % len(EVIL)
    + EVIL,
    "behind an offer of a websocket": CRATE
    + b"Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: %d\r\n\r\n" % len(EVIL)
    + EVIL,
    "behind an expectation": CRATE + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(EVIL) + EVIL,
    "in a field": CRATE + b"X-Evil: " + EVIL.split(b"\r\n")[0] + b"\r\n\r\n",
}
UPLOADS = {
    "with a length": b"Content-Length: %d\r\n\r\n" % len(EVIL) + EVIL,
    "in chunks": b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(EVIL), EVIL),
}


def spoken(stage: Stage, sent: bytes) -> list[int]:
    """The statuses of the final answers to these bytes and to a last request."""
    return [status for status, _ in stage.raw(sent + LAST) if status >= 200]


@pytest.mark.parametrize("name", HIDDEN)
def test_a_request_inside_of_a_read_is_none(name: str, stage: Stage) -> None:
    assert spoken(stage, HIDDEN[name]) == [200, 200]
    assert [asked.target for asked in stage.upstream.asked(host="api")] == ["/api/v1/crates/leaf"]
    assert stage.upstream.asked(contains="abc") == []


@pytest.mark.parametrize("name", UPLOADS)
@pytest.mark.parametrize("method", [b"PUT", b"POST", b"PATCH", b"DELETE", b"OPTIONS"])
def test_a_request_inside_of_a_change_is_its_body(name: str, method: bytes, stage: Stage) -> None:
    head = b"%b /api/v1/crates/leaf/1.0.0/yank HTTP/1.1\r\nHost: 127.0.0.1\r\n" % method
    first, last = spoken(stage, head + UPLOADS[name])
    assert last == 200
    (asked,) = stage.upstream.asked()
    assert (asked.method.encode(), asked.body_length) == (method, len(EVIL))


def test_requests_in_a_row_each_get_their_own_answer(stage: Stage) -> None:
    names = ["leaf", "abc", "nothing-of-this-name", "a", "ok"]
    heads = [f"GET /api/v1/crates/{name} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode() for name in names]
    found = stage.raw(b"".join(heads * 3)[: -len(b"\r\n")] + b"Connection: close\r\n\r\n")
    assert [json.loads(body).get("crate", {}).get("id") for _, body in found] == [
        None if name.startswith("nothing") else name for name in names * 3
    ]


@pytest.mark.parametrize("name", HEADS)
def test_what_is_refused_at_the_parser_is_heard_by_nobody(name: str, stage: Stage) -> None:
    """The whole table of the guard, with a request behind each that whoever reads it otherwise would take for one."""
    sent, status, _ = HEADS[name]
    ((refused, _),) = stage.raw(sent + EVIL)
    assert refused in ((status, 404) if "trailer" in name else (status,))  # the head may be answered before they come
    assert stage.upstream.asked() == []
