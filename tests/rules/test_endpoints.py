from __future__ import annotations

import math

import pytest

from proxy.errors import Refused
from proxy.model import Host
from proxy.rules import endpoints, paths, routes
from proxy.rules.endpoints import BY_NAME, TABLE, TIMED, Kind, Override, Policy, policy

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
SHA = "0123456789abcdef" * 4
NONE = Policy()


def answer(ttl: float, while_revalidate: float | None = None) -> tuple[Kind, Host, Policy]:
    stale = min(ttl, HOUR) if while_revalidate is None else while_revalidate
    return Kind.JSON, Host.API, Policy(ttl, stale, 30 * DAY, MINUTE)


README = (Kind.HTML, Host.STATIC, Policy(DAY, HOUR, 30 * DAY, 30.0))
TARBALL = (Kind.TARBALL, Host.STATIC, Policy(math.inf, HOUR, math.inf, 30.0))
INDEX = (Kind.INDEX, Host.INDEX, Policy(MINUTE, 0.0, math.inf, 30.0))
PRIVATE = (Kind.PRIVATE, Host.API, NONE)
TRANSPARENT = (Kind.TRANSPARENT, Host.API, NONE)

V1 = "/api/v1"
# The promise: every name, its targets, and how a read of them is answered.
READS: dict[str, tuple[tuple[str, ...], tuple[Kind, Host, Policy]]] = {
    "search": ((V1 + "/crates", V1 + "/crates?q=a&sort=downloads"), answer(5 * MINUTE)),
    "crate": ((V1 + "/crates/foo",), answer(5 * MINUTE)),
    "versions": ((V1 + "/crates/foo/versions",), answer(5 * MINUTE)),
    "crate_downloads": ((V1 + "/crates/foo/downloads",), answer(HOUR)),
    "owners": ((V1 + "/crates/foo/owners",), answer(10 * MINUTE)),
    "owner_user": ((V1 + "/crates/foo/owner_user",), answer(10 * MINUTE)),
    "owner_team": ((V1 + "/crates/foo/owner_team",), answer(10 * MINUTE)),
    "reverse_dependencies": ((V1 + "/crates/foo/reverse_dependencies",), answer(HOUR)),
    "following": ((V1 + "/crates/foo/following", V1 + "/crates?following=1", V1 + "/crates?a&following"), PRIVATE),
    "version": ((V1 + "/crates/foo/1.0.0",), answer(10 * MINUTE)),
    "dependencies": ((V1 + "/crates/foo/1.0.0/dependencies",), answer(7 * DAY)),
    "version_downloads": ((V1 + "/crates/foo/1.0.0/downloads",), answer(HOUR)),
    "authors": ((V1 + "/crates/foo/1.0.0/authors",), answer(30 * DAY)),
    "readme": ((V1 + "/crates/foo/1.0.0/readme", "/files/readmes/foo/foo-1.0.0.html"), README),
    "download": (
        (
            V1 + "/crates/foo/1.0.0/download",
            f"/files/crates/foo/1.0.0/{SHA}/download",
            "/files/crates/foo/foo-1.0.0.crate",
        ),
        TARBALL,
    ),
    "version_list": ((V1 + "/versions",), answer(10 * MINUTE)),
    "version_by_id": ((V1 + "/versions/1",), answer(10 * MINUTE)),
    "keywords": ((V1 + "/keywords",), answer(HOUR)),
    "keyword": ((V1 + "/keywords/cli",), answer(HOUR)),
    "categories": ((V1 + "/categories",), answer(HOUR)),
    "category": ((V1 + "/categories/web-programming::http-client",), answer(HOUR)),
    "category_slugs": ((V1 + "/category_slugs",), answer(DAY)),
    "user": ((V1 + "/users/alice",), answer(HOUR)),
    "user_stats": ((V1 + "/users/1/stats",), answer(HOUR)),
    "team": ((V1 + "/teams/github:a:b",), answer(HOUR)),
    "summary": ((V1 + "/summary",), answer(MINUTE, 0.0)),
    "site_metadata": ((V1 + "/site_metadata",), answer(MINUTE)),
    "index": (("/index/3/f/foo", "/index/se/rd/serde"), INDEX),
    "private": (
        (V1 + "/me", V1 + "/me/updates", V1 + "/trusted_publishing/github_configs", V1 + "/tokens/current"),
        PRIVATE,
    ),
    "other": ((V1 + "/nonsense", V1 + "/crates/foo/1.0.0/nonsense", V1 + "/users"), TRANSPARENT),
}

# Name -> method, target, and whether a success changes what is public about the crate.
CHANGES: dict[str, tuple[str, str, bool]] = {
    "publish": ("PUT", "/crates/new", True),
    "yank": ("DELETE", "/crates/foo/1.0.0/yank", True),
    "unyank": ("PUT", "/crates/foo/1.0.0/unyank", True),
    "follow": ("PUT", "/crates/foo/follow", False),
    "unfollow": ("DELETE", "/crates/foo/follow", False),
    "add_owners": ("PUT", "/crates/foo/owners", True),
    "remove_owners": ("DELETE", "/crates/foo/owners", True),
    "update_crate": ("PATCH", "/crates/foo", True),
    "update_version": ("PATCH", "/crates/foo/1.0.0", True),
    "delete_crate": ("DELETE", "/crates/foo", True),
    "rebuild_docs": ("POST", "/crates/foo/1.0.0/rebuild_docs", False),
    "change": ("POST", "/nonsense", True),
}

# Query of a search -> its ttl and how long it may be served while it is revalidated.
SEARCHES: dict[str, tuple[float, float]] = {
    "": (5 * MINUTE, 5 * MINUTE),
    "sort=new": (MINUTE, 0.0),
    "sort=recent-updates": (MINUTE, 0.0),
    "page=2&sort=new&q=a": (MINUTE, 0.0),
    "sort=%6eew": (MINUTE, 0.0),
    "sort=downloads&sort=new": (MINUTE, 0.0),
    "sort=relevance": (5 * MINUTE, 5 * MINUTE),
    "sort=newest": (5 * MINUTE, 5 * MINUTE),
    "q=new": (5 * MINUTE, 5 * MINUTE),
    "sort=": (5 * MINUTE, 5 * MINUTE),
}

# Row, query and what the settings say -> the times in force.
OVERRIDDEN: list[tuple[str, str, Override, Policy]] = [
    ("crate", "", Override(), Policy(5 * MINUTE, 5 * MINUTE, 30 * DAY, MINUTE)),
    ("crate", "", Override(ttl=10.0), Policy(10.0, 10.0, 30 * DAY, MINUTE)),
    ("crate", "", Override(ttl=0.0), Policy(0.0, 0.0, 30 * DAY, MINUTE)),
    ("crate", "", Override(ttl=DAY), Policy(DAY, HOUR, 30 * DAY, MINUTE)),
    ("crate", "", Override(stale_while_revalidate=DAY), Policy(5 * MINUTE, DAY, 30 * DAY, MINUTE)),
    ("crate", "", Override(stale_while_revalidate=0.0), Policy(5 * MINUTE, 0.0, 30 * DAY, MINUTE)),
    ("crate", "", Override(stale_if_error=0.0), Policy(5 * MINUTE, 5 * MINUTE, 0.0, MINUTE)),
    ("crate", "", Override(negative_ttl=0.0), Policy(5 * MINUTE, 5 * MINUTE, 30 * DAY, 0.0)),
    ("crate", "sort=new", Override(), Policy(5 * MINUTE, 5 * MINUTE, 30 * DAY, MINUTE)),
    ("search", "sort=new", Override(ttl=HOUR), Policy(MINUTE, 0.0, 30 * DAY, MINUTE)),
    ("search", "sort=new", Override(ttl=5.0), Policy(5.0, 0.0, 30 * DAY, MINUTE)),
    ("search", "sort=new", Override(stale_while_revalidate=7.0), Policy(MINUTE, 7.0, 30 * DAY, MINUTE)),
    ("index", "", Override(ttl=HOUR), Policy(HOUR, 0.0, math.inf, 30.0)),
    ("index", "", Override(stale_while_revalidate=5.0), Policy(MINUTE, 5.0, math.inf, 30.0)),
    ("other", "", Override(ttl=HOUR, stale_if_error=HOUR), NONE),
    ("private", "", Override(ttl=HOUR), NONE),
    ("publish", "", Override(ttl=HOUR), NONE),
]


def matched(method: str, target: str) -> routes.Match:
    path, _, query = target.partition("?")
    return routes.match(method, paths.path(path.encode()), paths.query(query.encode()))


def test_the_table_has_the_promised_rows_and_no_other() -> None:
    assert [row.name for row in TABLE] == [*READS, *CHANGES]
    assert list(BY_NAME) == [*READS, *CHANGES]


@pytest.mark.parametrize("name", READS)
def test_a_read_is_answered_as_its_row_promises(name: str) -> None:
    targets, (kind, host, times) = READS[name]
    for target in targets:
        for method in ("GET", "HEAD"):
            found = matched(method, target)
            assert (found.endpoint.name, found.endpoint.kind, found.endpoint.host) == (name, kind, host)
            assert policy(found.endpoint, found.query) == times
    assert TIMED[name] is BY_NAME[name].shielded is (times.ttl is not None)


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_goes_straight_through(name: str) -> None:
    method, target, invalidates = CHANGES[name]
    row = matched(method, V1 + target).endpoint
    assert (row.name, row.kind, row.host, row.invalidates) == (name, Kind.CHANGE, Host.API, invalidates)
    assert policy(row, ()) == NONE
    assert not TIMED[name]


@pytest.mark.parametrize("query", SEARCHES)
def test_a_search_for_the_newest_is_fresh_for_less_and_never_served_stale(query: str) -> None:
    found = matched("GET", f"{V1}/crates?{query}")
    times = policy(found.endpoint, found.query)
    assert (times.ttl, times.stale_while_revalidate) == SEARCHES[query]


@pytest.mark.parametrize(("name", "query", "override", "expected"), OVERRIDDEN)
def test_the_settings_win_over_the_table(name: str, query: str, override: Override, expected: Policy) -> None:
    assert policy(BY_NAME[name], paths.query(query.encode()), override) == expected


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_only_a_row_that_folds_names_has_a_crate_at_the_start_of_its_path(row: endpoints.Endpoint) -> None:
    if row.folded:
        assert all(path.startswith("/api/v1/crates/{crate}") for path in row.paths)
        assert row.kind is Kind.JSON


@pytest.mark.parametrize("name", ["versions", "crate_downloads", "version_downloads", "download", "readme"])
def test_a_row_whose_answer_echoes_the_spelling_does_not_fold_names(name: str) -> None:
    assert not BY_NAME[name].folded


def test_the_index_decides_about_what_changes_with_it_and_nothing_else() -> None:
    assert [row.name for row in TABLE if row.renewable] == ["crate", "versions", "version", "dependencies"]


@pytest.mark.parametrize("path", ["/", "/crates/foo", "/api/v1", "/files", "/index", "/healthz"])
def test_a_path_outside_the_table_is_nobodys(path: str) -> None:
    with pytest.raises(Refused) as caught:
        matched("GET", path)
    assert caught.value.status == 404
