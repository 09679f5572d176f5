"""What of a path or a text may be written into a log. Pure.

crates.io has secrets in paths (an invitation's, a mail address's), in queries of search pages none; whoever pastes
a token anywhere else is protected by how tokens look.
"""

from __future__ import annotations

import re

MASK = "***"

# crates.io's tokens: `cio` and 32 letters and digits, those of trusted publishing with `cio_tp_` before them.
_TOKEN = re.compile(r"(?i)cio[a-z0-9_]{16,}")
_EXACTLY = re.compile(r"(?<![A-Za-z0-9])cio(?:_tp_[A-Za-z0-9]{20,}|[A-Za-z0-9]{32}(?![A-Za-z0-9]))")
"""What is hardly anything else: a name may begin with these letters, too."""
_CREDENTIALS = re.compile(r"(?i)\b(bearer|basic)\s+[^\s'\",;]+")
# An API path, with its query; an index file and a tarball have none. A path without one is matched, too: else each of
# its parts would be tried as the beginning of another, which takes time that grows with the square of its length.
_API = re.compile(r"(/api/v1/[^\s?]*)(\?[^\s`'\"]+)?")
# Behind these words, as segments, the rest of a path is secret.
_SECRET = frozenset(("accept", "confirm"))


def token_in(words: str) -> bool:
    """Whether a token of crates.io's is there, as far as its looks tell."""
    return "cio" in words and _EXACTLY.search(words) is not None


def path(canonical: str) -> str:
    """A path without the secrets in it: of `…/accept/{token}` and `confirm/{email_token}` the end."""
    segments = canonical.split("/")
    for place, segment in enumerate(segments[:-1]):
        if segment.lower() in _SECRET:
            segments[place + 1 :] = [MASK]
            break
    return _TOKEN.sub(MASK, "/".join(segments))


def text(line: str) -> str:
    """A text without what looks like a token or like credentials, the secrets in paths and the queries of clients."""
    line = _API.sub(lambda found: path(found[1]) + (f"?{MASK}" if found[2] else ""), line)
    return _TOKEN.sub(MASK, _CREDENTIALS.sub(rf"\1 {MASK}", line))
