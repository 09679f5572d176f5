"""Which outbound proxy cargo would ask a host through, after libcurl's rules. It reads no environment itself."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping


def proxy_of(scheme: str, environ: Mapping[str, str]) -> tuple[str, str]:
    """The proxy for URLs of a scheme, and the variable that says so; ("", "") for none.

    libcurl takes `http_proxy` in lower case only, because HTTP_PROXY is what a CGI program gets of a header `Proxy`.
    """
    names = ["http_proxy"] if scheme == "http" else ["https_proxy", "HTTPS_PROXY"]
    for name in (*names, "all_proxy", "ALL_PROXY"):
        if environ.get(name):
            return environ[name], name
    return "", ""


def exempt(host: str, environ: Mapping[str, str]) -> bool:
    """Does `no_proxy` take the host out? A name is meant with all below it, an address by itself or by its network."""
    host = host.strip("[]").lower().rstrip(".")
    told = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    return any(_takes(item, host) for item in re.split(r"[,\s]+", told.lower()) if item)


def _takes(item: str, host: str) -> bool:
    if item == "*":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        item = item.strip(".")
        return host == item or (bool(item) and host.endswith(f".{item}"))
    try:
        return address in ipaddress.ip_network(item.strip("[]"), strict=False)
    except ValueError:
        return False
