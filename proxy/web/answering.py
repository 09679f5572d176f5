"""What was found becomes what the client gets: validators, ranges, and the fields that tell how it was come by."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass

from proxy.engine.at_hand import Held
from proxy.engine.downloads import Download, Downloads
from proxy.engine.fill import PIECE, Fill
from proxy.errors import Faulty
from proxy.model import Headers, Host, Outcome
from proxy.rules import addresses, bodies, codings, conditional, directives, headers, ranges, verdicts
from proxy.rules.endpoints import Endpoint, Kind
from proxy.stores.base import Blob, Bytes
from proxy.web.messages import TURN, Client, error_body
from proxy.web.request import Request

_ANYONE = (b"access-control-allow-origin", b"*")
_JSON = (b"content-type", b"application/json")
# What is known of a tarball without asking; the static host sends the same.
_TARBALL = ((b"content-type", b"application/gzip"), (b"accept-ranges", b"bytes"), _ANYONE)
_VARIES: Headers = ((b"vary", b"accept-encoding"),)
_IN_GZIP: Headers = (*_VARIES, (b"content-encoding", b"gzip"))
OWN_ADDRESSES = frozenset(("site_metadata",))
"""Rows whose answers hold this proxy's own URL, and are not the same for everybody."""
# A README is foreign HTML: in a browser it gets no script, no form and no origin of ours.
_SANDBOX: Headers = ((b"content-security-policy", b"sandbox"), (b"x-content-type-options", b"nosniff"))


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer whose body is at hand; `Client.whole` sends it."""

    status: int
    headers: Headers
    body: bytes


async def outcome(
    client: Client, request: Request, row: Endpoint, found: Outcome, *, origins: Mapping[Host, str], base: str | None
) -> None:
    """Send what a read came to. `base`: this proxy's own URL, where the row's answers hold URLs."""
    answer = reply(request, row, found, origins=origins, base=base)
    await client.whole(answer.status, answer.headers, answer.body)


def reply(request: Request, row: Endpoint, found: Outcome, *, origins: Mapping[Host, str], base: str | None) -> Reply:
    """What a read came to, as its client gets it."""
    entry = found.entry
    own: Headers = (
        (b"age", b"%d" % found.age),
        (b"cache-status", verdicts.cache_status(found)),
        (b"x-cache", found.verdict.upper().encode("ascii")),
    )
    if row.shielded:
        own = ((b"cache-control", verdicts.cache_control(found)), *own)
    if row.shielded and entry.status != 200:
        body = entry.body if bodies.reason(entry.body) else error_body("crates.io has nothing here")
        return Reply(entry.status, (_JSON, _ANYONE, *own), body)
    body, etag = entry.body, entry.etag
    negotiated: Headers = ()
    if entry.gzip is not None and row.name not in OWN_ADDRESSES:
        negotiated = _VARIES
        if codings.takes_gzip(request.get(b"accept-encoding")):
            body, etag, negotiated = entry.gzip.body, entry.gzip.etag, _IN_GZIP
    if base is not None and row.name in OWN_ADDRESSES:
        body = addresses.without_cdn(body, origins, base)
        etag = directives.entity_tag(body)
    if entry.status != 200:  # neither a range nor a condition is about such an answer (RFC 9110 section 13.2.1)
        return Reply(entry.status, (*entry.headers, *own), body)
    kept = tuple(item for item in entry.headers if item[0] != b"vary") if negotiated else entry.headers
    fields = (*kept, *negotiated, (b"etag", etag.encode("latin-1")), (b"accept-ranges", b"bytes"), *own)
    if row.kind is Kind.HTML:
        fields = (*fields, *_SANDBOX, *_negotiated(request))
    if row.shielded and headers.value(fields, b"access-control-allow-origin") is None:
        fields = (*fields, _ANYONE)
    if headers.value(fields, b"date") is None:
        fields = ((b"date", directives.date(int(entry.responded_at))), *fields)
    modified = headers.value(fields, b"last-modified")
    if _unchanged(request, etag, modified):
        return Reply(304, _without_content(fields), b"")
    span = _span(request, len(body), etag, modified)
    if isinstance(span, ranges.Span):
        fields = (*fields, (b"content-range", span.content_range))
        return Reply(206, fields, body[span.first : span.last + 1])
    if isinstance(span, ranges.Unsatisfiable):
        return Reply(416, (*own, (b"content-range", span.content_range)), b"")
    return Reply(200, fields, body)


async def download(
    client: Client, request: Request, found: Download, downloads: Downloads, *, by_checksum: bool
) -> None:
    """Send a tarball, from the file or as it arrives. It is given back to `downloads` at the end."""
    try:
        await _download(client, request, found, by_checksum=by_checksum)
    finally:
        await downloads.done(found)


async def _download(client: Client, request: Request, found: Download, *, by_checksum: bool) -> None:
    source, size = found.source, found.size
    if isinstance(source, Held):
        answer = held(request, found, source.data, by_checksum=by_checksum)
        await client.whole(answer.status, answer.headers, answer.body)
        return
    fields = _tarball(request, found, by_checksum=by_checksum)
    etag = _tarball_tag(found)
    if _unchanged(request, etag, None):
        await client.whole(304, _without_content(fields), b"")
        return
    if size is not None:
        span = _span(request, size, etag, None) if request.wants_part else None
        if isinstance(span, ranges.Unsatisfiable):
            await client.whole(416, (*fields, (b"content-range", span.content_range)), b"")
            return
        if isinstance(span, ranges.Span) and source is not None:
            fields = (*fields, (b"content-range", span.content_range), (b"content-length", b"%d" % span.length))
            await client.streamed(206, fields, _pieces(client, source, span.first, span.last + 1))
            return
        fields = (*fields, (b"content-length", b"%d" % size))
    if client.head_only or source is None:
        await client.whole(200, fields, b"")
    elif isinstance(source, Fill):
        await client.streamed(200, fields, source.pieces())
    else:
        await client.streamed(200, fields, _pieces(client, source, 0, source.size))


def held(request: Request, found: Download, data: bytes, *, by_checksum: bool) -> Reply:
    """A tarball that is in memory, as its client gets it."""
    fields, etag = _tarball(request, found, by_checksum=by_checksum), _tarball_tag(found)
    if _unchanged(request, etag, None):
        return Reply(304, _without_content(fields), b"")
    span = _span(request, len(data), etag, None)
    if isinstance(span, ranges.Unsatisfiable):
        return Reply(416, (*fields, (b"content-range", span.content_range)), b"")
    if isinstance(span, ranges.Span):
        return Reply(206, (*fields, (b"content-range", span.content_range)), data[span.first : span.last + 1])
    return Reply(200, fields, data)


def headed(request: Request, found: Download, size: int, *, by_checksum: bool) -> Reply:
    """A tarball of so many bytes as its client gets it, but for them."""
    fields = _tarball(request, found, by_checksum=by_checksum)
    if _unchanged(request, _tarball_tag(found), None):
        return Reply(304, _without_content(fields), b"")
    return Reply(200, (*fields, (b"content-length", b"%d" % size)), b"")


def _tarball(request: Request, found: Download, *, by_checksum: bool) -> Headers:
    return (
        *_TARBALL,
        *_negotiated(request),
        (b"etag", _tarball_tag(found).encode("ascii")),
        (b"age", b"%d" % found.age),
        # A plain URL may name other bytes one day: a version can be deleted and published anew.
        (b"cache-control", verdicts.FOR_EVER.encode("ascii") if by_checksum else b"public, max-age=60"),
        (
            b"cache-status",
            verdicts.tarball_status(found.verdict, collapsed=found.collapsed, stored=found.source is not None),
        ),
        (b"x-cache", found.verdict.upper().encode("ascii")),
    )


def _tarball_tag(found: Download) -> str:
    return f'"{found.sha256}"'


async def made(client: Client, request: Request, body: bytes, *fields: tuple[bytes, bytes]) -> None:
    """Send JSON of our own making."""
    answer = own(request, body, *fields)
    await client.whole(answer.status, answer.headers, answer.body)


def own(request: Request, body: bytes, *fields: tuple[bytes, bytes]) -> Reply:
    """JSON of our own making, which holds this proxy's address and is never stored, as a client gets it."""
    tag = directives.entity_tag(body)
    fields = (_JSON, (b"cache-control", b"no-cache"), (b"etag", tag.encode("ascii")), _ANYONE, *fields)
    if _unchanged(request, tag, None):
        return Reply(304, _without_content(fields), b"")
    return Reply(200, fields, body)


def _negotiated(request: Request) -> Headers:
    """On the API the same URL answers a client that accepts JSON with `{"url"}`."""
    return ((b"vary", b"accept"),) if request.path.startswith("/api/") else ()


def _unchanged(request: Request, etag: str, modified: bytes | None) -> bool:
    return conditional.not_modified(request.get(b"if-none-match"), request.get(b"if-modified-since"), etag, modified)


def _span(request: Request, size: int, etag: str, modified: bytes | None) -> ranges.Span | ranges.Unsatisfiable | None:
    wanted = request.get(b"range")
    if wanted is None or request.method != "GET":  # RFC 9110 section 14.2: Range is defined for GET alone
        return None
    condition = request.get(b"if-range")
    if condition is not None and not ranges.if_range_matches(condition, etag, modified):
        return None
    return ranges.single(wanted, size)


def _without_content(fields: Headers) -> Headers:
    """The fields of a 304 (RFC 9110 section 15.4.5)."""
    content = (b"content-type", b"content-encoding", b"content-language", b"accept-ranges")
    return tuple(item for item in fields if item[0] not in content)


async def _pieces(client: Client, source: Blob | Fill, start: int, stop: int) -> AsyncGenerator[Bytes | memoryview]:
    mapped = source.mapped() if client.plain and not isinstance(source, Fill) else None
    while mapped is not None and start < stop:
        yield mapped[start : min(start + TURN, stop)]
        start += TURN
    while start < stop:
        piece = await source.read(start, min(PIECE, stop - start))
        if not piece:
            raise Faulty("a stored tarball ended early")
        start += len(piece)
        yield piece
