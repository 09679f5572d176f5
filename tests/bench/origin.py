"""The origin of a run: the answers of the small crates.io, prepared, from a server that costs next to nothing.

    python -m tests.bench.origin

The small crates.io itself makes each answer anew, which at thousands of requests a second would be what is
measured. The first line on standard output names the ports of the three hosts. A run steers it on the port of
the API: `/-/delay/MILLISECONDS` puts it so far away, `/-/asked` tells how many requests each host got.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
import time
from dataclasses import dataclass
from functools import partial

import uvloop

from tests.bench import objects
from tests.upstream import api, index, static
from tests.upstream.routes import Site
from tests.upstream.server import HOSTS
from tests.upstream.wire import Reply, Request, http_date, laid_out

_COLD = re.compile(rb"cold-\d{8}")
_END = b"\r\n\r\n"
_AGENT = (("user-agent", "bench"),)


@dataclass(frozen=True, slots=True)
class Prepared:
    """An answer but for its date: head and body, and the head of the 304 where upstream has a validator."""

    head: bytes
    body: bytes
    etag: bytes
    unchanged: bytes


class Origin:
    def __init__(self, site: Site) -> None:
        self.delay = 0.0
        self.asked = dict.fromkeys(HOSTS, 0)
        self._site = site
        self._prepared: dict[tuple[str, bytes], Prepared] = {}

    def answer(self, host: str, head: bytes) -> bytes:
        target = head.split(b" ", 2)[1]
        if target.startswith(b"/-/"):
            return self._steered(target)
        self.asked[host] += 1
        cold = _COLD.search(target)
        known = target if cold is None else _COLD.sub(objects.COLD.encode(), target)
        prepared = self._prepared.get((host, known))
        if prepared is None:
            prepared = self._prepared[host, known] = self._made(host, known.decode())
        date = b"\r\ndate: " + http_date(time.time()).encode() + _END
        if prepared.etag and prepared.etag in head:
            return prepared.unchanged + date
        body = prepared.body if cold is None else prepared.body.replace(objects.COLD.encode(), cold[0])
        return prepared.head + date + body

    def _made(self, host: str, target: str) -> Prepared:
        reply = self._reply(Request(host, "GET", target, _AGENT))
        head, _, body = laid_out(reply).partition(_END)
        etag = reply.header("etag")
        if not etag:
            return Prepared(head, body, b"", b"")
        again = self._reply(Request(host, "GET", target, (*_AGENT, ("if-none-match", etag))))
        return Prepared(head, body, etag.encode(), laid_out(again).removesuffix(_END))

    def _reply(self, request: Request) -> Reply:
        match request.host:
            case "api":
                return api.respond(self._site, request, None)
            case "index":
                return index.respond(self._site, request)
            case _:
                return static.respond(self._site, request)

    def _steered(self, target: bytes) -> bytes:
        if target.startswith(b"/-/delay/"):
            self.delay = int(target.rpartition(b"/")[2]) / 1000
        return laid_out(Reply(200, (), json.dumps(self.asked).encode()))


class Conversation(asyncio.Protocol):
    """One connection; what it asks has no body."""

    def __init__(self, origin: Origin, host: str) -> None:
        self._origin = origin
        self._host = host
        self._left = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        *heads, self._left = (self._left + data).split(_END)
        for head in heads:
            answer = self._origin.answer(self._host, head)
            last = b"HTTP/1.0\r\n" in head or b"onnection: close" in head
            if self._origin.delay:
                asyncio.get_running_loop().call_later(self._origin.delay, self._say, answer, last)
            else:
                self._say(answer, last)

    def _say(self, answer: bytes, last: bool) -> None:
        if not self._transport.is_closing():
            self._transport.write(answer)
            if last:
                self._transport.close()


async def serve(huge: bool) -> None:
    loop = asyncio.get_running_loop()
    origin = Origin(Site(objects.registry(huge=huge), "http://api", "http://index", "http://static"))
    servers = [
        await loop.create_server(partial(Conversation, origin, host), "127.0.0.1", 0, backlog=2048) for host in HOSTS
    ]
    print(*(server.sockets[0].getsockname()[1] for server in servers), flush=True)
    await loop.run_in_executor(None, sys.stdin.read)  # whoever started it holds the other end


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.origin", description=__doc__)
    parser.add_argument("--huge", action="store_true", help="with a tarball of 60 MiB")
    uvloop.run(serve(parser.parse_args().huge))


if __name__ == "__main__":
    main()
