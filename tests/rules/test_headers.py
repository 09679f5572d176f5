from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.model import Headers
from proxy.rules import headers

HOP_BY_HOP = (
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
)

# With these a request could make upstream answer for another host, path, method, scheme or client.
POISON = (
    "cloudfront-forwarded-proto",
    "forwarded",
    "forwarded-for",
    "host",
    "host-override",
    "origin",
    "proxy",
    "proxy-client-ip",
    "referer",
    "via",
    "x-akamai-edgescape",
    "x-azure-clientip",
    "x-client-cert",
    "x-forward-for",
    "x-forward-host",
    "x-forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-path",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-proto",
    "x-forwarded-scheme",
    "x-forwarded-server",
    "x-forwarded-uri",
    "x-forwarder-for",
    "x-host",
    "x-host-override",
    "x-http-method",
    "x-http-method-override",
    "x-method",
    "x-method-override",
    "x-original-host",
    "x-original-url",
    "x-proxyuser-ip",
    "x-real-ip",
    "x-rewrite-url",
    "fastly-client-ip",
    "fastly-debug",
)
OURS_TO_SAY = ("accept-encoding", "expect", "user-agent")
FORWARDED = (
    "accept",
    "authorization",
    "cache-control",
    "content-length",
    "content-type",
    "cookie",
    "if-none-match",
    "range",
    "x-requested-with",
)

OF_UPSTREAMS_HOP = (
    "age",
    "alt-svc",
    "cache-status",
    "nel",
    "report-to",
    "reporting-endpoints",
    "server",
    "strict-transport-security",
    "via",
    "x-cache",
    "x-cache-hits",
    "x-frame-options",
    "x-served-by",
    "x-timer",
)
PASSED_DOWN = (
    "access-control-allow-origin",
    "cache-control",
    "content-length",
    "content-type",
    "date",
    "etag",
    "expires",
    "location",
    "retry-after",
    "set-cookie",
    "vary",
    "www-authenticate",
)
KEPT = (
    "access-control-allow-origin",
    "content-language",
    "content-type",
    "date",
    "etag",
    "last-modified",
    "link",
    "vary",
    "x-content-type-options",
)
NOT_KEPT = ("cache-control", "content-length", "expires", "location", "pragma", "set-cookie", "x-request-id")

Choice = Callable[[Headers], Headers]

# Which choice of fields -> names that it takes, and names that it leaves.
CHOICES: list[tuple[Choice, tuple[str, ...], tuple[str, ...]]] = [
    (headers.end_to_end, FORWARDED + PASSED_DOWN, HOP_BY_HOP),
    (headers.upstream, FORWARDED, HOP_BY_HOP + POISON + OURS_TO_SAY),
    (headers.downstream, PASSED_DOWN, HOP_BY_HOP + OF_UPSTREAMS_HOP),
    (
        headers.interim,
        tuple(name for name in PASSED_DOWN if name not in ("set-cookie", "content-length")),
        (*HOP_BY_HOP, *OF_UPSTREAMS_HOP, "set-cookie", "content-length"),
    ),
    (headers.kept, KEPT, HOP_BY_HOP + OF_UPSTREAMS_HOP + NOT_KEPT),
    (
        headers.kept_transparently,
        tuple(name for name in PASSED_DOWN if name not in ("set-cookie", "content-length")),
        (*HOP_BY_HOP, *OF_UPSTREAMS_HOP, "set-cookie", "content-length"),
    ),
]
CASES = [(choice, name, True) for choice, taken, _ in CHOICES for name in taken] + [
    (choice, name, False) for choice, _, left in CHOICES for name in left
]

NAMES = st.sampled_from(HOP_BY_HOP + POISON + OURS_TO_SAY + FORWARDED + PASSED_DOWN + KEPT).map(str.encode)
FIELDS = st.lists(st.tuples(NAMES, st.sampled_from([b"", b"a", b"close, x-a", b"cookie", b"Accept ,"]))).map(tuple)


@pytest.mark.parametrize(("choice", "name", "taken"), CASES, ids=lambda value: getattr(value, "__name__", str(value)))
def test_a_field_goes_where_its_table_says(choice: Choice, name: str, taken: bool) -> None:
    item = (name.encode(), b"value")
    assert choice((item, item)) == ((item, item) if taken else ())


@pytest.mark.parametrize("choice", [choice for choice, _, _ in CHOICES], ids=lambda choice: choice.__name__)
def test_a_field_that_connection_names_ends_here(choice: Choice) -> None:
    fields = (
        (b"content-type", b"a"),
        (b"connection", b"close, Content-Type ,"),
        (b"connection", b"ETag"),
        (b"etag", b'"a"'),
        (b"date", b"today"),
    )
    assert choice(fields) == ((b"date", b"today"),)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ((), None),
        (((b"b", b"1"),), None),
        (((b"a", b""),), b""),
        (((b"a", b"1"), (b"b", b"2"), (b"a", b"3")), b"1, 3"),
    ],
)
def test_the_values_of_a_repeated_field_are_joined(fields: Headers, expected: bytes | None) -> None:
    assert headers.value(fields, b"a") == expected


def test_credentials_and_conditions_are_told_apart() -> None:
    assert headers.CREDENTIALS == {b"authorization", b"cookie"}
    assert {b"range", b"if-none-match", b"if-modified-since"} <= headers.CONDITIONAL


@given(FIELDS)
def test_nothing_that_poisons_gets_upstream(fields: Headers) -> None:
    sent = {name.decode() for name, _ in headers.upstream(fields)}
    assert not sent & {*POISON, *HOP_BY_HOP, *OURS_TO_SAY}


@given(FIELDS)
def test_what_is_stored_never_sets_a_cookie(fields: Headers) -> None:
    for kept in (headers.kept(fields), headers.kept_transparently(fields)):
        assert headers.value(kept, b"set-cookie") is None


@given(FIELDS)
def test_what_is_chosen_is_unchanged_and_in_order(fields: Headers) -> None:
    for choice, _, _ in CHOICES:
        chosen = choice(fields)
        assert choice(chosen) == chosen
        remaining = iter(fields)
        assert all(item in remaining for item in chosen)


def test_fields_are_looked_for_and_left_out_by_name() -> None:
    fields = ((b"range", b"bytes=0-1"), (b"accept", b"*/*"), (b"if-range", b'"a"'))
    assert headers.names_any(fields, headers.CONDITIONAL) and not headers.names_any(fields, headers.CREDENTIALS)
    assert headers.without(fields, headers.CONDITIONAL) == ((b"accept", b"*/*"),)
