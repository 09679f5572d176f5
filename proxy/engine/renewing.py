"""Asks the index, which has no limit, before the API: has the crate changed? `rules.renewal` says what follows.

It knows index files only as reads like any other, with their own times, flights and copies. What goes wrong with
them is no fault here: then the API is asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from proxy.errors import Error
from proxy.model import Entry, Outcome, Verdict
from proxy.rules import keys, renewal
from proxy.rules.endpoints import Policy
from proxy.rules.keys import Read
from proxy.rules.renewal import Sight

COLD_WITHIN = 0.5
"""Seconds that the index may take where nothing is stored. The validator must be taken before the API is asked, so
that the two cannot be asked at the same time; but mostly the index file is there and fresh, since whoever reads
about a crate builds with it, or it comes from a CDN in a tenth of the time that the API takes. Where not, the
answer is merely not renewable: this one costs a request more in five minutes."""
STALE_WITHIN = 2.0
"""Seconds that the index may take where there is a copy: an API request is at stake, and who waits longer than
`upstream.stale_after` gets the copy."""


@dataclass(frozen=True, slots=True)
class Look:
    """What a look at the index brought: the entry renewed, or what was seen before the API is asked; or neither.

    overdue: the entry renewed, for where the API cannot be asked now: it has been long enough that it ought to be.
    outdated: the index shows that there is news which the entry does not tell.
    """

    renewed: Entry | None = None
    sight: Sight | None = None
    overdue: Entry | None = None
    outdated: bool = False


NOTHING = Look()


class Renewing:
    """`index` reads an index file. `ceiling`: seconds for which an answer of the API is renewed without asking the
    API whenever it can be asked; 0 for never renewed.

    `avoided`: requests to the API that were not needed, since the start of this process.
    """

    def __init__(
        self,
        *,
        index: Callable[[Read], Awaitable[Outcome]],
        index_policy: Policy,
        ceiling: float,
        clock: Callable[[], float],
    ) -> None:
        self._index = index
        self._index_policy = index_policy
        self._ceiling = ceiling
        self._clock = clock
        self.avoided = 0

    async def look(self, read: Read, entry: Entry | None, changed: float) -> Look:
        """What the index says about a read whose `entry` will not do any more, or which has none."""
        now = self._clock()
        if self._ceiling <= 0 or not read.endpoint.renewable or now < changed + renewal.LAG:
            return NOTHING  # in the last case no answer may be renewed, whatever the index says
        known = entry.witness.path if entry is not None and entry.witness is not None else None
        places = (known,) if known is not None else renewal.paths(read.name, read.tag)
        try:
            async with asyncio.timeout(COLD_WITHIN if entry is None else STALE_WITHIN):
                found = await self._found(places)
        except (Error, TimeoutError):
            return NOTHING
        if found is None:
            return NOTHING
        path, index = found
        now = self._clock()
        sight = renewal.sight(path, index, now)
        if entry is None:
            return Look(sight=sight)
        renewed = None
        if renewal.renewable(entry, now, changed=changed, no_cache=read.no_cache):
            renewed = renewal.renewed(entry, index, read.policy, now)
        if renewed is not None and not self.overdue(entry, now):
            self.avoided += 1
            return Look(renewed=renewed)
        return Look(sight=sight, overdue=renewed, outdated=renewal.outdated(entry, index))

    def overdue(self, entry: Entry, now: float) -> bool:
        """Whether the API should be asked about an entry, however fresh the index keeps it."""
        return renewal.overdue(entry, now, self._ceiling)

    async def _found(self, places: tuple[str, ...]) -> tuple[str, Entry] | None:
        """The index file of the crate, and its path; None where there is none, or only a stale copy to be had."""
        for path in places:
            outcome = await self._index(keys.index_read(path, self._index_policy))
            if outcome.verdict is Verdict.STALE:
                return None
            if outcome.entry.status == 200:
                return path, outcome.entry
        return None
