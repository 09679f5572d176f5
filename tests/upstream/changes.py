"""What changes the registry: publish, yank, owners, follow, and the rest of PUT, PATCH, DELETE and POST."""

from __future__ import annotations

import json
import struct
from typing import Any

from tests.upstream import accounts, bodies, versions
from tests.upstream.packages import Package, Release
from tests.upstream.routes import NO_STORE, Call, Routes, answer
from tests.upstream.wire import Refusal, Reply

# crates.io's own limits (10 MiB, unless a crate was granted more).
METADATA_LIMIT, TARBALL_LIMIT = 1024 * 1024, 10 * 1024 * 1024


def publish(call: Call) -> Reply:
    who = accounts.login(call)
    metadata, tarball = _taken_apart(call.request.body)
    empty = [key for key in ("description", "license") if not metadata.get(key)]
    if empty:
        raise Refusal(
            400,
            f"missing or empty metadata fields: {', '.join(empty)}. Please see "
            "https://doc.rust-lang.org/cargo/reference/manifest.html for more information on configuring these fields",
        )
    if not versions.valid(metadata["vers"]):
        raise Refusal(400, f'"{metadata["vers"]}" is an invalid semver version')
    accounts.throttled(call, who, "published too many updates to existing crates")
    call.registry.publish(who, metadata, tarball)
    unknown = [slug for slug in metadata["categories"] if slug not in bodies.CATEGORIES]
    warnings = {"invalid_categories": unknown, "invalid_badges": [], "other": []}
    return answer({"crate": bodies.crate(call.registry.package(metadata["name"])), "warnings": warnings})


def _taken_apart(body: bytes) -> tuple[dict[str, Any], bytes]:
    """The two parts of a publish body; both lengths must be true."""
    text, rest = _part(body, "metadata", METADATA_LIMIT)
    tarball, rest = _part(rest, "tarball", TARBALL_LIMIT)
    if rest:
        raise Refusal(400, f"invalid tarball length for remaining payload: {len(tarball)}")
    try:
        return json.loads(text), tarball
    except ValueError as error:
        raise Refusal(400, f"invalid upload request: {error}") from None


def _part(body: bytes, what: str, limit: int) -> tuple[bytes, bytes]:
    if len(body) < 4:
        raise Refusal(400, f"invalid {what} length")
    (size,) = struct.unpack("<I", body[:4])
    if size > limit:
        raise Refusal(413, f"max upload size is: {limit}")
    if size > len(body) - 4:
        raise Refusal(400, f"invalid {what} length for remaining payload: {size}")
    return body[4 : 4 + size], body[4 + size :]


def _release(call: Call) -> tuple[Package, Release]:
    package = call.registry.package(call["crate"])
    if not versions.valid(call["version"]):
        raise Refusal(400, "Invalid URL: unexpected character while parsing major version number")
    return package, package.release(call["version"])


def _yanked(call: Call, yanked: bool, message: str | None = None) -> None:
    who = accounts.login(call)
    package, release = _release(call)
    if who not in package.owners:
        raise Refusal(403, "must already be an owner to yank or unyank")
    accounts.throttled(call, who, "yanked or unyanked too many versions")
    call.registry.yank(package.name, release.num, yanked=yanked, message=message)


def yank(call: Call) -> Reply:
    _yanked(call, True)
    return answer({"ok": True})


def unyank(call: Call) -> Reply:
    _yanked(call, False)
    return answer({"ok": True})


def update_version(call: Call) -> Reply:
    change = call.json()["version"]
    if change.get("yank_message") and not change.get("yanked"):
        raise Refusal(400, "Cannot set yank message when unyanking")
    _yanked(call, bool(change.get("yanked")), change.get("yank_message"))
    return answer({"version": bodies.version(call.registry, *_release(call))})


def _owned(call: Call, refusal: str, status: int = 403) -> Package:
    """The crate of the route, when whoever asks owns it."""
    who = accounts.login(call)
    package = call.registry.package(call["crate"])
    if who not in package.owners:
        raise Refusal(status, refusal)
    return package


def _logins(call: Call) -> list[str]:
    body = call.json()
    logins = body.get("users") or body.get("owners")
    if not logins:
        raise Refusal(400, "invalid json request")
    return list(logins)


def add_owners(call: Call) -> Reply:
    package = _owned(call, "only owners have permission to modify owners")
    told = [call.registry.add_owner(package.name, login) for login in _logins(call)]
    return answer({"msg": ",".join(told), "ok": True})


def remove_owners(call: Call) -> Reply:
    package = _owned(call, "only owners have permission to modify owners")
    for login in _logins(call):
        call.registry.remove_owner(package.name, login)
    return answer({"msg": "owners successfully removed", "ok": True})


def update_crate(call: Call) -> Reply:
    package = _owned(call, "only owners have permission to update crates")
    package.trustpub_only = bool(call.json()["crate"].get("trustpub_only"))
    return answer({"crate": bodies.crate(package)})


def delete_crate(call: Call) -> Reply:
    accounts.login(call, token=False)
    package = _owned(call, "only owners have permission to delete crates")
    call.registry.delete(package.name)
    return Reply(204)


def rebuild_docs(call: Call) -> Reply:
    accounts.login(call, token=False)
    _release(call)
    return Reply(201)


def follow(call: Call) -> Reply:
    who = accounts.login(call)
    call.registry.package(call["crate"]).followers.add(who)
    return answer({"ok": True})


def unfollow(call: Call) -> Reply:
    who = accounts.login(call)
    call.registry.package(call["crate"]).followers.discard(who)
    return answer({"ok": True})


def following(call: Call) -> Reply:
    who = accounts.login(call, token=False)
    return answer({"following": who in call.registry.package(call["crate"]).followers}, NO_STORE)


ROUTES: Routes = (
    ("PUT", "/api/v1/crates/new", publish),
    ("PUT", "/api/v1/crates/{crate}/follow", follow),
    ("DELETE", "/api/v1/crates/{crate}/follow", unfollow),
    ("GET", "/api/v1/crates/{crate}/following", following),
    ("PUT", "/api/v1/crates/{crate}/owners", add_owners),
    ("DELETE", "/api/v1/crates/{crate}/owners", remove_owners),
    ("PATCH", "/api/v1/crates/{crate}", update_crate),
    ("DELETE", "/api/v1/crates/{crate}", delete_crate),
    ("PATCH", "/api/v1/crates/{crate}/{version}", update_version),
    ("DELETE", "/api/v1/crates/{crate}/{version}/yank", yank),
    ("PUT", "/api/v1/crates/{crate}/{version}/unyank", unyank),
    ("POST", "/api/v1/crates/{crate}/{version}/rebuild_docs", rebuild_docs),
)
