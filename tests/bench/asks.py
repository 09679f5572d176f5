"""What clients ask, byte for byte as they do: cargo on plain HTTP, with its offer of h2c, and a script."""

from __future__ import annotations

from tests.bench import raw
from tests.bench.objects import Tarball, index_target

# As cargo 1.95 sends them, in its order and spelling.
_AGENT = "User-Agent: cargo/1.95.0 (f2d3ce0bd 2026-03-21)"
_CODINGS = "Accept-Encoding: deflate, gzip"
_OFFER = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAQAAAAIAAAAA")
_INDEX = (_AGENT, _CODINGS, *_OFFER, "cargo-protocol: version=1", "accept: text/plain")


def config(host: str) -> bytes:
    return raw.get("/index/config.json", host, *_INDEX)


def index(name: str, host: str, etag: str = "") -> bytes:
    """The index file of a crate; with `etag`, unless it is still that one."""
    condition = (f"if-none-match: {etag}",) if etag else ()
    return raw.get("/index" + index_target(name), host, *_INDEX, *condition)


def by_checksum(tarball: Tarball, host: str) -> bytes:
    """A download as this proxy's `config.json` has cargo ask for it."""
    return _download(f"/files/crates/{tarball.name}/{tarball.version}/{tarball.sha256}/download", host)


def by_name(tarball: Tarball, host: str) -> bytes:
    """A download by the static host's own layout, which a plain cache can pass on."""
    return _download(f"/files/crates/{tarball.name}/{tarball.name}-{tarball.version}.crate", host)


def page(name: str, host: str) -> bytes:
    """A crate's page of the API, as a script asks."""
    return raw.get(f"/api/v1/crates/{name}", host, "User-Agent: bench (bench@example.org)", "Accept: application/json")


def _download(target: str, host: str) -> bytes:
    return raw.get(target, host, _AGENT, "Accept: */*", _CODINGS, *_OFFER)
