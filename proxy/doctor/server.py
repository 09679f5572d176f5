"""A server, asked as its clients would: is it there, what does it say of itself, does cargo get an index from it."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import ssl
from dataclasses import dataclass
from urllib.parse import urlsplit

from proxy.rules.findings import Finding, fail, ok, warn

PATIENCE = 5.0
"""Seconds that it may take."""
_LARGEST = 1024 * 1024
"""Bytes of its answer that are read."""


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    text: str


async def findings(base: str, unix: str) -> list[Finding]:
    """Of the server at `base`, or on the Unix socket `unix`."""
    where = unix or base
    if not where:
        return [warn("server", "the settings do not tell where it is reached", "set server.public_url")]
    try:
        alive = await _asked(base, unix, "/healthz")
        if (alive.status, alive.text) != (200, "ok\n"):
            return [fail("server", f"something else answers at {where}: {alive.status} to /healthz")]
        ready = await _asked(base, unix, "/readyz")
    except (OSError, http.client.HTTPException) as error:
        return [warn("server", f"none answers at {where} ({_why(error)})", "start it with `crates-proxy serve`")]
    told = [_line(line) for line in ready.text.splitlines()]
    serves = f"{where} serves"
    return [ok("server", serves) if ready.status == 200 else fail("server", f"{where} is not ready"), *told]


async def index(url: str) -> list[Finding]:
    """What answers where cargo looks for the index."""
    what = "cargo index"
    parts = urlsplit(url)
    try:
        answer = await _asked(f"{parts.scheme}://{parts.netloc}", "", f"{parts.path}config.json", trusting=False)
    except ssl.SSLCertVerificationError as error:
        detail = f"{url}: its certificate is not trusted here ({error.verify_message})"
        return [warn(what, detail, "cargo needs it too: http.cainfo, or the system's certificates")]
    except (OSError, http.client.HTTPException) as error:
        return [fail(what, f"nobody answers at {url} ({_why(error)})", "start the proxy, or correct the address")]
    if answer.status != 200:
        return [fail(what, f"{url}config.json gets {answer.status}: {_detail(answer.text)}")]
    try:
        told = json.loads(answer.text)
        dl = told["dl"] if isinstance(told, dict) else ""
    except (ValueError, KeyError):
        dl = ""
    if "/files/crates/" not in str(dl):
        return [warn(what, f"{url} is an index, but not this proxy's")]
    return [ok(what, f"{url} is this proxy's; tarballs come from {str(dl).partition('/files/')[0]}")]


def _line(line: str) -> Finding:
    """A line of /readyz."""
    name, _, rest = line.partition(": ")
    state, _, detail = rest.partition(" ")
    make = {"ok": ok, "degraded": warn}.get(state, fail)
    return make(f"server {name}", detail or state)


async def _asked(base: str, unix: str, path: str, *, trusting: bool = True) -> _Answer:
    return await asyncio.to_thread(_ask, base, unix, path, trusting)


def _ask(base: str, unix: str, path: str, trusting: bool) -> _Answer:
    """It blocks. `trusting`: whoever answers there is asked about its health only, by whatever certificate."""
    parts = urlsplit(base or "http://localhost")
    host = parts.hostname or ""
    connection: http.client.HTTPConnection
    if parts.scheme == "https" and not unix:
        context = ssl.create_default_context()
        if trusting:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection(host, parts.port, timeout=PATIENCE, context=context)
    else:
        connection = http.client.HTTPConnection(host, parts.port, timeout=PATIENCE)
    try:
        if unix:
            connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.sock.settimeout(PATIENCE)
            connection.sock.connect(unix)
        connection.request("GET", parts.path.rstrip("/") + path if trusting else path)
        response = connection.getresponse()
        return _Answer(response.status, response.read(_LARGEST).decode("utf-8", "replace"))
    finally:
        connection.close()


def _detail(text: str) -> str:
    """What a refusal says, as crates.io's own form has it."""
    try:
        return str(json.loads(text)["errors"][0]["detail"])
    except (ValueError, KeyError, IndexError, TypeError):
        return " ".join(text.split())[:200] or "without a word"


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
