"""Takes the samples of a case: looks at every answer first, then loads one server after the other, turn about."""

from __future__ import annotations

import itertools
import socket
import time
from collections.abc import Callable, Sequence

from tests.bench import bulk, load, raw
from tests.bench.cases import Asked, Case
from tests.bench.load import NUMBER, Failed, Loaded
from tests.bench.samples import Rounds, Sample
from tests.bench.stage import EMPTY, Server, Stage

Told = Callable[[str], None]

# No number is used twice in a run, or a miss would be a hit. The lower ones are for requests by hand; a measurement
# takes a block of the upper ones, and makes far fewer requests than there are in it.
_singles = itertools.count(1)
_blocks = itertools.count(1_000_000, 200_000)
# Seconds of load, not measured, before the first round: what is first looked up in a store is then in memory.
_WARM = 1.0
# Seconds until what was asked for must be in a cache.
_STORED_WITHIN = 5.0
# So many of a case's requests are asked by hand, evenly chosen, before each load.
_BY_HAND = 200
# A ratio of bytes: the heads of one case's answers differ by the digits of an age.
_SLACK = 0.02


def measured(case: Case, stage: Stage, rounds: int, seconds: float, told: Told) -> Rounds:
    """The samples of each server. Raises `Failed` where any answer, before or meanwhile, is not what it must be."""
    stage.away(case.away)
    servers = [stage.server(name) for name in case.servers]
    everything = {server.name: case.asks(stage, server) for server in servers}
    for server in servers:
        seen = _checked(everything[server.name], server)
        if case.empty and server is servers[0]:
            empty = stage.empty(seen[-1].whole)
    if case.empty:
        servers.append(empty)
        everything[EMPTY] = everything[servers[0].name]
    samples: dict[str, list[Sample]] = {server.name: [] for server in servers}
    for server in servers:
        _load(case, server, [each.request for each in everything[server.name]], next(_blocks), min(seconds, _WARM))
    for number in range(rounds):
        for server in turn(servers, number):
            asked = everything[server.name]
            # What has gone stale meanwhile is fresh again.
            seen = [] if server.name == EMPTY else _checked(asked, server)
            sample = _sample(case, stage, server, asked, seen, seconds)
            samples[server.name].append(sample)
            told(
                f"{case.name} {number + 1}/{rounds} {server.name}: {sample.value:,.0f} {case.unit}, "
                f"{sample.micros:,.0f} us, core {sample.busy:.0%}"
            )
    stage.away(0)
    return samples


def turn(servers: Sequence[Server], number: int) -> list[Server]:
    """Each round begins with another one, and every second goes backwards: nobody always follows the same."""
    order = [*servers[number % len(servers) :], *servers[: number % len(servers)]]
    return order[::-1] if number % 2 else order


def _checked(everything: Sequence[Asked], server: Server) -> list[raw.Answered]:
    """Ask each of these until it comes from the cache, where it can; then it must be right."""
    answers = []
    with socket.create_connection(server.address, raw.PATIENCE) as connection:
        for asked in _some(everything):
            request = asked.request.replace(NUMBER, b"%08d" % next(_singles))
            # nginx and Varnish may serve a stale copy first, and have what they fetch only behind the answer.
            deadline = time.monotonic() + _STORED_WITHIN
            got = raw.said(connection, request)
            while asked.cached and not _hit(got) and time.monotonic() < deadline:
                got = raw.said(connection, request)
            right = asked.expected is None or got.body == asked.expected
            if got.status != asked.status or not right or (asked.cached and not _hit(got)):
                told = got.whole[:400].decode("latin-1")
                raise Failed(f"{server.name} answered {request.decode()!r} wrongly or not from its cache:\n{told}")
            answers.append(got)
    return answers


def _some(everything: Sequence[Asked]) -> Sequence[Asked]:
    return everything[:: -(-len(everything) // _BY_HAND)]


def _hit(got: raw.Answered) -> bool:
    """One that was revalidated for it says so in a longer head than those that follow: it is not what is measured."""
    return got.headers.get("x-cache") == "HIT"


def _sample(
    case: Case, stage: Stage, server: Server, asked: Sequence[Asked], seen: Sequence[raw.Answered], seconds: float
) -> Sample:
    requests = [each.request for each in asked]
    first, upstream, before = next(_blocks), stage.asked(), server.spent()
    loaded = _load(case, server, requests, first, seconds)
    spent = server.spent() - before
    if not loaded.requests:
        raise Failed(f"{server.name} gave no whole answer within {seconds:g} s")
    if seen and case.generator == "wrk":  # the others take exactly the length that each head tells
        _right_size(case, server, seen, len(asked), loaded)
    if all(NUMBER in request for request in requests) and case.generator == "wrk":
        fetched = stage.asked() - upstream
        if fetched < loaded.requests:
            raise Failed(f"{server.name} asked upstream {fetched} times for {loaded.requests} cold objects")
    match case.unit:
        case "MB/s":
            value = loaded.bytes / loaded.seconds / 1e6
        case "ms":
            value = loaded.seconds * 1000
        case _:
            value = loaded.requests / loaded.seconds
    micros, share = spent / loaded.requests * 1e6, spent / loaded.seconds
    return Sample(value, micros, share, loaded.busy, loaded.p99 * 1000)


def _load(case: Case, server: Server, requests: Sequence[bytes], first: int, seconds: float) -> Loaded:
    match case.generator:
        case "bulk":
            return bulk.bulk(server.address, requests, case.connections, seconds)
        case "crowd":
            return bulk.crowd(server.address, requests[0].replace(NUMBER, b"%08d" % first), case.connections)
        case _:
            return load.wrk(server.address, requests, case.connections, seconds, first)


def _right_size(case: Case, server: Server, seen: Sequence[raw.Answered], asked: int, loaded: Loaded) -> None:
    """The answers under load were as long as those that were looked at."""
    expected = sum(len(answer.whole) for answer in seen) / len(seen) * loaded.requests
    # The requests at the end of the time are under way, and a list is seldom asked through a whole number of times.
    margin = _SLACK + 2 * (asked + case.connections) / loaded.requests
    if abs(loaded.bytes / expected - 1) > margin:
        raise Failed(f"{server.name}: {loaded.bytes} bytes came where {expected:.0f} were to be expected")
