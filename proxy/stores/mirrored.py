"""Two stores that hold the same values. It knows neither of them.

For index files: the first is shared, the second is always there. Both are read, for either may have been out of reach
when the other was written: the first has what other members put, the second what this one put meanwhile. What only
one has is not written to the other here; whoever fetches or revalidates a value puts it anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from proxy.model import Health, Selection, State
from proxy.stores.base import Store


class Mirrored:
    """A `Store` that reads both, and changes both. `written`: the time that a value tells of itself."""

    def __init__(self, first: Store, second: Store, written: Callable[[bytes], float]) -> None:
        self._first = first
        self._second = second
        self._written = written

    async def get(self, key: str) -> bytes | None:
        first, second = await asyncio.gather(self._first.get(key), self._second.get(key))
        if first is None or second is None or first == second:
            return second if first is None else first
        return second if self._written(second) > self._written(first) else first

    async def put(self, key: str, value: bytes, *, tag: str, keep: float | None) -> None:
        await asyncio.gather(
            self._first.put(key, value, tag=tag, keep=keep),
            self._second.put(key, value, tag=tag, keep=keep),
        )

    async def delete(self, key: str) -> None:
        await asyncio.gather(self._first.delete(key), self._second.delete(key))

    async def purge(self, selection: Selection) -> int:
        """How many values that were: the larger count, because most of them are in both."""
        return max(await asyncio.gather(self._first.purge(selection), self._second.purge(selection)))

    async def count(self, selection: Selection) -> int:
        return max(await asyncio.gather(self._first.count(selection), self._second.count(selection)))

    async def keys(self) -> AsyncIterator[str]:
        """Those of both, merged."""
        sources = (aiter(self._first.keys()), aiter(self._second.keys()))
        heads = [await anext(source, None) for source in sources]
        while left := [key for key in heads if key is not None]:
            least = min(left)
            yield least
            for number, source in enumerate(sources):
                if heads[number] == least:
                    heads[number] = await anext(source, None)

    async def health(self) -> Health:
        """Failed only where both are; degraded as soon as one is not well."""
        both = await asyncio.gather(self._first.health(), self._second.health())
        states = {health.state for health in both}
        state = states.pop() if len(states) == 1 else State.DEGRADED
        detail = "; ".join(f"{health.name}: {health.detail}" for health in both if health.state != State.OK)
        return Health("+".join(health.name for health in both), state, detail)

    async def aclose(self) -> None:
        await asyncio.gather(self._first.aclose(), self._second.aclose())
