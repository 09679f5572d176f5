"""Files as an S3 bucket behind a CDN serves them: validators, conditional requests, one range."""

from __future__ import annotations

import hashlib
import re
from email.utils import parsedate_to_datetime

from tests.upstream.wire import Headers, Reply, Request, http_date

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


def etag(body: bytes) -> str:
    return f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'


def missing(status: int, code: str, message: str) -> Reply:
    """S3's error page."""
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>'
    return Reply(status, (("content-type", "application/xml"), ("x-cache", "MISS, MISS")), text.encode())


def served(request: Request, body: bytes, changed_at: float, kind: str, cache_control: str = "") -> Reply:
    """The object, or as much of it as the request's conditions and range ask for."""
    tag, modified = etag(body), http_date(changed_at)
    headers: Headers = (("etag", tag), ("last-modified", modified), ("accept-ranges", "bytes"))
    headers += (("cache-control", cache_control),) if cache_control else ()
    headers += (("server", "AmazonS3"), ("x-cache", "MISS, HIT"), ("x-served-by", "cache-upstream-1"))
    if request.header("origin"):
        headers += (("access-control-allow-origin", "*"), ("access-control-allow-methods", "GET"))
    if unchanged(request, tag, changed_at):
        return Reply(304, headers)
    headers = (("content-type", kind), *headers)
    span = _span(request, tag, modified, len(body))
    if span is None:
        return Reply(200, headers, body)
    first, last = span
    if first > last:
        page = missing(416, "InvalidRange", "The requested range is not satisfiable")
        return Reply(416, (*page.headers, ("content-range", f"bytes */{len(body)}")), page.body)
    told = (("content-range", f"bytes {first}-{last}/{len(body)}"),)
    return Reply(206, headers + told, body[first : last + 1])


def unchanged(request: Request, tag: str, changed_at: float) -> bool:
    """If-None-Match wins over If-Modified-Since (RFC 9110 section 13.2.2)."""
    known = request.header("if-none-match")
    if known:
        return known.strip() == "*" or tag in [one.strip().removeprefix("W/") for one in known.split(",")]
    since = request.header("if-modified-since")
    try:
        return bool(since) and int(changed_at) <= parsedate_to_datetime(since).timestamp()
    except ValueError:
        return False


def _span(request: Request, tag: str, modified: str, size: int) -> tuple[int, int] | None:
    """First and last byte of the range asked for; None for the whole; first > last can't be had."""
    found = _RANGE.fullmatch(request.header("range"))
    condition = request.header("if-range")
    if not found or not any(found.groups()) or (condition and condition not in (tag, modified)):
        return None
    first, last = found.groups()
    if not first:
        return (max(0, size - int(last)), size - 1) if int(last) else (1, 0)
    end = min(int(last), size - 1) if last else size - 1
    if last and int(last) < int(first):
        return None
    return (int(first), end) if int(first) < size else (1, 0)
