"""What everyone may read about more than one crate: keywords, categories, people, the front page."""

from __future__ import annotations

from tests.upstream import bodies, paging
from tests.upstream.packages import Package
from tests.upstream.routes import Call, Routes, answer
from tests.upstream.search import SORTS, search
from tests.upstream.wire import Headers, Refusal, Reply

BRIEFLY: Headers = (("cache-control", "public, max-age=15"),)


def keywords(call: Call) -> Reply:
    every = list(bodies.keywords(call.registry).values())
    if call.param("sort") == "crates":
        every.sort(key=lambda word: -word["crates_cnt"])
    shown, meta = paging.cut(call, every, seek=False)
    return answer({"keywords": shown, "meta": {"total": meta["total"]}})


def keyword(call: Call) -> Reply:
    known = bodies.keywords(call.registry)
    if call["keyword"].lower() not in known:
        raise Refusal(404, "Not Found")
    return answer({"keyword": known[call["keyword"].lower()]})


def categories(call: Call) -> Reply:
    every = [bodies.category(call.registry, slug) for slug in sorted(bodies.CATEGORIES)]
    if call.param("sort") == "crates":
        every.sort(key=lambda one: -one["crates_cnt"])
    shown, meta = paging.cut(call, every, seek=False)
    return answer({"categories": shown, "meta": {"total": meta["total"]}})


def category(call: Call) -> Reply:
    if call["category"] not in bodies.CATEGORIES:
        raise Refusal(404, "Not Found")
    one = bodies.category(call.registry, call["category"])
    return answer({"category": one | {"subcategories": [], "parent_categories": []}})


def category_slugs(call: Call) -> Reply:
    slugs = [{"id": slug, "slug": slug, "description": told} for slug, (_, told) in bodies.CATEGORIES.items()]
    return answer({"category_slugs": sorted(slugs, key=lambda one: one["slug"])})


def user(call: Call) -> Reply:
    """By login, in any case."""
    for login in call.registry.users:
        if login.lower().replace("_", "-") == call["user"].lower().replace("_", "-"):
            return answer({"user": bodies.user(call.registry, login)})
    raise Refusal(404, "Not Found")


def user_stats(call: Call) -> Reply:
    logins = [one.login for one in call.registry.users.values() if str(one.id) == call["user"]]
    owned = [one for one in call.registry.packages.values() if set(logins) & set(one.owners)]
    return answer({"total_downloads": sum(bodies.downloads(release) for one in owned for release in one.releases)})


def team(call: Call) -> Reply:
    for package in call.registry.packages.values():
        if call["team"] in package.owners:
            return answer({"team": bodies.user(call.registry, call["team"])})
    raise Refusal(404, "Not Found")


def summary(call: Call) -> Reply:
    packages = list(call.registry.packages.values())

    def ten(sort: str) -> list[bodies.Json]:
        return [bodies.crate(one) for one in sorted(packages, key=SORTS[sort])[:10]]

    body = {
        "num_downloads": sum(_downloads(one) for one in packages),
        "num_crates": len(packages),
        "new_crates": ten("new"),
        "most_downloaded": ten("downloads"),
        "most_recently_downloaded": ten("recent-downloads"),
        "just_updated": ten("recent-updates"),
        "popular_keywords": list(bodies.keywords(call.registry).values())[:10],
        "popular_categories": [bodies.category(call.registry, slug) for slug in sorted(bodies.CATEGORIES)],
    }
    return answer(body, BRIEFLY)


def _downloads(package: Package) -> int:
    return sum(bodies.downloads(release) for release in package.releases)


def site_metadata(call: Call) -> Reply:
    commit = "0123456789abcdef0123456789abcdef01234567"
    body = {"deployed_sha": commit, "commit": commit, "read_only": False, "banner_message": None}
    return answer(body | {"cdn_base": call.site.static}, BRIEFLY)


def openapi(call: Call) -> Reply:
    return answer({"openapi": "3.1.0", "info": {"title": "crates.io", "version": "0.0.0"}, "paths": {}})


ROUTES: Routes = (
    ("GET", "/api/v1/crates", search),
    ("GET", "/api/v1/keywords", keywords),
    ("GET", "/api/v1/keywords/{keyword}", keyword),
    ("GET", "/api/v1/categories", categories),
    ("GET", "/api/v1/categories/{category}", category),
    ("GET", "/api/v1/category_slugs", category_slugs),
    ("GET", "/api/v1/users/{user}", user),
    ("GET", "/api/v1/users/{user}/stats", user_stats),
    ("GET", "/api/v1/teams/{team}", team),
    ("GET", "/api/v1/summary", summary),
    ("GET", "/api/v1/site_metadata", site_metadata),
    ("GET", "/api/openapi.json", openapi),
)
