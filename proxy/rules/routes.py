"""Which row of the table a request belongs to. Matching is on the canonical path (`rules.paths`)."""

from __future__ import annotations

from dataclasses import dataclass

from proxy.errors import Refused
from proxy.rules import names, paths, sparse
from proxy.rules.endpoints import BY_NAME, TABLE, Endpoint, Kind

_READS = frozenset(("GET", "HEAD"))
PASSED = frozenset(("DELETE", "M-SEARCH", "OPTIONS", "PATCH", "POST", "PUT"))
"""Methods that go through to the API. Not TRACE, which would show a token to whoever made a browser send it, nor what
means something to a cache on the way, such as PURGE. M-SEARCH stands for those that a cache knows nothing of: the
public suite of caches asks with it whether they are taken for a change."""
# The rows that are read, by what their paths begin with and by how many slashes are in them, None for any number: of
# thirty rows two or three have to be tried.
_READ = tuple(
    (template.partition("{")[0], None if "*" in template else template.count("/"), pattern, row)
    for row in TABLE
    if row.kind is not Kind.CHANGE
    for template, pattern in zip(row.paths, row.patterns, strict=True)
)
_DEEPEST = 1 + max(slashes for _, slashes, _, _ in _READ if slashes is not None)
_BY_DEPTH = tuple(
    tuple((prefix, pattern, row) for prefix, slashes, pattern, row in _READ if slashes in (None, depth))
    for depth in range(_DEEPEST + 1)
)
_NOT_FOUND = "there is nothing here: see the README for the routes of this proxy"


@dataclass(frozen=True, slots=True)
class Match:
    """A request matched to its row. `parameters` are the template's, in canonical (still encoded) form."""

    endpoint: Endpoint
    path: str
    query: paths.Query
    parameters: dict[str, str]

    @property
    def name(self) -> str:
        """The name of the crate that it is about, as the request spells it; "" for none."""
        name = self.parameters.get("crate") or self.parameters.get("index", "").rpartition("/")[2]
        return name if names.is_name(name) else ""

    @property
    def crate(self) -> str:
        """The same, folded: the tag of what is stored."""
        return names.folded(self.name)


def match(method: str, path: str, query: paths.Query) -> Match:
    """Find the row of a canonical path. HEAD is matched as GET.

    Raises `Refused`: 404 where no row has the path or a name breaks crates.io's rules, 405 for a change outside
    `/api/v1` and a method that is never passed on, 400 for a version on the API that is no semantic version.
    """
    if method in _READS:
        return _read(path, query)
    if method not in PASSED:
        raise Refused(f"{method} is not possible here", status=405)
    for row in TABLE:
        if row.kind is Kind.CHANGE and row.method in ("*", method):
            for pattern in row.patterns:
                if (found := pattern.fullmatch(path)) is not None:
                    return Match(row, path, query, found.groupdict())
    if path.startswith(("/index/", "/files/")):
        raise Refused(f"{method} is not possible here: GET and HEAD are", status=405)
    raise Refused(_NOT_FOUND, status=404)


def _read(path: str, query: paths.Query) -> Match:
    for prefix, pattern, row in _BY_DEPTH[min(path.count("/"), _DEEPEST)]:
        if path.startswith(prefix) and (found := pattern.fullmatch(path)) is not None:
            return _checked(Match(row, path, query, found.groupdict()))
    raise Refused(_NOT_FOUND, status=404)


def _checked(found: Match) -> Match:
    row, parameters = found.endpoint, found.parameters
    if row.name == "search" and any(name == "following" for name, _ in found.query):
        return Match(BY_NAME["following"], found.path, found.query, parameters)
    if row.kind is Kind.INDEX and sparse.name_of(parameters["index"]) is None:
        raise Refused(_NOT_FOUND, status=404)
    crate, version = parameters.get("crate"), parameters.get("version")
    if crate is not None and not names.is_name(crate):
        raise Refused(f"crate `{crate}` does not exist", status=404)
    if version is not None and not names.is_version(version):
        status = 400 if found.path.startswith("/api/") else 404
        raise Refused(f"`{version}` is not a semantic version, such as 1.2.3", status=status)
    return found
