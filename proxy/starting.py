"""What a server says when it starts: what is in force, and what its operator should do about it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from proxy import __version__, settings
from proxy.settings import Loaded
from proxy.tracing.wanted import Wish

CONTACT_MISSING = (
    "upstream.contact is empty: crates.io asks whoever runs a tool against it for an address; "
    'set it, for instance upstream.contact = "you@example.org"'
)


def in_force(loaded: Loaded, directory: Path, traces: Wish) -> dict[str, object]:
    """The settings that matter most, and whatever is not as by default; nothing secret."""
    given = loaded.settings
    shown = {key: value for key, value, _ in settings.rows(loaded)}
    changed = [f"{key} ({origin})" for key, _, origin in settings.rows(loaded) if origin != "default"]
    return {
        "version": __version__,
        "workers": given.server.workers,
        "cache": str(directory),
        "max_size": shown["cache.max_size"].strip('"'),
        "json": "redis" if given.redis.url else "disk",
        "redis": shown["redis.url"].strip('"') or "none",
        "upstream": "offline" if given.upstream.offline else given.upstream.api,
        "contact": given.upstream.contact or "none",
        "read_only": given.access.read_only,
        "admin_token": "set" if given.access.admin_token else "none",
        "access_log": given.log.access,
        "traces": "otlp" if traces.on else "none",
        "changed": ", ".join(changed) or "nothing",
    }


def warnings(loaded: Loaded, traces: Wish) -> Iterator[str]:
    """What is not right, each with what to do."""
    given = loaded.settings
    yield from loaded.notes
    if traces.problem:
        yield traces.problem
    if not given.upstream.contact and not given.upstream.offline:
        yield CONTACT_MISSING
    everywhere = given.server.host in ("0.0.0.0", "::")
    if everywhere and not given.server.public_url and not given.server.hosts and not given.server.socket:
        yield (
            "server.public_url and server.hosts are empty: clients reach this proxy by its IP address only, any "
            'other name is refused; set for instance server.public_url = "http://crates.example.org:8080"'
        )
