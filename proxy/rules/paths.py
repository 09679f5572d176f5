"""Request targets in one canonical form, read from the raw bytes.

Two targets that mean the same are spelt the same afterwards, and the canonical spelling is both the cache key
and what goes upstream: so one key always means one upstream target. What could be read in two ways is refused.
"""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, quote, unquote_to_bytes

from proxy.errors import Refused

Query = tuple[tuple[str, str], ...]

_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_FORBIDDEN = re.compile(rb"[^\x21-\x7e]|\\|%(?:00|2[fF]|5[cC])")
_DOTS = frozenset((b".", b".."))
# RFC 3986 section 3.3: what a segment may hold unescaped. Not `;`, since URL libraries drop one at the end.
_PCHAR = "!$&'()*+,=:@-._~"
# Nearly every path that is asked for: canonical as it stands, with no dot in front of a segment.
_CANONICAL = re.compile(rb"(?:/[0-9A-Za-z!$&'()*+,=:@_~-][0-9A-Za-z!$&'()*+,=:@._~-]*)+")


def path(raw: bytes) -> str:
    """The canonical form of a raw path, without a query: escapes decoded where they may be, upper-case elsewhere.

    Raises `Refused`: 400 for NUL, control and non-ASCII bytes, `%2f`, `%5c`, backslash, dot segments plain or
    encoded, `//` and bad escapes; 404 for a trailing slash. `+` stays `+`.
    """
    if _CANONICAL.fullmatch(raw):
        return raw.decode("ascii")
    if not raw.startswith(b"/"):
        raise Refused("the request target must begin with /")
    if _FORBIDDEN.search(raw) or _BAD_ESCAPE.search(raw):
        raise Refused("the path holds a byte or an escape that this proxy does not accept (%2f, %5c, NUL, ...)")
    segments = [unquote_to_bytes(segment) for segment in raw[1:].split(b"/")]
    if segments == [b""]:
        return "/"
    if b"" in segments[:-1] or not _DOTS.isdisjoint(segments):
        raise Refused("the path holds an empty or a dot segment")
    if segments[-1] == b"":
        raise Refused("there is nothing here: paths have no trailing slash", status=404)
    return "".join("/" + quote(segment, safe=_PCHAR) for segment in segments)


def query(raw: bytes) -> Query:
    """The parameters as decoded pairs (bytes as Latin-1), sorted by name; the order within one name is kept.

    Raises `Refused` (400) for a bad escape, a NUL or a byte that no URL may hold.
    """
    if not raw:
        return ()
    if _BAD_ESCAPE.search(raw) or b"%00" in raw or re.search(rb"[^\x21-\x7e]", raw):
        raise Refused("the query holds a byte or an escape that this proxy does not accept")
    pairs = parse_qsl(raw.decode("ascii"), keep_blank_values=True, encoding="latin-1")
    return tuple(sorted(pairs, key=lambda pair: pair[0]))


def target(canonical_path: str, parameters: Query) -> str:
    """Path and query as they go upstream and into the key, in one encoding."""
    if not parameters:
        return canonical_path
    encoded = "&".join(f"{_quoted(name)}={_quoted(value)}" for name, value in parameters)
    return f"{canonical_path}?{encoded}"


def _quoted(text: str) -> str:
    return quote(text, safe="-._~", encoding="latin-1")
