"""URLs of this proxy: what clients are told instead of the addresses that would lead around it."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Collection, Mapping

from proxy.errors import Refused
from proxy.model import Host

# RFC 3986 section 3.2.2, on the lower-case value; no user, no zone, nothing before or after.
_HOST = re.compile(r"(?:\[(?P<v6>[0-9a-f:.]+)\]|(?P<name>[0-9a-z._-]+))(?::(?P<port>[0-9]{0,5}))?")

_UNDER = {Host.API: "", Host.INDEX: "/index", Host.STATIC: "/files"}


def base(public_url: str, hosts: Collection[str], scheme: str, host: bytes) -> str:
    """How clients reach this proxy: the setting, else the request's own scheme and Host.

    A Host that anyone may write must not end up in an answer, so it has to be a literal address, localhost or
    one of `hosts`. Raises `Refused` (400) otherwise.
    """
    if public_url:
        return public_url
    text = host.decode("ascii", "replace").lower()
    if not _known(text, hosts):
        raise Refused(
            f"this proxy does not know itself as `{text[:100]}`: set server.public_url to the URL that clients use, "
            "or list the name in server.hosts"
        )
    return f"{scheme}://{text}"


def rewritten(url: str, origins: Mapping[Host, str], base_url: str) -> str | None:
    """The URL of this proxy for one of a configured host; None for a URL that is none of theirs."""
    for host, origin in origins.items():
        if url == origin or url.startswith(origin + "/"):
            return base_url + _UNDER[host] + url[len(origin) :]
    return None


def without_cdn(body: bytes, origins: Mapping[Host, str], base_url: str) -> bytes:
    """`/site_metadata` with its `cdn_base` leading here."""
    content = json.loads(body)
    found = rewritten(str(content.get("cdn_base")), origins, base_url) if isinstance(content, dict) else None
    if found is None:
        return body
    return json.dumps({**content, "cdn_base": found}, separators=(",", ":")).encode()


def _known(host: str, hosts: Collection[str]) -> bool:
    found = _HOST.fullmatch(host)
    if found is None or int(found["port"] or 0) > 65535:
        return False
    if found["name"] == "localhost" or found["name"] in hosts or host in hosts:
        return True
    try:
        ipaddress.IPv4Address(found["name"]) if found["name"] else ipaddress.IPv6Address(found["v6"])
    except ValueError:
        return False
    return True
