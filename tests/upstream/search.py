"""`GET /api/v1/crates`: which crates, in which order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.upstream import accounts, bodies, paging
from tests.upstream.packages import Package, folded
from tests.upstream.routes import NO_STORE, Call, answer
from tests.upstream.wire import Reply

SORTS: dict[str, Callable[[Package], Any]] = {
    "downloads": lambda one: -sum(bodies.downloads(release) for release in one.releases),
    "recent-downloads": lambda one: -sum(bodies.downloads(release) for release in one.releases),
    "recent-updates": lambda one: (-one.updated_at, -one.id),
    "new": lambda one: (-one.created_at, -one.id),
}


def words(package: Package) -> set[str]:
    return set(package.latest.metadata["keywords"])


def fits(package: Package, query: str) -> bool:
    told = package.latest.metadata
    text = f"{folded(package.name)} {told['description'].lower()} {' '.join(told['keywords'])}"
    return all(folded(word) in text for word in query.split())


def chosen(call: Call, package: Package, follower: str) -> bool:
    """The first of these filters that is given counts; the others are ignored."""
    wanted = [value for key, value in call.request.query if key == "ids[]"]
    given = dict(call.request.query)
    if "all_keywords" in given:
        return set(given["all_keywords"].split()) <= words(package)
    if "keyword" in given:
        return given["keyword"].lower() in words(package)
    if "letter" in given:
        return package.name.lower().startswith(given["letter"].lower())
    if "user_id" in given:
        ids = [str(bodies.user(call.registry, login)["id"]) for login in package.owners if ":" not in login]
        return given["user_id"] in ids
    if "team_id" in given:
        ids = [str(bodies.user(call.registry, login)["id"]) for login in package.owners if ":" in login]
        return given["team_id"] in ids
    if "following" in given:
        return follower in package.followers
    return not wanted or folded(package.name) in {folded(name) for name in wanted}


def search(call: Call) -> Reply:
    private = call.param("following") is not None
    follower = accounts.login(call) if private else ""
    query, slug = call.param("q") or "", call.param("category")
    found = [
        package
        for package in call.registry.packages.values()
        if fits(package, query)
        and (not slug or slug in package.latest.metadata["categories"])
        and (call.param("include_yanked") in (None, "yes") or package.highest() is not None)
        and chosen(call, package, follower)
    ]
    found.sort(key=lambda one: one.name.lower())
    sort = call.param("sort") or ("relevance" if query else "alphabetical")
    if sort in SORTS:
        found.sort(key=SORTS[sort])
    found.sort(key=lambda one: folded(one.name) != folded(query))
    shown, meta = paging.cut(call, found, seek=sort != "relevance", limited=True)
    crates = [
        bodies.crate(one, include=frozenset({"downloads"}), exact=folded(one.name) == folded(query)) for one in shown
    ]
    return answer({"crates": crates, "meta": meta}, NO_STORE if private else ())
