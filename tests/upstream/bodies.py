"""The JSON shapes of crates.io's API, made from the registry."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from tests.upstream import versions
from tests.upstream.packages import Package, Release, timestamp
from tests.upstream.registry import Registry

Json = dict[str, Any]

CATEGORIES = {
    "development-tools": ("Development tools", "Crates that provide developer-facing features."),
    "encoding": ("Encoding", "Encoding and/or decoding data from one data format to another."),
}


def user(registry: Registry, login: str, *, kind: str | None = None) -> Json:
    """A user, or where the login has a colon, a team."""
    if ":" in login:
        ident, name, avatar = 1000 + len(login), login.rpartition(":")[2], None
        url = "https://github.com/" + login.split(":")[1]
    else:
        known = registry.user(login)
        ident, name, avatar = known.id, known.name, f"https://avatars.example.com/u/{known.id}?v=4"
        url = f"https://github.com/{login}"
    shape: Json = {"id": ident, "login": login, "name": name, "avatar": avatar, "url": url}
    return shape | ({"kind": kind} if kind else {})


def downloads(release: Release) -> int:
    return 1000 + 10 * release.id


def daily(release: Release, before: date) -> list[Json]:
    """Downloads of the 90 days up to `before`."""
    days = (before - timedelta(days=89 - ago) for ago in range(90))
    return [
        {"version": release.id, "downloads": (release.id * 7 + day.day) % 50, "date": day.isoformat()} for day in days
    ]


def version(registry: Registry, package: Package, release: Release, spelt: str = "") -> Json:
    """One version; `spelt` is the crate's name as the request spells it, where upstream echoes that."""
    name, num = spelt or package.name, release.num
    path = f"/api/v1/crates/{name}/{num}"
    publisher = user(registry, release.published_by)
    return {
        "id": release.id,
        "crate": name,
        "num": num,
        "dl_path": f"{path}/download",
        "readme_path": f"{path}/readme",
        "updated_at": timestamp(release.updated_at),
        "created_at": timestamp(release.created_at),
        "downloads": downloads(release),
        "features": release.metadata["features"],
        "yanked": release.yanked,
        "yank_message": release.yank_message,
        "lib_links": release.line["links"],
        "license": release.metadata["license"],
        "links": {
            "dependencies": f"{path}/dependencies",
            "version_downloads": f"{path}/downloads",
            "authors": f"{path}/authors",
        },
        "crate_size": len(release.tarball),
        "published_by": publisher,
        "audit_actions": [{"action": "publish", "user": publisher, "time": timestamp(release.created_at)}],
        "checksum": release.line["cksum"],
        "rust_version": release.metadata.get("rust_version"),
        "has_lib": True,
        "bin_names": [],
        "edition": "2021",
        "description": release.metadata["description"],
        "homepage": release.metadata["homepage"],
        "documentation": release.metadata["documentation"],
        "repository": release.metadata["repository"],
        "trustpub_data": None,
        "linecounts": {"languages": {"Rust": {"code_lines": 3, "comment_lines": 0, "files": 1}}},
    }


def crate(package: Package, *, include: frozenset[str] = frozenset(), exact: bool = False, top: bool = True) -> Json:
    """A crate. `include` names the parts that aren't null; `top` is whether versions were looked at."""
    latest, path = package.latest, f"/api/v1/crates/{package.name}"
    highest, stable = package.highest(), package.highest(stable=True)
    newest = next((one for one in package.newest_first() if not one.yanked), None)
    total = sum(downloads(release) for release in package.releases)
    return {
        "id": package.name,
        "name": package.name,
        "updated_at": timestamp(package.updated_at),
        "versions": [release.id for release in package.newest_first()] if "versions" in include else None,
        "keywords": latest.metadata["keywords"] if "keywords" in include else None,
        "categories": latest.metadata["categories"] if "categories" in include else None,
        "badges": [],
        "created_at": timestamp(package.created_at),
        "downloads": total,
        "recent_downloads": total // 10 if "downloads" in include else None,
        "default_version": latest.num,
        "num_versions": len(package.releases),
        "yanked": latest.yanked,
        "max_version": highest.num if top and highest else "0.0.0",
        "newest_version": newest.num if top and newest else "0.0.0",
        "max_stable_version": stable.num if top and stable else None,
        "description": latest.metadata["description"],
        "homepage": latest.metadata["homepage"],
        "documentation": latest.metadata["documentation"],
        "repository": latest.metadata["repository"],
        "links": {
            "version_downloads": f"{path}/downloads",
            "versions": None if "versions" in include else f"{path}/versions",
            "owners": f"{path}/owners",
            "owner_team": f"{path}/owner_team",
            "owner_user": f"{path}/owner_user",
            "reverse_dependencies": f"{path}/reverse_dependencies",
        },
        "exact_match": exact,
        "trustpub_only": package.trustpub_only,
    }


def dependencies(release: Release) -> list[Json]:
    return [
        {
            "id": release.id * 100 + number,
            "version_id": release.id,
            "crate_id": dep["name"],
            "req": dep["version_req"],
            "optional": dep["optional"],
            "default_features": dep["default_features"],
            "features": dep["features"],
            "target": dep["target"],
            "kind": dep["kind"],
            "downloads": 0,
        }
        for number, dep in enumerate(release.metadata["deps"])
    ]


def keywords(registry: Registry) -> dict[str, Json]:
    """Every keyword in use."""
    counts: dict[str, int] = {}
    for package in registry.packages.values():
        for word in package.latest.metadata["keywords"]:
            counts[word] = counts.get(word, 0) + 1
    return {
        word: {"id": word, "keyword": word, "created_at": "2017-01-06T14:23:11Z", "crates_cnt": count}
        for word, count in sorted(counts.items())
    }


def category(registry: Registry, slug: str) -> Json:
    name, description = CATEGORIES[slug]
    having = [one for one in registry.packages.values() if slug in one.latest.metadata["categories"]]
    return {
        "id": slug,
        "category": name,
        "slug": slug,
        "description": description,
        "created_at": "2017-01-17T19:13:05Z",
        "crates_cnt": len(having),
    }


def by_rank(releases: list[Release]) -> list[Release]:
    """Highest version first."""
    return sorted(releases, key=lambda release: versions.rank(release.num), reverse=True)
