"""What upstream gave is answered first, and then stored: together with what else has come at about the same time."""

from __future__ import annotations

from proxy.engine.copies import Copies
from proxy.engine.flight import Flights
from proxy.engine.pace import Beat
from proxy.model import Outcome
from proxy.rules.keys import Read

UNSTORED, LARGE = 128, 256 * 1024
"""Answers that are given and not stored yet, at most, and the bytes of one: past that, clients wait for the store."""
GATHERED = 0.01
"""Seconds in which what is to be stored is gathered: most of what it costs is the transaction."""


class Landing:
    def __init__(self, flights: Flights[Outcome], copies: Copies) -> None:
        self._flights = flights
        self._copies = copies
        self._beat = Beat(GATHERED)

    async def land(self, read: Read, outcome: Outcome) -> None:
        """The end of a flight: whoever waits for it has the outcome, and the store has it when this returns. An absence
        replaces what is stored at once, for all, and is told by the end of the flight."""
        absent = outcome.entry.status != 200
        if not absent and self._flights.landings < UNSTORED and len(outcome.entry.body) <= LARGE:
            self._flights.tell(read.key, outcome)
        if outcome.stored:
            if not absent:
                await self._beat.wait()
            await self._copies.keep(read, outcome.entry)
