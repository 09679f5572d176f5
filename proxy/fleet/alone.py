"""A fleet of one: nobody else shares anything with this process."""

from __future__ import annotations

from proxy.fleet.base import Listener
from proxy.model import Health, Invalidation, State


class Alone:
    def __init__(self, hear: Listener) -> None:
        self._hear = hear

    async def announce(self, invalidation: Invalidation) -> None:
        self._hear(invalidation)

    async def health(self) -> Health:
        return Health("fleet", State.OK, "alone")

    async def aclose(self) -> None:
        pass
