"""The kinds of settings that name a host: names, addresses and URLs. Nothing is looked up."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

from proxy.settings_values import Kind, Wrong, several

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_MAX_HOST_NAME = 253


def _host(value: object) -> str:
    """A name or address, IPv6 without brackets."""
    if not isinstance(value, str) or not value.isascii():
        raise ValueError
    if ":" in value:
        bracketed = value.startswith("[") and value.endswith("]")
        return str(ipaddress.IPv6Address(value[1:-1] if bracketed else value))
    if value.rpartition(".")[2].isdigit():
        return str(ipaddress.IPv4Address(value))
    if len(value) > _MAX_HOST_NAME or not _HOST_NAME.fullmatch(value.lower()):
        raise ValueError
    return value.lower()


def _split(value: object) -> SplitResult:
    if not isinstance(value, str) or not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError
    return urlsplit(value)


def _authority(parts: SplitResult) -> str:
    host = _host(parts.hostname)
    if parts.port == 0:
        raise ValueError
    port = "" if parts.port is None else f":{parts.port}"
    return f"[{host}]{port}" if ":" in host else f"{host}{port}"


def _web(value: object) -> tuple[SplitResult, str]:
    parts = _split(value)
    if parts.scheme not in ("http", "https") or "?" in str(value) or "#" in str(value):
        raise ValueError
    return parts, _authority(parts)


def _origin(value: object) -> str:
    parts, authority = _web(value)
    if "@" in parts.netloc:
        raise Wrong("must carry no user or password")
    if parts.path.strip("/"):
        raise ValueError
    return f"{parts.scheme}://{authority}"


def _public_url(value: object) -> str:
    if value == "":
        return ""
    parts, authority = _web(value)
    if "@" in parts.netloc:
        raise Wrong("must carry no user or password")
    # Cargo would take braces for its own markers.
    if not re.fullmatch(r"[A-Za-z0-9/._~-]*", parts.path):
        raise ValueError
    return f"{parts.scheme}://{authority}{parts.path.rstrip('/')}"


def _proxy_url(value: object) -> str:
    if value == "":
        return ""
    parts, authority = _web(value)
    if parts.path.strip("/"):
        raise ValueError
    user, at, _ = parts.netloc.rpartition("@")
    return f"{parts.scheme}://{user}{at}{authority}"


def _redis_url(value: object) -> str:
    if value == "":
        return ""
    parts = _split(value)
    match parts.scheme:
        case "redis" | "rediss":
            _authority(parts)
            if not re.fullmatch(r"/?|/[0-9]{1,5}", parts.path):
                raise ValueError
        case "unix":
            if parts.hostname or not parts.path.strip("/"):
                raise ValueError
        case "redis+sentinel" | "redis+cluster":
            raise Wrong(f"{parts.scheme}:// is not supported yet; redis://, rediss:// and unix:// are")
        case _:
            raise ValueError
    return str(value)


_PROXY = 'http://[USER:PASSWORD@]HOST[:PORT], the same with https://, or "" for none'
_REDIS = 'redis://HOST[:PORT][/DB], rediss://HOST[:PORT][/DB], unix:///PATH, or "" for none'
HOST = Kind("a host name or an IP address", _host)
HOSTS = several(HOST, 'a list of host names without scheme or port, such as ["crates.example.org"]')
ORIGIN = Kind("http://HOST[:PORT] or https://HOST[:PORT], without path or query", _origin)
PUBLIC_URL = Kind('an http:// or https:// URL without query, or "" for none', _public_url)
PROXY_URL = Kind(_PROXY, _proxy_url, url_with_password=True)
REDIS_URL = Kind(_REDIS, _redis_url, url_with_password=True)
