"""The index host: upstream's own `config.json`, and one file a crate. What is missing is 404."""

from __future__ import annotations

import json

from tests.upstream.objects import missing, served
from tests.upstream.packages import NotKnown
from tests.upstream.routes import Site
from tests.upstream.wire import Reply, Request

CACHE_CONTROL = "public,max-age=600"


def path(name: str) -> str:
    """Where a crate's file is: `1/a`, `2/ab`, `3/a/abc`, `ab/cd/abcd`."""
    name = name.lower()
    if len(name) < 3:
        return f"/{len(name)}/{name}"
    if len(name) == 3:
        return f"/3/{name[0]}/{name}"
    return f"/{name[:2]}/{name[2:4]}/{name}"


def config(site: Site) -> bytes:
    return json.dumps({"dl": site.static + "/crates", "api": site.api}, separators=(",", ":")).encode()


def respond(site: Site, request: Request) -> Reply:
    if request.method not in ("GET", "HEAD"):
        return missing(405, "MethodNotAllowed", "The specified method is not allowed against this resource.")
    if request.path == "/config.json":
        return served(request, config(site), 1_700_000_000.0, "application/json")
    name = request.path.rpartition("/")[2]
    try:
        body = site.registry.index_file(name)
    except NotKnown:
        body = b""
    if not body or request.path != path(name):
        return missing(404, "NoSuchKey", "The specified key does not exist.")
    changed_at = site.registry.package(name).index_at
    return served(request, body, changed_at, "text/plain", CACHE_CONTROL)
