"""Whether a command has reached all that is stored: what a store fails at is absent, and nothing else tells it."""

from __future__ import annotations

import asyncio

from proxy import wiring
from proxy.errors import Error
from proxy.model import State


async def everything(proxy: wiring.Proxy, otherwise: str) -> None:
    """Raises `Error` where a store, or the fleet, is not well: `otherwise` says what that means."""
    failed = [health for health in await asyncio.gather(*proxy.stores()) if health.state is not State.OK]
    if failed:
        raise Error(f"{otherwise}: {'; '.join(f'{health.name}: {health.detail}' for health in failed)}")
