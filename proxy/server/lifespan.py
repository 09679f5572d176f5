"""Runs the ASGI lifespan of the app, and remembers why it failed; who runs the server says so, once."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn import Config


class Lifespan:
    """In the place of uvicorn's own, which logs a failed start as a traceback and two lines more."""

    def __init__(self, config: Config) -> None:
        if not config.loaded:
            config.load()
        self.app = config.loaded_app
        self.state: dict[str, Any] = {}
        self.should_exit = False
        self.failure: BaseException | str | None = None
        self._orders: asyncio.Queue[dict[str, str]] = asyncio.Queue()
        self._answered = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def startup(self) -> None:
        self._task = asyncio.create_task(self._run())
        await self._order("lifespan.startup")
        self.should_exit = self.failure is not None

    async def shutdown(self) -> None:
        if self._task is not None and not self._task.done():
            await self._order("lifespan.shutdown")

    async def _order(self, kind: str) -> None:
        self._answered.clear()
        self._orders.put_nowait({"type": kind})
        await self._answered.wait()

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        try:
            await self.app(scope, self._orders.get, self._answer)
        except BaseException as error:
            self.failure = error  # The error itself says more than the message that an app makes of it.
        finally:
            self._answered.set()

    async def _answer(self, message: dict[str, str]) -> None:
        if message["type"].endswith(".failed"):
            self.failure = message.get("message") or message["type"]
        # The error that made it fail, if there is one, is raised by the app before the loop turns.
        asyncio.get_running_loop().call_soon(self._answered.set)
