"""Pages from templates, and the fields that go with each: a browser does nothing on them that is not from here.

No script or style stands in a page, none comes from another host, and whatever is shown is escaped.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proxy import __version__
from proxy.model import Headers
from proxy.web.dashboard import shown

if TYPE_CHECKING:
    from jinja2 import Environment

_HERE = Path(__file__).parent

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
SAFE: Headers = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
PAGE: Headers = ((b"content-type", b"text/html; charset=utf-8"), (b"cache-control", b"no-store"), *SAFE)

_TYPES = {
    ".js": b"text/javascript; charset=utf-8",
    ".css": b"text/css; charset=utf-8",
    ".txt": b"text/plain",
    ".svg": b"image/svg+xml",
}


def page(template: str, **values: Any) -> bytes:
    """A page, whole."""
    return _environment().get_template(template).render(**values).encode()


@dataclass(frozen=True, slots=True)
class Asset:
    """A file that pages name. `version`: what tells its content from every other."""

    content: bytes
    kind: bytes
    version: str


@cache
def assets() -> dict[str, Asset]:
    """By name."""
    found = {}
    for file in sorted((_HERE / "assets").iterdir()):
        content = file.read_bytes()
        found[file.name] = Asset(content, _TYPES[file.suffix], hashlib.sha256(content).hexdigest()[:16])
    return found


@cache
def _environment() -> Environment:
    """Made when the first page is asked for: who shows none need not wait for it."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    filters = ("size", "number", "rate", "share", "duration", "ago", "latency", "date", "moment", "coded", "breakable")
    made.filters |= {name: getattr(shown, name) for name in filters}
    made.globals |= {"asset": _address, "version": __version__}
    return made


def _address(name: str) -> str:
    """Of an asset, with what its content is: it may be kept for ever."""
    return f"/assets/{name}?v={assets()[name].version}"
