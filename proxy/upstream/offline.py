"""The upstream of a proxy that may not ask anybody (`upstream.offline`)."""

from __future__ import annotations

from proxy.errors import Offline
from proxy.rules import secrets
from proxy.upstream.base import Answer, Ask


class OfflineUpstream:
    async def send(self, ask: Ask) -> Answer:
        raise Offline(
            f"this proxy is offline (upstream.offline) and does not have {secrets.text(ask.target)}: "
            "fetch it once while it is online, for instance with `crates-proxy warm`"
        )

    async def aclose(self) -> None:
        return None
