"""Redis: does it answer, and does it keep what it is given, and let go of the right things."""

from __future__ import annotations

from collections.abc import Iterator

from proxy import report
from proxy.errors import Error
from proxy.rules.findings import Finding, fail, ok, warn
from proxy.stores import redis_facts
from proxy.stores.redis_facts import Facts

SLOW = 0.02
"""Seconds of an answer: each hit that is not in memory costs one."""
_SET = "redis-cli CONFIG SET maxmemory-policy allkeys-lru"


async def findings(url: str) -> list[Finding]:
    try:
        return [*_judged(await redis_facts.facts(url))]
    except Error as error:
        detail = f"{error.detail}; each machine goes on by itself meanwhile"
        return [fail("redis", detail, "see redis.url, and whether the server runs and lets this machine in")]


def _judged(facts: Facts) -> Iterator[Finding]:
    answered = f"{facts.where}: {facts.version}, answers in {facts.seconds * 1000:.1f} ms"
    if facts.seconds > SLOW:
        yield warn("redis", answered, "put it nearer: its answers are waited for")
    else:
        yield ok("redis", answered)
    used = f"{report.size(facts.used_bytes)} used of {report.size(facts.max_bytes) if facts.max_bytes else 'no limit'}"
    told = f"maxmemory-policy {facts.policy}, {used}, {facts.evicted} keys evicted so far"
    if not facts.max_bytes:
        yield warn("redis memory", told, "set maxmemory: else it grows until the machine has no more")
    elif not facts.policy.startswith("allkeys-"):
        why = "full, it refuses what is new" if facts.policy == "noeviction" else "what has no expiry is never evicted"
        yield warn("redis memory", f"{told}: {why}", _SET)
    else:
        yield ok("redis memory", told)
    match facts.persistent:
        case True:
            yield ok("redis persistence", "what it holds outlives its restart")
        case False:
            yield ok("redis persistence", "none: JSON is fetched anew when it restarts; index files are on disk too")
        case None:
            yield ok("redis persistence", "the server does not tell")
