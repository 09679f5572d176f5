"""What everyone may read about one crate."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from urllib.parse import quote

from tests.upstream import bodies, paging, versions
from tests.upstream.packages import NotKnown, Package, Release
from tests.upstream.routes import Call, Routes, answer
from tests.upstream.wire import Headers, Refusal, Reply

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")

PARTS = frozenset({"versions", "keywords", "categories", "badges", "downloads", "default_version"})


def _package(call: Call) -> Package:
    return call.registry.package(call["crate"])


def _version(call: Call) -> str:
    num = call["version"]
    if not versions.valid(num):
        raise Refusal(400, f"Invalid URL: unexpected character '{num[:1]}' while parsing major version number")
    return num


def _release(call: Call) -> tuple[Package, Release]:
    num = _version(call)
    try:
        package = _package(call)
        return package, package.release(num)
    except NotKnown:
        name = call["crate"]
        call.registry.package(name)
        raise NotKnown(f"crate `{name}` does not have a version `{num}`") from None


def crate(call: Call) -> Reply:
    package, given = _package(call), call.param("include")
    wanted = PARTS if given in (None, "full") else frozenset(str(given).split(",")) - {""}
    if wanted - PARTS - {"full"}:
        raise Refusal(400, "invalid component for ?include= (expected 'versions', 'keywords', ...)")
    wanted = PARTS if "full" in wanted else wanted
    shown: list[Release] | None = None
    if "versions" in wanted:
        shown = package.newest_first()
    elif "default_version" in wanted:
        shown = [package.latest]
    words = package.latest.metadata
    known = bodies.keywords(call.registry) if words["keywords"] else {}
    return answer(
        {
            "crate": bodies.crate(package, include=wanted, top="versions" in wanted),
            "versions": shown and [bodies.version(call.registry, package, one) for one in shown],
            "keywords": [known[word] for word in words["keywords"]] if "keywords" in wanted else None,
            "categories": [bodies.category(call.registry, slug) for slug in words["categories"]]
            if "categories" in wanted
            else None,
        }
    )


def crate_versions(call: Call) -> Reply:
    package = _package(call)
    wanted = [value for key, value in call.request.query if key == "nums[]"]
    listed = package.newest_first() if call.param("sort") == "date" else bodies.by_rank(package.releases)
    listed = [release for release in listed if not wanted or release.num in wanted]
    meta: dict[str, object] = {"total": len(listed), "next_page": None}
    if call.param("per_page") is not None or call.param("page") is not None:
        listed, cut = paging.cut(call, listed, pages=False)
        meta["next_page"] = cut["next_page"]
    if "release_tracks" in (call.param("include") or ""):
        stable = package.highest(stable=True)
        meta["release_tracks"] = {stable.num.partition(".")[0]: {"highest": stable.num}} if stable else {}
    shown = [bodies.version(call.registry, package, one, call["crate"]) for one in listed]
    return answer({"versions": shown, "meta": meta})


def _before(call: Call) -> date:
    try:
        return date.fromisoformat(call.param("before_date") or "")
    except ValueError:
        return datetime.fromtimestamp(call.registry.clock(), UTC).date()


def crate_downloads(call: Call) -> Reply:
    package = _package(call)
    listed = bodies.by_rank(package.releases)
    first, rest = listed[:5], listed[5:]
    days = [day for one in first for day in bodies.daily(one, _before(call))]
    extra: dict[str, int] = {}
    for one in rest:
        for day in bodies.daily(one, _before(call)):
            extra[day["date"]] = extra.get(day["date"], 0) + day["downloads"]
    more = [{"date": day, "downloads": count} for day, count in extra.items()]
    body = {"version_downloads": days, "meta": {"extra_downloads": more}}
    if call.param("include") == "versions":
        body["versions"] = [bodies.version(call.registry, package, one, call["crate"]) for one in first]
    return answer(body)


def version(call: Call) -> Reply:
    return answer({"version": bodies.version(call.registry, *_release(call))})


def dependencies(call: Call) -> Reply:
    return answer({"dependencies": bodies.dependencies(_release(call)[1])})


def version_downloads(call: Call) -> Reply:
    return answer({"version_downloads": bodies.daily(_release(call)[1], _before(call))})


def authors(call: Call) -> Reply:
    return answer({"users": [], "meta": {"names": []}})


def _elsewhere(call: Call, path: str) -> Reply:
    """To the static host, without looking whether it has that; to those who take JSON in words."""
    if not _NAME.fullmatch(call["crate"]):
        raise NotKnown(f"crate `{call['crate']}` does not exist")
    url = call.site.static + quote(path, safe="/-._~")
    vary: Headers = (("vary", "accept"),)
    if "json" in call.request.header("accept"):
        return answer({"url": url}, vary)
    return Reply(302, (("location", url), *vary))


def download(call: Call) -> Reply:
    return _elsewhere(call, f"/crates/{call['crate']}/{call['crate']}-{_version(call)}.crate")


def readme(call: Call) -> Reply:
    return _elsewhere(call, f"/readmes/{call['crate']}/{call['crate']}-{_version(call)}.html")


def owners(call: Call) -> Reply:
    logins = sorted(_package(call).owners, key=lambda login: ":" in login)
    kinds = ["team" if ":" in login else "user" for login in logins]
    return answer(
        {"users": [bodies.user(call.registry, one, kind=kind) for one, kind in zip(logins, kinds, strict=True)]}
    )


def owner_user(call: Call) -> Reply:
    logins = [login for login in _package(call).owners if ":" not in login]
    return answer({"users": [bodies.user(call.registry, login, kind="user") for login in logins]})


def owner_team(call: Call) -> Reply:
    logins = [login for login in _package(call).owners if ":" in login]
    return answer({"teams": [bodies.user(call.registry, login, kind="team") for login in logins]})


def reverse_dependencies(call: Call) -> Reply:
    wanted = _package(call).name
    every = [(one, one.latest) for one in call.registry.packages.values()]
    pairs = [
        (package, release, dep | {"crate_id": wanted})
        for package, release in every
        for dep in bodies.dependencies(release)
        if dep["crate_id"] == wanted
    ]
    shown, meta = paging.cut(call, pairs, seek=False, limited=True)
    return answer(
        {
            "dependencies": [dep for _, _, dep in shown],
            "versions": [bodies.version(call.registry, package, release) for package, release, _ in shown],
            "meta": {"total": meta["total"]},
        }
    )


_CRATE = "/api/v1/crates/{crate}"

ROUTES: Routes = (
    ("GET", _CRATE, crate),
    ("GET", _CRATE + "/versions", crate_versions),
    ("GET", _CRATE + "/downloads", crate_downloads),
    ("GET", _CRATE + "/owners", owners),
    ("GET", _CRATE + "/owner_user", owner_user),
    ("GET", _CRATE + "/owner_team", owner_team),
    ("GET", _CRATE + "/reverse_dependencies", reverse_dependencies),
    ("GET", _CRATE + "/{version}", version),
    ("GET", _CRATE + "/{version}/dependencies", dependencies),
    ("GET", _CRATE + "/{version}/downloads", version_downloads),
    ("GET", _CRATE + "/{version}/authors", authors),
    ("GET", _CRATE + "/{version}/download", download),
    ("GET", _CRATE + "/{version}/readme", readme),
)
