"""The static host: tarballs, rendered READMEs, the feed of new versions. What is missing is 403, as in S3."""

from __future__ import annotations

import re
from html import escape
from urllib.parse import unquote

from tests.upstream.objects import missing, served
from tests.upstream.packages import NotKnown, Release
from tests.upstream.registry import Registry
from tests.upstream.routes import Site
from tests.upstream.wire import Reply, Request, http_date

IMMUTABLE = "public,max-age=31536000,immutable"
A_WEEK = "public,max-age=604800"
ALWAYS_IN_FEED, IN_FEED = 3600.0, 100

_DOWNLOAD = re.compile(r"/crates/([^/]+)/([^/]+)/download")
_TARBALL = re.compile(r"/crates/([^/]+)/\1-([^/]+)\.crate")
_README = re.compile(r"/readmes/([^/]+)/\1-([^/]+)\.html")


def respond(site: Site, request: Request) -> Reply:
    if request.method not in ("GET", "HEAD"):
        return Reply(401, (("content-type", "text/plain"),), b"Method not allowed")
    # Both forms of `+` are the same object; unquote leaves a plain one alone.
    path = _DOWNLOAD.sub(r"/crates/\1/\1-\2.crate", unquote(request.path))
    with site.registry.lock:
        if path == "/rss/updates.xml":
            body, changed_at = (
                feed(site),
                max((one.created_at for one in _newest(site.registry)), default=0.0),
            )
            return served(request, body, changed_at, "text/xml; charset=UTF-8")
        if release := _exactly(site.registry, _TARBALL.fullmatch(path)):
            return served(request, release.tarball, release.created_at, "application/gzip", IMMUTABLE)
        if release := _exactly(site.registry, _README.fullmatch(path)):
            return served(request, readme(release), release.created_at, "text/html", A_WEEK)
    return missing(403, "AccessDenied", "Access Denied")


def _exactly(registry: Registry, found: re.Match[str] | None) -> Release | None:
    """The release, if the name is spelt to the letter."""
    if found is None:
        return None
    try:
        package = registry.package(found[1])
        return package.release(found[2]) if package.name == found[1] else None
    except NotKnown:
        return None


def readme(release: Release) -> bytes:
    name, description = release.metadata["name"], release.metadata["description"]
    return f"<h1>{escape(name)}</h1>\n<p>{escape(description)}.</p>\n".encode()


def _newest(registry: Registry) -> list[Release]:
    """The newest hundred, or all of the last hour where those are more."""
    every = [release for package in registry.packages.values() for release in package.releases]
    every.sort(key=lambda release: (release.created_at, release.id), reverse=True)
    recent = [release for release in every if release.created_at > registry.clock() - ALWAYS_IN_FEED]
    return recent if len(recent) >= IN_FEED else every[:IN_FEED]


def feed(site: Site) -> bytes:
    """RSS of the newest versions; it doesn't tell of yanks. Laid out as crates.io does it."""
    items = []
    for release in _newest(site.registry):
        name, num = escape(release.metadata["name"]), escape(release.num)
        link = f"https://crates.io/crates/{name}/{num}"
        date = http_date(release.created_at).replace("GMT", "+0000")
        items.append(
            f"""
        <item>
            <title>New crate version published: {name} v{num}</title>
            <link>{link}</link>
            <description>{_text(release.metadata["description"])}</description>
            <guid>{link}</guid>
            <pubDate>{date}</pubDate>
            <crates:name>{name}</crates:name>
            <crates:version>{num}</crates:version>
        </item>"""
        )
    return f"""\
<?xml version="1.0" encoding="utf-8"?>
<rss version="2.0" xmlns:atom="http://www.w3.org/2005/Atom" xmlns:crates="https://crates.io/">
    <channel>
        <title>crates.io: recent updates</title>
        <link>https://crates.io/</link>
        <description>Recent version publishes on the crates.io package registry</description>
        <language>en</language>
        <atom:link href="{site.static}/rss/updates.xml" rel="self" type="application/rss+xml"/>{"".join(items)}
    </channel>
</rss>
""".encode()


def _text(text: str) -> str:
    """CDATA where there is something to escape, as crates.io writes it."""
    return f"<![CDATA[{text.replace(']]>', ']]]]><![CDATA[>')}]]>" if escape(text, quote=False) != text else text
