"""From a matched request to what goes upstream and under which key the answer is stored.

The key is the row's name and the upstream target, and a row has one host: two requests with one key always mean
one upstream target.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from urllib.parse import quote

from proxy.errors import Refused
from proxy.rules import names, paths, routes, vary
from proxy.rules.endpoints import BY_NAME, Endpoint, Kind, Override, Policy, policy
from proxy.rules.routes import Match


@dataclass(frozen=True, slots=True)
class Read:
    """What a client wants to read, with all that decides about it. `tag` is the folded crate name or "".

    name: the crate's name as this client spells it, which is not in the key: two reads that differ in nothing else
    are the same.
    """

    endpoint: Endpoint
    policy: Policy
    target: str
    tag: str
    no_cache: bool = False
    only_if_cached: bool = False
    name: str = field(default="", compare=False)

    @property
    def key(self) -> str:
        return f"{self.endpoint.name} {self.target}"


def target(match: Match) -> str:
    """Path and query on the row's host. What a row's answer does not depend on is not in it."""
    row, parameters = match.endpoint, match.parameters
    if row.kind is Kind.INDEX:
        return "/" + parameters["index"]
    if row.kind is Kind.HTML:
        return readme_target(parameters["crate"], parameters["version"])
    path = match.path
    if row.folded:
        crate = parameters["crate"]
        prefix = "/api/v1/crates/"
        path = prefix + names.folded(crate) + path[len(prefix) + len(crate) :]
    return paths.target(path, match.query)


def readme_target(crate: str, version: str) -> str:
    """Where the static host has a README: its own layout, with `+` escaped as crates.io itself writes it."""
    return f"/readmes/{crate}/{crate}-{quote(version, safe='')}.html"


def tarball_target(crate: str, version: str) -> str:
    """Where the static host has a tarball."""
    return f"/crates/{crate}/{crate}-{quote(version, safe='')}.crate"


def read(match: Match, chosen: Policy, *, no_cache: bool = False, only_if_cached: bool = False) -> Read:
    name = match.parameters.get("crate", "")
    return Read(match.endpoint, chosen, target(match), match.crate, no_cache, only_if_cached, name)


def index_read(
    index_path: str, chosen: Policy | None = None, *, no_cache: bool = False, only_if_cached: bool = False
) -> Read:
    """The read of an index file that this proxy itself wants. `index_path` as `sparse.path` gives it."""
    row = BY_NAME["index"]
    match = Match(row, "/index/" + index_path, (), {"index": index_path})
    return read(match, chosen or policy(row, ()), no_cache=no_cache, only_if_cached=only_if_cached)


# What stands before a row's target in the paths of this proxy. The API's targets are its own paths.
_BEFORE = {Kind.INDEX: "/index", Kind.HTML: "/files"}


def of_place(place: str, overrides: Mapping[str, Override] = MappingProxyType({})) -> Read | None:
    """The read whose answer, or one of its variants, is stored under a key; None for a key that is never made.

    `overrides`: what the settings say of the times of rows."""
    name, _, rest = place.partition(" ")
    target_, _, slot = rest.partition(" ")
    row = BY_NAME.get(name)
    if row is None or row.kind not in (Kind.JSON, Kind.HTML, Kind.INDEX, Kind.TRANSPARENT):
        return None
    path, _, query = target_.partition("?")
    try:
        match = routes.match(
            "GET",
            paths.path((_BEFORE.get(row.kind, "") + path).encode()),
            paths.query(query.encode()),
        )
    except (Refused, UnicodeEncodeError):
        return None
    found = read(match, policy(row, match.query, overrides.get(row.name)))
    own = found.endpoint is row and found.key == f"{name} {target_}"
    return (
        found if own and place in (vary.family(found.key) if row.kind is Kind.TRANSPARENT else (found.key,)) else None
    )
