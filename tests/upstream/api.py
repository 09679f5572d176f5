"""The API host: which handler a request gets, and what surrounds its answer (headers, envelope, refusals).

Like crates.io's, its public answers carry no validator and, but for two routes, no Cache-Control.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from tests.upstream import accounts, changes, listings, reads
from tests.upstream.packages import NotKnown
from tests.upstream.registry import NotAllowed
from tests.upstream.routes import Call, Routes, Site, answer, found
from tests.upstream.wire import Headers, Refusal, Reply, Request

ROUTES: Routes = listings.ROUTES + changes.ROUTES + reads.ROUTES + accounts.ROUTES

NO_AGENT = (
    "We require that all requests include a `User-Agent` header.  To allow us to determine the impact your bot has "
    "on our service, we ask that your user agent actually identify your bot, and not just report the HTTP client "
    "library you're using.  Including contact information will also reduce the chance that we will need to take "
    "action against your bot."
)
BLOCKED = (
    "We are unable to process your request at this time. This usually means that you are in violation of our API "
    "data access policy (https://crates.io/data-access). Please email help@crates.io and provide the request id 1"
)

EVERYWHERE: Headers = (("strict-transport-security", "max-age=31536000; includeSubDomains"),)
READABLE: Headers = (("access-control-allow-origin", "*"),)
GUARDED: Headers = (
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "SAMEORIGIN"),
    ("x-xss-protection", "0"),
)


@dataclass
class IpLimit:
    """So many requests from one address in a window, then 429 for a while (crates.io's firewall: 600, 10 min, 5 min).

    Off unless a test sets `Upstream.ip_limit`.
    """

    clock: Callable[[], float]
    requests: int = 600
    window: float = 600.0
    penalty: float = 300.0
    seen: list[float] = field(default_factory=list)
    until: float = 0.0

    def exceeded(self) -> bool:
        now = self.clock()
        if now < self.until:
            return True
        self.seen = [at for at in self.seen if at > now - self.window] + [now]
        if len(self.seen) > self.requests:
            self.until = now + self.penalty
        return now < self.until


def respond(site: Site, request: Request, limit: IpLimit | None = None) -> Reply:
    """The answer of the API host to one request."""
    if limit is not None and limit.exceeded():
        return refused(429, "too many requests from the same IP")
    agent = request.header("user-agent")
    if (not agent or agent == "Amazon CloudFront") and not request.path.endswith("download"):
        return surrounded(request, refused(403, NO_AGENT), readable=False)
    if "curl" in agent or agent.startswith("python-requests"):
        return surrounded(request, refused(403, BLOCKED), readable=False)
    return surrounded(request, _handled(site, request))


def refused(status: int, detail: str, headers: Headers = ()) -> Reply:
    """The error envelope."""
    return answer({"errors": [{"detail": detail}]}, headers, status)


def _handled(site: Site, request: Request) -> Reply:
    methods = found(ROUTES, request.path)
    wanted = "GET" if request.method == "HEAD" and "HEAD" not in methods else request.method
    if not methods:
        return refused(404, "Not Found")
    if wanted not in methods:
        return refused(405, "Method Not Allowed", (("allow", ",".join(sorted(methods))),))
    handler, fields = methods[wanted]
    try:
        with site.registry.lock:
            return handler(Call(site, request, fields))
    except Refusal as refusal:
        return refused(refusal.status, refusal.detail, refusal.headers)
    except NotKnown as error:
        return refused(404, str(error))
    except (KeyError, TypeError, json.JSONDecodeError):
        return refused(400, "the body of the request is not what it has to be")
    except NotAllowed as error:
        return refused(error.status, str(error))


def surrounded(request: Request, reply: Reply, *, readable: bool = True) -> Reply:
    """Compression, and the fields that come with every answer or nearly."""
    vary = ", ".join(filter(None, ["accept-encoding", reply.header("vary")]))
    kept = tuple((name, value) for name, value in reply.headers if name != "vary")
    headers = kept + (("vary", vary),) + EVERYWHERE
    headers += READABLE if readable else ()
    headers += GUARDED if readable and reply.status in (200, 201, 204, 301, 303, 304, 307, 308) else ()
    if "gzip" in request.header("accept-encoding") and len(reply.body) > 32:
        packed = gzip.compress(reply.body, mtime=0)
        return replace(reply, headers=(*headers, ("content-encoding", "gzip")), body=packed, chunked=True)
    return replace(reply, headers=headers)
