"""What of the settings may change while a server runs, and what of them needs a restart.

It compares settings that others have read; it reads nothing itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from proxy import settings
from proxy.settings import Loaded, Settings

LIVE = (
    "access.",
    "log.",
    "stats.",
    "endpoints.",
    *(f"server.{name}" for name in ("public_url", "hosts", "tls_cert", "tls_key", "trusted_proxies", "drain_timeout")),
    *(f"server.{name}" for name in ("header_timeout", "body_min_rate", "write_timeout", "max_")),
)
"""How the keys begin that count at once. The rest is built into what has been opened: stores, connections, sockets."""
FIXED = ("endpoints.index.", "endpoints.download.")
"""Of these, those that count after a restart only: what fetches tarballs is built with them."""


def live(key: str) -> bool:
    return key.startswith(LIVE) and not key.startswith(FIXED)


@dataclass(frozen=True, slots=True)
class Reread:
    """in_force: what counts from now on. changed: the keys of what is another than before; waiting: of what has
    changed but needs a restart."""

    in_force: Loaded
    changed: list[str]
    waiting: list[str]

    @property
    def told(self) -> str:
        """For people."""
        said = f"the settings were read again: {', '.join(self.changed)} changed" if self.changed else ""
        later = f"to change {', '.join(self.waiting)} needs a restart" if self.waiting else ""
        return "; ".join(filter(None, (said, later))) or "the settings were read again: nothing changed"


def compared(before: Loaded, now: Loaded) -> Reread:
    """What of the settings as they are read `now` can be put in force where those of `before` are."""
    old, new = ({key: value for key, value, _ in settings.current(each)} for each in (before, now))
    different = sorted(key for key in {*old, *new} if old.get(key) != new.get(key))
    merged = _merged(before.settings, now.settings)
    origins = {**now.origins, **{key: before.origins[key] for key in before.origins if not live(key)}}
    return Reread(
        Loaded(merged, origins, now.notes),
        changed=[key for key in different if live(key)],
        waiting=[key for key in different if not live(key)],
    )


def _merged(before: Settings, now: Settings) -> Settings:
    server = before.server.model_copy(
        update={name: value for name, value in now.server if live(f"server.{name}")},
    )
    fixed = {name.split(".")[1] for name in FIXED}
    endpoints = {name: times for name, times in now.endpoints.items() if name not in fixed}
    endpoints |= {name: times for name, times in before.endpoints.items() if name in fixed}
    return before.model_copy(
        update={
            "server": server,
            "endpoints": endpoints,
            **{name: getattr(now, name) for name in ("access", "log", "stats")},
        }
    )
