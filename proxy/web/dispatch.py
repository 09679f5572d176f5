"""From a request to the engine that answers it, by the kind of its row; our errors become answers here."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import assert_never

from proxy.engine.answers import Answers
from proxy.engine.downloads import Downloads
from proxy.engine.passing import Passage, Passing, head_downstream
from proxy.engine.transparent import Transparent
from proxy.errors import ClientGone, Error, Refused
from proxy.model import Host, Outcome, Verdict
from proxy.rules import addresses, endpoints, keys, paths, sparse, verdicts
from proxy.rules.endpoints import Endpoint, Kind, Override
from proxy.rules.routes import Match
from proxy.upstream.base import Answer
from proxy.web import answering
from proxy.web.messages import Client, Receive, Scope, Send
from proxy.web.request import REQUEST, Request

CONFIG = "/index/config.json"


@dataclass(frozen=True, slots=True)
class Site:
    """What this proxy is to its clients."""

    public_url: str
    hosts: Collection[str]
    origins: Mapping[Host, str]
    overrides: Mapping[str, Override]
    read_only: bool
    label: bytes = b""
    """The field in which clients say who they are to this proxy (`stats.client_header`): nobody else's business."""

    def base(self, request: Request) -> str:
        """How this client reaches this proxy. Raises `Refused` where that cannot be told."""
        return addresses.base(self.public_url, self.hosts, request.scheme, request.host)


class Dispatch:
    """The ASGI application of everything in the table, and of config.json."""

    def __init__(
        self, *, site: Site, answers: Answers, downloads: Downloads, passing: Passing, transparent: Transparent
    ) -> None:
        self._site = site
        self._answers = answers
        self._downloads = downloads
        self._passing = passing
        self._transparent = transparent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        client, request = Client(scope, receive, send), scope[REQUEST]
        row: Endpoint | None = None
        try:
            if not request.reading and self._site.read_only:
                raise Refused(f"this proxy only reads (access.read_only): {request.method} is refused", status=403)
            if request.path == CONFIG and request.reading:
                await self._config(client, request)
                return
            match = request.match()
            row = match.endpoint
            client.seen.endpoint, client.seen.crate = row.name, match.name
            await self._answer(client, request, match)
        except ClientGone:
            client.abort()
        except Error as error:
            if row is None or row.shielded:
                await client.error(error, verdicts.refused(error))
            else:
                client.seen.verdict = Verdict.PASS
                always = "" if row.kind is Kind.TRANSPARENT else verdicts.BYPASS
                await client.error(error, verdicts.refused(error, always), b"PASS")

    async def _answer(self, client: Client, request: Request, match: Match) -> None:
        match match.endpoint.kind:
            case Kind.JSON | Kind.INDEX | Kind.HTML:
                await self._read(client, request, match)
            case Kind.TARBALL:
                await self._download(client, request, match)
            case Kind.TRANSPARENT:
                await self._transparently(client, request, match)
            case Kind.PRIVATE:
                await self._passed(client, request, await self._passing.private(self._passage(client, request, match)))
            case Kind.CHANGE:
                await self._passed(client, request, await self._passing.change(self._passage(client, request, match)))
            case never:
                assert_never(never)

    def _passage(self, client: Client, request: Request, match: Match) -> Passage:
        target = paths.target(request.path, request.query)
        fields = tuple(item for item in request.headers if item[0] != self._site.label)
        if request.reading:  # a body of a read has no meaning (RFC 9110 section 9.3.1) and goes nowhere
            fields = tuple(item for item in fields if item[0] not in (b"content-length", b"content-type"))
            return Passage(match, request.method, target, fields, interim=client.interim)
        body = client.body() if request.has_body else None
        return Passage(match, request.method, target, fields, body, interim=client.interim)

    async def _config(self, client: Client, request: Request) -> None:
        await answering.made(client, request, sparse.config(self._site.base(request)))

    async def _read(self, client: Client, request: Request, match: Match) -> None:
        row = match.endpoint
        if match.path.startswith("/api/") and row.kind is Kind.HTML and request.accepts_json:
            await self._url(client, request, keys.readme_target(**_version(match)))
            return
        chosen = endpoints.policy(row, match.query, self._site.overrides.get(row.name))
        wish = request.wish
        read = keys.read(match, chosen, no_cache=wish.no_cache, only_if_cached=wish.only_if_cached)
        found = await self._answers.get(read)
        client.seen.verdict, client.seen.collapsed = found.verdict, found.collapsed
        base = self._site.base(request) if row.name in answering.OWN_ADDRESSES else None
        await answering.outcome(client, request, row, found, origins=self._site.origins, base=base)

    async def _download(self, client: Client, request: Request, match: Match) -> None:
        version = _version(match)
        if match.path.startswith("/api/") and request.accepts_json:
            await self._url(client, request, keys.tarball_target(**version))
            return
        sha256 = match.parameters.get("sha256")
        found = await self._downloads.get(
            version["crate"],
            version["version"],
            sha256,
            head=client.head_only,
            whole=request.wants_part,
            only_if_cached=request.wish.only_if_cached,
        )
        client.seen.verdict, client.seen.collapsed = found.verdict, found.collapsed
        await answering.download(client, request, found, self._downloads, by_checksum=sha256 is not None)

    async def _url(self, client: Client, request: Request, target: str) -> None:
        """Where crates.io would name its static host, name this proxy; nobody upstream need be asked for that."""
        client.seen.verdict = Verdict.HIT
        body = json.dumps({"url": f"{self._site.base(request)}/files{target}"}, separators=(",", ":")).encode()
        await answering.made(client, request, body, (b"vary", b"accept"))

    async def _transparently(self, client: Client, request: Request, match: Match) -> None:
        read = keys.read(match, endpoints.Policy())
        found = await self._transparent.get(read, self._passage(client, request, match), request.wish)
        if isinstance(found, Outcome):
            client.seen.verdict, client.seen.collapsed = found.verdict, found.collapsed
            fields = tuple(self._redirected(request, item) for item in found.entry.headers)
            found = replace(found, entry=replace(found.entry, headers=fields))
            await answering.outcome(client, request, match.endpoint, found, origins={}, base=None)
        else:
            await self._passed(client, request, found.answer, found.forwarded)

    async def _passed(self, client: Client, request: Request, answer: Answer, forwarded: str = verdicts.BYPASS) -> None:
        client.seen.verdict = Verdict.PASS
        try:
            head = head_downstream(answer.head)
            fields = tuple(self._redirected(request, item) for item in head.headers)
            fields = (*fields, (b"cache-status", verdicts.passed(forwarded)), (b"x-cache", b"PASS"))
            await client.streamed(head.status, fields, answer.body())
        finally:
            await answer.aclose()

    def _redirected(self, request: Request, item: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
        """A Location on one of the configured hosts leads here, where this proxy knows what it is called."""
        if item[0] != b"location":
            return item
        with contextlib.suppress(Refused):
            base = self._site.base(request)
            found = addresses.rewritten(item[1].decode("latin-1"), self._site.origins, base)
            return item if found is None else (b"location", found.encode("latin-1"))
        return item


def _version(match: Match) -> dict[str, str]:
    return {"crate": match.parameters["crate"], "version": match.parameters["version"]}
