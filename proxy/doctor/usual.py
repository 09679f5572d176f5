"""The mistakes that settings usually have, each right by itself and wrong here. Nothing is looked up."""

from __future__ import annotations

from collections.abc import Iterator

from proxy import starting
from proxy.rules.findings import Finding, ok, warn
from proxy.settings import Loaded
from proxy.tracing.wanted import Wish


def findings(loaded: Loaded, traces: Wish, cores: int, disk: int) -> list[Finding]:
    """`disk`: bytes of the disk that `cache.dir` is on."""
    found = [*_wrong(loaded, traces, cores, disk)]
    return found or [ok("settings", "nothing unusual")]


def _wrong(loaded: Loaded, traces: Wish, cores: int, disk: int) -> Iterator[Finding]:
    given = loaded.settings
    for warning in starting.warnings(loaded, traces):
        detail, _, todo = warning.partition("; ")
        yield warn("settings", detail, todo)
    if given.server.workers > cores:
        detail = f"server.workers = {given.server.workers}, and there are {cores} cores"
        yield warn("settings", detail, "more workers than cores only take memory")
    if given.cache.max_size > disk:
        detail = f"cache.max_size = {given.cache.max_size}, and the whole disk has {disk} bytes"
        yield warn("settings", detail, "cache.min_free will stop it first; set it below the size of the disk")
    if given.server.public_url.startswith("https:") and not given.server.tls_cert and not given.server.trusted_proxies:
        detail = "server.public_url is https and served by somebody in front, whom server.trusted_proxies does not name"
        yield warn("settings", detail, "name it: else all clients have its address in logs and limits")
    if given.access.networks and given.server.public_url and not given.server.trusted_proxies:
        detail = "access.networks judges by the address of who connects, which behind a front server is that one's"
        yield warn("settings", detail, "where there is one, name it in server.trusted_proxies")
