"""One request upstream for a read that is answered from memory whole: asked, read to its end, decoded, judged.

It knows nothing of what is stored, except the validators that it is given.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from proxy.engine.whole import bounded
from proxy.errors import Declined, Faulty, UpstreamError
from proxy.model import Head, Headers
from proxy.rules import bodies, codings, directives
from proxy.rules.endpoints import Kind
from proxy.rules.keys import Read
from proxy.upstream.base import Ask, Need, Upstream

LARGEST = 64 * 1024 * 1024
"""Bytes of JSON or of an index file, unpacked, where an endless body ends. A crate with 23,000 features had a page of
20 MB and an index file of 11 MB in 2023, after nine versions (https://github.com/rust-lang/crates.io/issues/7269)."""

_OUR_REFUSALS = (400, 403, 404, 405)  # upstream's statuses that are passed on in its own words


@dataclass(frozen=True, slots=True)
class Judged:
    """What upstream says, without its coding; `coded`: the body in gzip where it came so. Its status is 200 or 404, or
    304 without a body."""

    head: Head
    body: bytes
    coded: bytes | None = None


async def asked(
    upstream: Upstream,
    read: Read,
    conditions: Headers,
    begun: Callable[[], None],
    turn: Callable[[], Awaitable[None]],
    need: Need,
    clock: Callable[[], float],
) -> Judged:
    """Send a read upstream, with `conditions` on what is stored, and judge what comes. `begun` is called when the head
    is there; `turn` waits for its turn when all of a body is. Raises what `upstream.send` raises, and what `judged`
    does; 304 only where there were conditions."""
    accept = b"application/json" if read.endpoint.kind is Kind.JSON else b"*/*"
    fields = ((b"accept", accept), (b"accept-encoding", b"gzip"), *conditions)
    row = read.endpoint
    answer = await upstream.send(Ask(row.host, "GET", read.target, fields, need=need, endpoint=row.name))
    begun()
    try:
        body = await bounded(answer, LARGEST, f"the answer to {read.target}")
        if answer.head.status == 304 and conditions:
            return Judged(answer.head, b"")
        await turn()
        return judged(read, answer.head, body, clock())
    except Faulty:
        answer.distrust()
        raise
    finally:
        await answer.aclose()


def judged(read: Read, head: Head, body: bytes, now: float) -> Judged:
    """An answer that is believed; its status is 200 or 404.

    Raises `Declined` or `Faulty` for any other status, `Faulty` for a 200 that is none and for a body that is not
    whole, would become too large, or is in a coding that cannot be read.
    """
    head, body, coded = _decoded(read, head, body)
    if head.status == 200:
        fault = bodies.fault(read.endpoint.kind, head.get(b"content-type"), body, read.tag)
        if fault is not None:
            raise Faulty(f"{read.endpoint.host.value} host of crates.io answered {read.target} wrongly: {fault}")
    elif not _missing(read, head):
        raise refusal(read, head, body, now)
    else:
        head = replace(head, status=404)
    return Judged(head, body, coded)


def refusal(read: Read, head: Head, body: bytes, now: float) -> UpstreamError:
    """The error that an upstream status other than 200 and 404 means, in upstream's own words where it has some."""
    words = bodies.reason(body)
    error: UpstreamError
    after = directives.retry_after(head.get(b"retry-after"), now)
    if head.status in _OUR_REFUSALS or head.status == 429:
        detail = words or f"crates.io refused {read.target} with status {head.status}"
        error = Declined(detail, status=head.status, retry_after=after)
    else:
        said = f" ({words})" if words else ""
        detail = f"crates.io answered {read.target} with status {head.status}{said}; there is no copy to serve"
        error = Faulty(detail, retry_after=after)
    error.answered = head.status
    return error


def _decoded(read: Read, head: Head, body: bytes) -> tuple[Head, bytes, bytes | None]:
    """An answer without its coding, and the body in gzip where it came so. Raises `Faulty` for another coding, for
    a body that is not whole, and for one that would become too large."""
    coding = head.get(b"content-encoding", b"identity").lower()
    if coding == b"identity":
        return head, body, None
    plain = codings.decoded(body, LARGEST) if coding in (codings.GZIP, b"x-gzip") else None
    if plain is None:
        raise Faulty(f"crates.io answered {read.target} in a coding that cannot be read; try again")
    fields = tuple(item for item in head.headers if item[0] not in (b"content-encoding", b"content-length"))
    return replace(head, headers=fields), plain, body


def _missing(read: Read, head: Head) -> bool:
    """Whether upstream says that it has no such object. The static host says 403 for that: its bucket may not
    be listed."""
    return head.status == 404 or (head.status == 403 and read.endpoint.kind is Kind.HTML)
