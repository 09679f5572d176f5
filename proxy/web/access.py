"""Who asks, and whether this proxy answers: the client's address, and scheme and host as its front server saw them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from proxy.errors import Refused
from proxy.rules import clients
from proxy.rules.clients import Networks
from proxy.web.messages import Scope
from proxy.web.request import Request

PROBES = frozenset(("/healthz", "/readyz"))
"""Answered to everybody: whoever watches the process is seldom in the network of its clients, and learns nothing."""


@dataclass(frozen=True, slots=True)
class Access:
    """`trusted`: the front servers whose X-Forwarded-* is believed; `allowed`: who may use the proxy, empty for all."""

    trusted: Networks = Networks()
    allowed: Networks = Networks()

    def seen(self, request: Request, scope: Scope) -> Request:
        """The request as its client made it. Raises `Refused` (403) where the client may not use this proxy."""
        peer = scope.get("client")
        address = clients.address(peer[0]) if peer else None
        forwarded = b",".join([value for name, value in request.headers if name == b"x-forwarded-for"])
        client = clients.client(address, forwarded.decode("latin-1"), self.trusted)
        if request.path not in PROBES and not clients.admitted(client, self.allowed):
            raise Refused(f"{client} is in none of the networks that may use this proxy (access.networks)", status=403)
        if not clients.trusted_peer(address, self.trusted):
            return replace(request, client=client)
        scheme = (request.get(b"x-forwarded-proto") or b"").decode("latin-1").lower()
        host = request.get(b"x-forwarded-host") or request.host
        return replace(
            request, client=client, scheme=scheme if scheme in ("http", "https") else request.scheme, host=host
        )
