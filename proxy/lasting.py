"""Work that goes on as long as the process, whatever happens in it. It knows nothing of the work."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

PAUSE = 15.0
"""Seconds before it begins anew: so seldom that what fails each time does not fill the log."""

log = logging.getLogger("proxy")


async def lasting(what: str, work: Callable[[], Awaitable[object]]) -> None:
    """Do the work, which ends by itself if at all. What fails in it that nobody has foreseen is logged, and it begins
    anew: nobody waits for such work, so that its end would not be noticed."""
    while True:
        try:
            await work()
            return
        except Exception:
            log.exception("%s failed inside this proxy, and goes on in %g s", what, PAUSE)
        await asyncio.sleep(PAUSE)
