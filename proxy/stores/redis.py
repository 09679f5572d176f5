"""The shared store: values in a Redis or Valkey server, for replicas on several machines.

It knows nothing of entries or freshness. A server that is dead, slow or full is absent: after a failure it is not even
asked for half a second, after more for five.

    PREFIXvalue1:KEY    one value, framed
    PREFIXtag1:CRATE    the set of the keys of one crate

Nothing outside of these two families is ever touched.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from proxy.model import Health, Selection, State
from proxy.rules.breaker import Breaker
from proxy.stores import connection, envelope, redis_keys, selecting
from proxy.stores.base import Observer, Shelved, Volume
from proxy.stores.faults import Faults
from proxy.stores.gathered import Gathered

T = TypeVar("T")
Clock = Callable[[], float]
_Frame = bytes | str | ResponseError | None  # what the server says of one key

MAX_VALUE = 8 * 2**20
"""Larger values are not stored: one of them would hold its connection, and Redis itself, for too long."""

# The set outlives what it lists, of which the longest is kept for a year; each put begins it anew.
_TAG_KEEP = 400 * 86400
# Somebody looks for a name: the server has no order, and is asked for all of them, but not for longer.
_LOOKING_SECONDS = 1.0
_REACHING = "reaching the server"
_DOUBT = 0.5
"""Seconds for which a server is left alone that did not answer once: nobody waits for it twice."""
_FAULTS = (RedisError, OSError, UnicodeError)


class RedisStore:
    """A `Store`. Others may use its `client`, under keys of their own, and share its `breaker`; `aclose` closes it."""

    def __init__(
        self, client: Redis, prefix: str, name: str, observer: Observer, clock: Clock, breaker: Breaker | None = None
    ) -> None:
        self.client = client
        self._values = f"{prefix}value{envelope.VERSION}:"
        self._tags = f"{prefix}tag{envelope.VERSION}:"
        self._name = name
        self._faults = Faults(name, observer)
        self.breaker = breaker or Breaker(failures=1, first=_DOUBT)
        self._clock = clock
        self._slots = asyncio.Semaphore(connection.CONNECTIONS // 2)
        self._flying: set[asyncio.Task[object]] = set()
        self._reads = Gathered(self._gotten)
        self.errors = 0  # commands that the server failed or did not answer
        self._spared = 0  # those that it was not even asked

    @classmethod
    def opened(cls, url: str, prefix: str, name: str, observer: Observer, clock: Clock = time.monotonic) -> RedisStore:
        """A store that connects when it is first used. SettingsError for a URL that cannot be used."""
        return cls(connection.client(url), prefix, name, observer, clock)

    async def get(self, key: str) -> bytes | None:
        return None if self._rests() else await self._reads.get(key)

    async def put(self, key: str, value: bytes, *, tag: str, keep: float | None) -> None:
        if len(value) > MAX_VALUE or (keep is not None and keep <= 0):
            await self.delete(key)  # what was put before must not be taken for what was put last
            return
        kept = None if keep is None else max(1, int(keep * 1000))

        async def put() -> None:
            frame = envelope.framed(key, value)
            async with self.client.pipeline(transaction=True) as pipe:
                if tag:
                    pipe.sadd(self._tags + tag, key)
                    pipe.expire(self._tags + tag, max(_TAG_KEEP, int(keep or 0)))
                pipe.set(self._values + key, frame, px=kept)
                try:
                    await pipe.execute()
                except ResponseError:
                    await self.client.unlink(self._values + key)  # as above; allowed even when out of memory
                    raise

        await self._attempt("put", put, None)

    async def delete(self, key: str) -> None:
        await self._attempt("delete", lambda: self.client.unlink(self._values + key), 0)

    async def purge(self, selection: Selection) -> int:
        """As in `Store`. It asks even a server that is being left alone: a purge that is skipped is lost."""

        async def purge() -> int:
            count = 0
            async for keys in self._taken(selection):
                async with self.client.pipeline(transaction=True) as pipe:
                    pipe.unlink(*(self._values + key for key in keys))
                    if selection.crate is not None:
                        pipe.srem(self._tags + selection.crate, *keys)
                    count += (await pipe.execute())[0]
            if selection == Selection():
                async for keys in redis_keys.scanned(self.client, self._tags):
                    await self.client.unlink(*(self._tags + key for key in keys))
            return count

        return await self._attempt("purge", purge, 0, insist=True)

    async def count(self, selection: Selection) -> int:
        async def count() -> int:
            found = 0
            async for keys in self._taken(selection):
                found += await self.client.exists(*(self._values + key for key in keys))
            return found

        return await self._attempt("count", count, 0)

    async def keys(self) -> AsyncIterator[str]:
        """As in `Store`. All keys are held meanwhile, since the server has no order."""

        async def keys() -> list[str]:
            return sorted([key async for batch in redis_keys.scanned(self.client, self._values) for key in batch])

        none: list[str] = []
        for key in await self._attempt("list", keys, none):
            yield key

    async def crates(self, part: str, after: str, limit: int) -> list[Shelved]:
        """As in `Listing`, but of a very large database some may be missing: the search takes a second at most. Sizes
        are not told."""

        async def crates() -> list[Shelved]:
            found: set[str] = set()
            end = self._clock() + _LOOKING_SECONDS
            async for names in redis_keys.scanned(self.client, self._tags, part=part):
                found |= {name for name in names if name > after}
                if self._clock() > end:
                    break
            names = sorted(found)[:limit]
            async with self.client.pipeline(transaction=False) as pipe:
                for name in names:
                    pipe.scard(self._tags + name)
                counts = await pipe.execute() if names else []
            return [Shelved(name, int(count), 0) for name, count in zip(names, counts, strict=True)]

        none: list[Shelved] = []
        return await self._attempt("list", crates, none)

    async def tagged(self, crate: str, limit: int) -> list[str]:
        async def tagged() -> list[str]:
            found: list[str] = []
            async for keys in self._taken(Selection(crate=crate)):
                async with self.client.pipeline(transaction=False) as pipe:
                    for key in keys:
                        pipe.exists(self._values + key)
                    found += [key for key, there in zip(keys, await pipe.execute(), strict=True) if there]
            return sorted(found)[:limit]

        none: list[str] = []
        return await self._attempt("list", tagged, none)

    async def health(self) -> Health:
        """Degraded, never failed: without it each process goes on by itself."""
        detail = self._faults.detail
        if self.breaker.admits(self._clock()):
            await self._attempt("ping", lambda: self.client.ping(), None, insist=True)
            detail = self._faults.detail
        where = connection.where(self.client)
        return Health(self._name, State.DEGRADED if detail else State.OK, detail and f"{where}: {detail}")

    async def held(self) -> Volume:
        """The server's own figures, of everything in its database, ours or not: to count our keys it would have to
        go through all of them."""

        async def held() -> Volume:
            entries, info = await self.client.dbsize(), await self.client.info("memory")
            return Volume(int(entries), int(info["used_memory"]), int(info.get("maxmemory", 0)) or None)

        return await self._attempt("volume", held, Volume())

    @property
    def evicted(self) -> int:
        """None by us: the server evicts by its own policy."""
        return 0

    @property
    def unanswered(self) -> int:
        """Commands of which nobody knows what the server would have said."""
        return self.errors + self._spared

    async def aclose(self) -> None:
        await self._reads.settled()
        if self._flying:
            await asyncio.wait(self._flying)
        try:
            await self.client.aclose()
        except _FAULTS as error:
            self._faults.failed("close", type(error).__name__, type(error).__name__)

    async def _gotten(self, keys: Sequence[str]) -> list[bytes | None]:
        """The values of these keys by one pipeline. What is refused among others is asked for by itself, so that it is
        told as what it is."""
        none: list[_Frame] = [None] * len(keys)
        found = await self._attempt("get", partial(self._frames, keys), none)
        values, wrong = list[bytes | None](), list[str]()
        for key, frame in zip(keys, found, strict=True):
            if isinstance(frame, ResponseError):
                (frame,) = await self._attempt("get", partial(self._frames, [key]), none[:1])
            value = envelope.unframed(key, frame) if isinstance(frame, bytes) else None
            if frame is not None and value is None:
                wrong.append(key)
            values.append(value)
        if wrong:
            # Either a value is damaged or a connection is out of step and gave another's answer.
            self._faults.told("a value was not its key's: dropped, and every connection with it")
            await self._attempt("drop", partial(self._dropped, wrong), None)
        return values

    async def _frames(self, keys: Sequence[str]) -> list[_Frame]:
        if len(keys) == 1:
            return [await self.client.get(self._values + keys[0])]
        async with self.client.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.get(self._values + key)
            return await pipe.execute(raise_on_error=False)

    async def _dropped(self, keys: Sequence[str]) -> None:
        await connection.dropped(self.client)
        await self.client.unlink(*(self._values + key for key in keys))

    async def _attempt(self, doing: str, do: Callable[[], Awaitable[T]], failed: T, *, insist: bool = False) -> T:
        if not insist and self._rests():
            return failed
        # A command that is cancelled between its request and its answer costs its connection, so it flies
        # on where its caller leaves.
        task = asyncio.ensure_future(self._tried(doing, do, failed, insist))
        self._flying.add(task)
        task.add_done_callback(self._flying.discard)
        return await asyncio.shield(task)

    def left_alone(self) -> bool:
        """Whether the server is not asked at the moment."""
        return self.breaker.rest(self._clock()) > 0

    def _rests(self) -> bool:
        """The same, where somebody wants something of it."""
        rests = self.left_alone()
        self._spared += rests
        return rests

    async def _tried(self, doing: str, do: Callable[[], Awaitable[T]], failed: T, insist: bool) -> T:
        # A crowd waits here rather than for a connection: that wait ends in the same error as a dead server.
        async with self._slots:
            if not insist and not self.breaker.admits(self._clock()):
                self._spared += 1
                return failed
            return await self._asked(doing, do, failed)

    async def _asked(self, doing: str, do: Callable[[], Awaitable[T]], failed: T) -> T:
        try:
            result = await do()
        except _FAULTS as error:
            self.errors += 1
            detail = connection.told(self.client, error)
            if isinstance(error, ResponseError | UnicodeError):
                self.breaker.succeeded()  # it refuses (read-only, out of memory), but it is there
                self._faults.failed(doing, type(error).__name__, detail)
            else:
                self.breaker.failed(self._clock())
                self._faults.failed(_REACHING, type(error).__name__, detail)
            return failed
        self.breaker.succeeded()
        self._faults.worked(_REACHING)
        self._faults.worked(doing)
        return result

    async def _taken(self, selection: Selection) -> AsyncIterator[list[str]]:
        """The keys that the selection takes, in batches; some of them may have expired."""
        if selection.crate is None:
            first = "" if selection.endpoint is None else selecting.prefix(selection.endpoint)
            async for keys in redis_keys.scanned(self.client, self._values, first):
                yield keys
            return
        members = [redis_keys.text(member) for member in await self.client.smembers(self._tags + selection.crate)]
        keys = [key for key in members if selecting.of_endpoint(selection, key)]
        for start in range(0, len(keys), redis_keys.BATCH):
            yield keys[start : start + redis_keys.BATCH]
