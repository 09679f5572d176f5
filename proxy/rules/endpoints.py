"""THE TABLE: one row for each endpoint. Routes, cache keys, settings, metric labels and the README come from it.

It says what an endpoint is, never how it is fetched or answered.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from enum import StrEnum

from proxy.model import Host
from proxy.rules import paths, templates

SECOND, MINUTE, HOUR, DAY = 1.0, 60.0, 3600.0, 86400.0


class Kind(StrEnum):
    """How a row is answered."""

    JSON = "json"
    HTML = "html"
    INDEX = "index file"
    TARBALL = "tarball"
    PRIVATE = "private"  # never stored, never answered from the store
    TRANSPARENT = "transparent"  # upstream's own headers decide (RFC 9111)
    CHANGE = "change"  # straight through with the caller's token


@dataclass(frozen=True, slots=True)
class Policy:
    """The times of a row, in seconds; RFC 5861's terms. `ttl` None: upstream's own headers decide."""

    ttl: float | None = None
    stale_while_revalidate: float = 0.0
    stale_if_error: float = 0.0
    negative_ttl: float = 0.0


@dataclass(frozen=True, slots=True)
class Override:
    """What the settings say about a row; None where they are silent."""

    ttl: float | None = None
    stale_while_revalidate: float | None = None
    stale_if_error: float | None = None
    negative_ttl: float | None = None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One row. `folded`: crate names compare lower-case with `_` = `-`, since upstream's answer does not echo
    the spelling. `newest_ttl`: the ttl where a query asks for the newest first. `renewable`: as long as the
    crate's index file has not changed neither has the answer, but for counters. `invalidates`: a success changes what
    is public about the crate."""

    name: str
    kind: Kind
    paths: tuple[str, ...]
    method: str = "GET"
    host: Host = Host.API
    ttl: float | None = None
    revalidated_always: bool = False
    negative_ttl: float = 0.0
    folded: bool = False
    newest_ttl: float | None = None
    renewable: bool = False
    invalidates: bool = False
    patterns: tuple[re.Pattern[str], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "patterns", tuple(templates.pattern(template) for template in self.paths))

    @property
    def shielded(self) -> bool:
        """Whether this proxy's own ttl governs the answers, credentials dropped."""
        return self.kind in (Kind.JSON, Kind.HTML, Kind.INDEX, Kind.TARBALL)


def _answer(
    name: str,
    *templates: str,
    ttl: float,
    revalidated_always: bool = False,
    folded: bool = False,
    newest_ttl: float | None = None,
    renewable: bool = False,
) -> Endpoint:
    return Endpoint(
        name,
        Kind.JSON,
        tuple("/api/v1" + template for template in templates),
        ttl=ttl,
        revalidated_always=revalidated_always,
        negative_ttl=1 * MINUTE,
        folded=folded,
        newest_ttl=newest_ttl,
        renewable=renewable,
    )


def _change(name: str, method: str, template: str, *, invalidates: bool = False) -> Endpoint:
    return Endpoint(name, Kind.CHANGE, ("/api/v1" + template,), method=method, invalidates=invalidates)


_CRATE, _VERSION = "/crates/{crate}", "/crates/{crate}/{version}"

TABLE: tuple[Endpoint, ...] = (
    _answer("search", "/crates", ttl=5 * MINUTE, newest_ttl=1 * MINUTE),
    _answer("crate", _CRATE, ttl=5 * MINUTE, folded=True, renewable=True),
    _answer("versions", _CRATE + "/versions", ttl=5 * MINUTE, renewable=True),
    _answer("crate_downloads", _CRATE + "/downloads", ttl=1 * HOUR),
    _answer("owners", _CRATE + "/owners", ttl=10 * MINUTE, folded=True),
    _answer("owner_user", _CRATE + "/owner_user", ttl=10 * MINUTE, folded=True),
    _answer("owner_team", _CRATE + "/owner_team", ttl=10 * MINUTE, folded=True),
    _answer("reverse_dependencies", _CRATE + "/reverse_dependencies", ttl=1 * HOUR, folded=True),
    Endpoint("following", Kind.PRIVATE, ("/api/v1" + _CRATE + "/following",)),
    _answer("version", _VERSION, ttl=10 * MINUTE, folded=True, renewable=True),
    _answer("dependencies", _VERSION + "/dependencies", ttl=7 * DAY, folded=True, renewable=True),
    _answer("version_downloads", _VERSION + "/downloads", ttl=1 * HOUR),
    _answer("authors", _VERSION + "/authors", ttl=30 * DAY),
    Endpoint(
        "readme",
        Kind.HTML,
        ("/api/v1" + _VERSION + "/readme", "/files/readmes/{crate}/{crate}-{version}.html"),
        host=Host.STATIC,
        ttl=1 * DAY,
        negative_ttl=30 * SECOND,
    ),
    Endpoint(
        "download",
        Kind.TARBALL,
        (
            "/api/v1" + _VERSION + "/download",
            "/files/crates/{crate}/{version}/{sha256}/download",
            "/files/crates/{crate}/{crate}-{version}.crate",
        ),
        host=Host.STATIC,
        ttl=math.inf,
        negative_ttl=30 * SECOND,
    ),
    _answer("version_list", "/versions", ttl=10 * MINUTE),
    _answer("version_by_id", "/versions/{id}", ttl=10 * MINUTE),
    _answer("keywords", "/keywords", ttl=1 * HOUR),
    _answer("keyword", "/keywords/{keyword}", ttl=1 * HOUR),
    _answer("categories", "/categories", ttl=1 * HOUR),
    _answer("category", "/categories/{category}", ttl=1 * HOUR),
    _answer("category_slugs", "/category_slugs", ttl=1 * DAY),
    _answer("user", "/users/{login}", ttl=1 * HOUR),
    _answer("user_stats", "/users/{id}/stats", ttl=1 * HOUR),
    _answer("team", "/teams/{team}", ttl=1 * HOUR),
    _answer("summary", "/summary", ttl=1 * MINUTE, revalidated_always=True),
    _answer("site_metadata", "/site_metadata", ttl=1 * MINUTE),
    Endpoint(
        "index",
        Kind.INDEX,
        ("/index/{index*}",),
        host=Host.INDEX,
        ttl=1 * MINUTE,
        revalidated_always=True,
        negative_ttl=30 * SECOND,
    ),
    Endpoint(
        "private",
        Kind.PRIVATE,
        (
            "/api/v1/me",
            "/api/v1/me/{rest*}",
            "/api/v1/trusted_publishing/{rest*}",
            "/api/v1/tokens/{rest*}",
        ),
    ),
    Endpoint("other", Kind.TRANSPARENT, ("/api/v1" + _CRATE + "/{rest*}", "/api/v1/{rest*}")),
    _change("publish", "PUT", "/crates/new", invalidates=True),
    _change("yank", "DELETE", _VERSION + "/yank", invalidates=True),
    _change("unyank", "PUT", _VERSION + "/unyank", invalidates=True),
    _change("follow", "PUT", _CRATE + "/follow"),
    _change("unfollow", "DELETE", _CRATE + "/follow"),
    _change("add_owners", "PUT", _CRATE + "/owners", invalidates=True),
    _change("remove_owners", "DELETE", _CRATE + "/owners", invalidates=True),
    _change("update_crate", "PATCH", _CRATE, invalidates=True),
    _change("update_version", "PATCH", _VERSION, invalidates=True),
    _change("delete_crate", "DELETE", _CRATE, invalidates=True),
    _change("rebuild_docs", "POST", _VERSION + "/rebuild_docs"),
    Endpoint(
        "change",
        Kind.CHANGE,
        ("/api/v1" + _CRATE + "/{rest*}", "/api/v1/{rest*}"),
        method="*",
        invalidates=True,
    ),
)

BY_NAME = {row.name: row for row in TABLE}

TIMED = {row.name: row.shielded for row in TABLE}
"""Name of every row -> whether it takes times in the settings."""

STORED = tuple(row.name for row in TABLE if row.kind not in (Kind.PRIVATE, Kind.CHANGE))
"""Names of the rows of which something may be stored."""

_NEWEST_FIRST = frozenset(("new", "recent-updates"))


def policy(row: Endpoint, query: paths.Query, override: Override | None = None) -> Policy:
    """The times that govern a read of this row with this query."""
    if not row.shielded or row.ttl is None:
        return Policy()
    chosen = override or Override()
    newest = row.newest_ttl is not None and any(name == "sort" and value in _NEWEST_FIRST for name, value in query)
    ttl = row.ttl if chosen.ttl is None else chosen.ttl
    if newest and row.newest_ttl is not None:
        ttl = min(ttl, row.newest_ttl)
    default_swr = 0.0 if newest or row.revalidated_always else min(ttl, 1 * HOUR)
    default_sie = 30 * DAY if row.kind in (Kind.JSON, Kind.HTML) else math.inf
    return Policy(
        ttl=ttl,
        stale_while_revalidate=_first(chosen.stale_while_revalidate, default_swr),
        stale_if_error=_first(chosen.stale_if_error, default_sie),
        negative_ttl=_first(chosen.negative_ttl, row.negative_ttl),
    )


def _first(value: float | None, default: float) -> float:
    return default if value is None else value
