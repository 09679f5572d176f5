"""The routes for operators: is it alive, is it ready, and (with the admin token) purge."""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from proxy.engine.purging import Purging
from proxy.errors import Error, Refused
from proxy.metrics.telling import Telling
from proxy.model import Headers, Health, Selection, State
from proxy.rules import headers, names
from proxy.rules.endpoints import BY_NAME
from proxy.web.messages import Client, Receive, Scope, Send, error_body

_TEXT: Headers = ((b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store"))
_JSON: Headers = ((b"content-type", b"application/json"), (b"cache-control", b"no-store"))
_LARGEST = 64 * 1024
"""Bytes of an order; one has some hundreds."""


class Healthz:
    """200 while the process can answer; touches nothing else."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await Client(scope, receive, send).whole(200, _TEXT, b"ok\n")


class Readyz:
    """One line a component. A dead Redis or upstream is degraded and still 200."""

    def __init__(self, checks: Callable[[], Sequence[Awaitable[Health]]], draining: Callable[[], bool]) -> None:
        self._checks = checks
        self._draining = draining

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        healths = list(await asyncio.gather(*self._checks()))
        if self._draining():
            healths.insert(0, Health("server", State.FAILED, "draining: it finishes what is under way and stops"))
        ready = not self._draining() and any(health.state is not State.FAILED for health in healths)
        text = "".join(f"{each.name}: {each.state} {each.detail}".rstrip() + "\n" for each in healths)
        await Client(scope, receive, send).whole(200 if ready else 503, _TEXT, text.encode())


class Metrics:
    """The metrics of the whole process group, for Prometheus."""

    def __init__(self, telling: Telling) -> None:
        self._telling = telling

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        accept = headers.value(tuple(scope["headers"]), b"accept") or b""
        text, content_type = await self._telling.metrics(accept.decode("latin-1"))
        fields = ((b"content-type", content_type.encode("ascii")), (b"cache-control", b"no-store"))
        await Client(scope, receive, send).whole(200, fields, text)


class Stats:
    """What was saved and what is stored, as `crates-proxy stats --json` prints it."""

    def __init__(self, telling: Telling) -> None:
        self._telling = telling

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        stats = await self._telling.stats()
        await Client(scope, receive, send).whole(200, _JSON, json.dumps(stats).encode())


class Purge:
    """POST /-/purge with `{"crate" | "endpoint" | "all", "soft"}` -> `{"purged": n}`."""

    def __init__(self, purging: Purging, *, admin_token: str) -> None:
        self._purging = purging
        self._admin_token = admin_token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = Client(scope, receive, send)
        try:
            self._admit(client)
            selection, soft = parsed(await _body(client))
        except Error as error:
            fields = (*_JSON, (b"www-authenticate", b"Bearer")) if error.status == 401 else _JSON
            fields = (*fields, (b"allow", b"POST")) if error.status == 405 else fields
            await client.whole(error.status, fields, error_body(error.detail))
            return
        purged = await self._purging.purge(selection, soft=soft)
        await client.whole(200, _JSON, json.dumps({"purged": purged}).encode())

    def _admit(self, client: Client) -> None:
        if client.scope["method"] != "POST":
            raise Refused("purging is a POST", status=405)
        if not self._admin_token:
            raise Refused("purging over HTTP needs access.admin_token to be set", status=403)
        scheme, _, token = (headers.value(client.scope["headers"], b"authorization") or b"").partition(b" ")
        if scheme.lower() != b"bearer" or not hmac.compare_digest(token.strip(), self._admin_token):
            raise Refused("this needs `Authorization: Bearer` with the access.admin_token of this proxy", status=401)


def parsed(body: bytes) -> tuple[Selection, bool]:
    """What to purge, and whether softly. Raises `Refused` (400) that says what is allowed."""
    try:
        asked: Any = json.loads(body)
    except (ValueError, RecursionError):
        raise Refused('the body must be JSON, such as {"crate": "serde"}') from None
    match asked:
        case {"crate": str(crate), **rest} if names.is_name(crate):
            selection = Selection(crate=names.folded(crate))
        case {"endpoint": str(endpoint), **rest} if endpoint in BY_NAME:
            selection = Selection(endpoint=endpoint)
        case {"all": True, **rest}:
            selection = Selection()
        case _:
            raise Refused('name what to purge: {"crate": NAME}, {"endpoint": NAME} or {"all": true}')
    soft = rest.pop("soft", False)
    if rest or not isinstance(soft, bool):
        raise Refused('beside "crate", "endpoint" or "all" there is only "soft", true or false')
    return selection, soft


async def _body(client: Client) -> bytes:
    body = b""
    async for piece in client.body():
        body += piece
        if len(body) > _LARGEST:
            raise Refused(f"the body may have {_LARGEST} bytes", status=413)
    return body
