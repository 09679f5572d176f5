"""What was found once, by target: the bytes, as short as they could be made. Each is tried by the tests for ever."""

from __future__ import annotations

_ENTRY = (
    b'["search /api/v1/crates",%b,[["content-type","%b"]],"\\"a\\"",1700000000.0,1700000000.0,0.0,%b,false,null,'
    b'[0.0,null,false,false,[],""]]'
)


def _entry(status: bytes = b"200", content_type: bytes = b"application/json", lifetime: bytes = b"null") -> bytes:
    facts = _ENTRY % (status, content_type, lifetime)
    return len(facts).to_bytes(4, "little") + facts + b"{}"


FINDINGS: dict[str, list[bytes]] = {
    "request": [
        # A version that is none made a 500 of /metrics.
        b"\0GET /metrics HTTP/1.1\r\nHost: a\r\nAccept: application/openmetrics-text; version=1.0.\r\n\r\n",
    ],
    "upstream": [
        # A control character in a field made a 500.
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nlink: a\x7f\r\ncontent-length: 2\r\n\r\n{}",
        # Both a length and chunks: the wrong one of them went on to the client.
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 97\r\ntransfer-encoding: chunked\r\n\r\n"
        b"2\r\n{}\r\n0\r\n\r\n",
    ],
    "member": [
        # A whole number that no float holds.
        b'index/le/af/leaf\n{"sha256": "%b", "responded_at": %b}\n' % (b"0" * 64, b"9" * 400),
    ],
    "row": [
        b'{"leaf":{"requests":184467440737095516161}}',
        b'{"looked_at":1,"seen":[],"etag":"","modified":"","failures":"x","trouble":""}',
        b'[{"where":1,"kind":"","status":"5","detail":"","first":"1","last":2.0,"count":1}]',
    ],
    "stored": [
        _entry(content_type=b"application/json\x7f"),
        _entry(content_type=b"a\\r\\nset-cookie: a"),
        _entry(status=b"999"),
        _entry(status=b"204"),
        _entry(lifetime=b'"5"'),
    ],
}
