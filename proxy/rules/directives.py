"""Header values that rule caching, parsed and printed: Cache-Control, Age, HTTP dates, entity tags, Retry-After."""

from __future__ import annotations

import hashlib
import math
import re
from email.utils import formatdate
from functools import lru_cache

from proxy.rules.conditional import http_date

_DIRECTIVE = re.compile(r'([!#$%&\'*+\-.^_`|~0-9A-Za-z]+)(?:=(?:"((?:[^"\\]|\\.)*)"|([^\s,;"]*)))?')
_MAX_SECONDS = 2**31  # RFC 9111 section 1.2.2: the value to take for one too large to hold
_MAX_DIGITS = 10
_REMEMBERED = 256  # bytes of a field; what a client writes must not fill the memory


def cache_control(field: bytes) -> dict[str, str]:
    """The directives of Cache-Control, names lower-case, "" for those without an argument. Never raises.

    The first of a repeated directive counts. Not to be changed by the caller: it is remembered.
    """
    return _remembered(field) if len(field) <= _REMEMBERED else _directives(field)


def _directives(field: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, quoted, plain in _DIRECTIVE.findall(field.decode("latin-1")):
        found.setdefault(name.lower(), re.sub(r"\\(.)", r"\1", quoted) or plain)
    return found


_remembered = lru_cache(maxsize=512)(_directives)


def seconds(text: str) -> float | None:
    """A delta-seconds (RFC 9111 section 1.2.2); None where it is none."""
    if not (text.isascii() and text.isdigit()):
        return None
    digits = text.lstrip("0") or "0"  # Python refuses to convert thousands of them
    return float(min(int(digits), _MAX_SECONDS) if len(digits) <= _MAX_DIGITS else _MAX_SECONDS)


def age(field: bytes) -> float:
    """The Age field; of several members the first; 0 where it is missing or malformed (RFC 9111 section 5.1)."""
    return seconds(field.split(b",")[0].strip().decode("latin-1")) or 0.0


@lru_cache(maxsize=512)
def date(at: int) -> bytes:
    """Seconds since the epoch as an IMF-fixdate."""
    return formatdate(at, usegmt=True).encode("ascii")


def entity_tag(body: bytes) -> str:
    """A strong tag for bytes that came without one: the same on every worker and after a restart."""
    return f'"{hashlib.sha256(body).hexdigest()}"'


def retry_after(field: bytes, now: float) -> int | None:
    """Retry-After as whole seconds from `now`: delta-seconds or HTTP-date (RFC 9110 section 10.2.3)."""
    text = field.strip()
    plain = seconds(text.decode("latin-1"))
    if plain is not None:
        return int(plain)
    at = http_date(text)
    return None if at is None else max(0, math.ceil(at - now))
