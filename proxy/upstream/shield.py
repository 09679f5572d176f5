"""Everything between the engine and crates.io: the wrappers in their order, and how things stand.

From the outside in: a second attempt, which must be booked like the first; the breaker, so that nothing is booked for
a host that fails; the budget and the holds; and whoever remembers how each host answered last.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from proxy.fleet.base import Budget, Hold, Standing
from proxy.model import Health, Host, State
from proxy.rules.holds import Why
from proxy.upstream.base import Answer, Ask, Upstream
from proxy.upstream.guarded import GuardedUpstream
from proxy.upstream.limited import LimitedUpstream
from proxy.upstream.retried import RetriedUpstream
from proxy.upstream.watched import WatchedUpstream


class Shield:
    """An `Upstream`. `clock` is the wall's; `chance` gives a number from 0 to 1, each time another one."""

    def __init__(
        self,
        inner: Upstream,
        budget: Budget,
        *,
        clock: Callable[[], float],
        chance: Callable[[], float],
        stale_after: float,
    ) -> None:
        self._budget = budget
        self._watched = WatchedUpstream(inner)
        self._guarded = GuardedUpstream(LimitedUpstream(self._watched, budget, clock, stale_after=stale_after))
        self._outermost = RetriedUpstream(self._guarded, chance)

    async def send(self, ask: Ask) -> Answer:
        return await self._outermost.send(ask)

    async def aclose(self) -> None:
        await self._outermost.aclose()

    async def standing(self) -> Standing:
        """How much of the budget is left, and which hosts are held: one question to the fleet, at most."""
        return await self._budget.standing()

    def fails(self, host: Host) -> bool:
        """Whether a host failed when this process asked it last."""
        return self._watched.fault(host) is not None or host in self._guarded.resting()

    def checks(self) -> list[Awaitable[Health]]:
        """One line a host, and one for the budget."""
        return [*(self._host(host) for host in Host), self._allowance()]

    async def _host(self, host: Host) -> Health:
        name = f"upstream {host.value}"
        hold, resting = self._budget.held(host), self._guarded.resting().get(host)
        fault = self._watched.fault(host)
        if hold is not None:
            return Health(name, State.DEGRADED, _told(hold))
        if resting is not None:
            again = f"is tried again in {resting:.0f} s" if resting > 0 else "is tried with the next request"
            return Health(name, State.DEGRADED, f"it fails and {again}{f': {fault}' if fault else ''}")
        return Health(name, State.OK) if fault is None else Health(name, State.DEGRADED, fault)

    async def _allowance(self) -> Health:
        standing = await self._budget.standing()
        state = State.DEGRADED if standing.alone else State.OK
        counted = f"{standing.free} requests to the API could go now, {standing.recent} went in the last 10 minutes"
        return Health("budget", state, f"{counted}; {standing.alone}" if standing.alone else counted)


def _told(hold: Hold) -> str:
    left = f"it is not asked for {hold.seconds:.0f} s"
    words = f" ({hold.words})" if hold.words else ""
    match hold.why:
        case Why.BLOCKED:
            return f"BLOCKED by crates.io, somebody must act{words}; {left}"
        case Why.PROBED:
            return f"it was BLOCKED by crates.io{words}; one request is finding out whether it still is"
        case Why.TOLD | Why.LIMITED:
            return f"{left}, as it has asked for{words}"
