"""Which header fields go where, as tables. Names are lower-case bytes.

Requests on rows with a ttl send nothing of the client's: what is not sent cannot poison what is stored.
"""

from __future__ import annotations

from proxy.model import Headers

# RFC 9110 section 7.6.1, and what old agents still send.
HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authentication-info",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"http2-settings",
    )
)

# What a client says that must not reach upstream: who it is behind us, what would make upstream answer for
# another host or method, and what this proxy says itself.
_NOT_UPSTREAM = frozenset(
    (
        b"accept-encoding",
        b"baggage",
        b"base-url",
        b"client-ip",
        b"destination",
        b"expect",
        b"forwarded",
        b"forwarded-for",
        b"front-end-https",
        b"host",
        b"host-override",
        b"origin",
        b"proxy",
        b"proxy-client-ip",
        b"referer",
        b"remote-addr",
        b"request-uri",
        b"traceparent",
        b"tracestate",
        b"true-client-ip",
        b"user-agent",
        b"via",
        b"wl-proxy-client-ip",
        b"x-backend-host",
        b"x-cluster-client-ip",
        b"x-correlation-id",
        b"x-custom-ip-authorization",
        b"x-method",
        b"x-method-override",
        b"x-originating-ip",
        b"x-override-url",
        b"x-real-ip",
        b"x-remote-addr",
        b"x-remote-ip",
        b"x-request-id",
        b"x-scheme",
        b"x-server-name",
        b"x-url-scheme",
    )
)
_NOT_UPSTREAM_FAMILIES = (
    b"akamai-",
    b"cf-",
    b"cloudfront-",  # crates.io's API is behind it
    b"fastly-",
    b"fly-",
    b"x-akamai-",
    b"x-amz",
    b"x-appengine-",
    b"x-azure-",
    b"x-b3-",
    b"x-client-",
    b"x-cloudfront-",
    b"x-envoy-",
    b"x-forward",
    b"x-host",
    b"x-http-dest",
    b"x-http-host",
    b"x-http-method",
    b"x-original-",
    b"x-proxy",
    b"x-rewrite-",
    b"x-vercel-",
)

# What upstream says for its own host and hop, not for a mirror's. Date, Age and the two verdict fields are told anew.
_NOT_DOWNSTREAM = frozenset(
    (
        b"age",
        b"alt-svc",
        b"cache-status",
        b"nel",
        b"report-to",
        b"reporting-endpoints",
        b"server",
        b"strict-transport-security",
        b"via",
        b"x-cache",
        b"x-cache-hits",
        b"x-frame-options",
        b"x-served-by",
        b"x-timer",
    )
)

# What is kept of an answer on a row with a ttl; Cache-Control, Date and the rest are ours to say.
_KEPT = frozenset(
    (
        b"access-control-allow-origin",
        b"content-language",
        b"content-type",
        b"date",
        b"etag",
        b"last-modified",
        b"link",
        b"vary",
        b"x-content-type-options",
    )
)

CONDITIONAL = frozenset(
    (b"if-match", b"if-modified-since", b"if-none-match", b"if-range", b"if-unmodified-since", b"range")
)
CREDENTIALS = frozenset((b"authorization", b"cookie"))


def value(headers: Headers, name: bytes) -> bytes | None:
    """The values of a field joined by a comma (RFC 9110 section 5.3), None where it is absent."""
    found = [content for field, content in headers if field == name]
    return b", ".join(found) if found else None


def named(headers: Headers) -> frozenset[bytes]:
    """What Connection names: fields that are this hop's alone, and options that are none."""
    return frozenset(token.strip().lower() for token in (value(headers, b"connection") or b"").split(b","))


def names_any(headers: Headers, names: frozenset[bytes]) -> bool:
    return any(field in names for field, _ in headers)


def without(headers: Headers, names: frozenset[bytes]) -> Headers:
    return tuple(item for item in headers if item[0] not in names)


def end_to_end(headers: Headers) -> Headers:
    """Without the hop-by-hop fields and those that Connection names (RFC 9110 section 7.6.1)."""
    dropped = HOP_BY_HOP | named(headers)
    return tuple(item for item in headers if item[0] not in dropped)


def upstream(headers: Headers) -> Headers:
    """What of a client's request goes upstream where it is forwarded at all (private, changes, other). No name with an
    underscore, which some servers take for a hyphen: so nobody can say one of these in another way."""
    return tuple(
        item
        for item in end_to_end(headers)
        if item[0] not in _NOT_UPSTREAM and not item[0].startswith(_NOT_UPSTREAM_FAMILIES) and b"_" not in item[0]
    )


def downstream(headers: Headers) -> Headers:
    """What of upstream's answer goes to the client where it is passed through."""
    return tuple(item for item in end_to_end(headers) if item[0] not in _NOT_DOWNSTREAM)


def interim(headers: Headers) -> Headers:
    """What of an interim answer of upstream's goes to the client: it has no content, and no cookie to set yet."""
    return tuple(item for item in downstream(headers) if item[0] not in (b"content-length", b"set-cookie"))


def kept(headers: Headers) -> Headers:
    """What of upstream's answer is stored on a row with a ttl. Never Set-Cookie."""
    return tuple(item for item in end_to_end(headers) if item[0] in _KEPT)


def kept_transparently(headers: Headers) -> Headers:
    """What is stored of an answer that upstream's own headers govern. Never Set-Cookie."""
    return tuple(
        item for item in downstream(headers) if item[0] not in (b"accept-ranges", b"content-length", b"set-cookie")
    )
