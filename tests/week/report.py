"""The figures of a run, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.week.books import Books
from tests.week.plan import DAY
from tests.week.witness import Witness

SHOWN = 5
"""So many examples of what went wrong are printed."""
RENEWED = "index-unchanged"
"""What Cache-Status remarks on an answer that the index, rather than the API, has vouched for."""
HOSTS = ("api", "index", "static")


@dataclass(frozen=True, slots=True)
class Run:
    """What came of one: `seconds` of work, in which crates.io saw `books` and the clients `witness`. took: real
    seconds."""

    seconds: float
    took: float
    books: Books
    witness: Witness


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the proxy was set to keep to; the budget of crates.io's own policy, unless told otherwise. lacking: seconds
    for which a version may be hidden from those who ask while less than half of that budget is used."""

    requests_per_second: float = 1.0
    burst: int = 10
    window_requests: int = 599
    lacking: float = DAY


def wrong(run: Run, bounds: Bounds) -> list[str]:
    """What was promised and not kept; nothing in a run that is as it should be."""
    books, witness = run.books, run.witness
    found = []
    if books.refused_reads:
        found.append(f"crates.io answered {books.refused_reads} reads with 429")
    if witness.failures:
        found.append(f"{len(witness.failures)} requests failed for what had been had before")
        found += [f"  {line}" for line in witness.failures[:SHOWN]]
    if witness.untrue:
        found.append(f"{len(witness.untrue)} answers did not keep their word")
        found += [f"  {line}" for line in witness.untrue[:SHOWN]]
    found += _lying(witness, bounds)
    asked = books.asked("api")
    # In the first moment the burst may go at once; from then on it is the rate.
    if asked > bounds.requests_per_second * run.seconds + bounds.burst:
        found.append(f"{asked / run.seconds:.2f} requests a second went to the API; {bounds.requests_per_second} may")
    if books.busiest_window > bounds.window_requests:
        found.append(f"{books.busiest_window} requests went to the API in ten minutes; {bounds.window_requests} may")
    return found


def _lying(witness: Witness, bounds: Bounds) -> list[str]:
    """What was asked for, put off and then forgotten."""
    found = [
        f"  {kind} {crate}: {lack.seconds / 3600:.1f} h, in which the API was asked {lack.asked:,} times"
        for (kind, crate, _), lack in witness.lacks.items()
        if lack.seconds > bounds.lacking and lack.asked < bounds.requests_per_second * lack.seconds / 2
    ]
    return [f"{len(found)} versions were hidden although the budget had room", *found[:SHOWN]] if found else []


def told(runs: Mapping[str, Run]) -> list[str]:
    """The figures, a column a run."""
    every = list(runs.values())
    kinds = sorted({what for run in every for what in run.witness.withheld})
    rows: list[tuple[str, list[str]]] = [("clients' requests", [f"{run.witness.total:,}" for run in every])]
    rows += [(f"requests to crates.io: {host}", [f"{run.books.asked(host):,}" for run in every]) for host in HOSTS]
    rows += [
        ("requests to crates.io", [f"{run.books.asked():,}" for run in every]),
        ("API requests a second, average", [f"{run.books.asked('api') / run.seconds:.3f}" for run in every]),
        ("API requests in 10 minutes, most", [f"{run.books.busiest_window:,}" for run in every]),
        ("429 from crates.io to reads", [f"{run.books.refused_reads:,}" for run in every]),
        ("429 from crates.io to writes", [f"{run.books.refused_writes:,}" for run in every]),
        ("failed although had before", [f"{len(run.witness.failures):,}" for run in every]),
        ("put off with 429, never had before", [f"{run.witness.put_off:,}" for run in every]),
        ("failed, never had before", [f"{run.witness.in_vain:,}" for run in every]),
        ("longest wait", [f"{max(run.witness.longest.values(), default=0.0):.1f} s" for run in every]),
        *((f"a new version unseen for, at most: {what}", [_withheld(run, what) for run in every]) for what in kinds),
        ("own publish seen by cargo after", [_duration(run.witness.published_within) for run in every]),
    ]
    heads = list(runs)
    widths = [max(len(head), *(len(row[column]) for _, row in rows)) for column, head in enumerate(heads)]
    label = max(len(name) for name, _ in rows)
    lines = [_line("", heads, label, widths), *(_line(name, row, label, widths) for name, row in rows)]
    return [*lines, "", *_sources(every[0].witness)]


def _line(name: str, cells: Sequence[str], label: int, widths: Sequence[int]) -> str:
    return f"{name:<{label}}  " + "  ".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))


def _sources(witness: Witness) -> list[str]:
    """What only the proxy can tell: how it came by its answers."""
    verdicts = witness.verdicts
    total = sum(verdicts.values()) or 1
    served = sum(verdicts[one] for one in ("HIT", "STALE", "REVALIDATED"))
    stale = {why: count for why, count in witness.details.items() if why != RENEWED}
    refused = sorted(witness.refused.items())
    return [
        f"served from what is stored: {served / total:.1%} ({_counted(verdicts)})",
        f"stale, and why: {_counted(stale) or 'none'}",
        f"renewed because the index file had not changed: {witness.details[RENEWED]:,}",
        *(f"refused: {kind}, {status or 'no answer'}: {count:,}" for (kind, status), count in refused),
    ]


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name.lower()} {count:,}" for name, count in sorted(counts.items(), key=lambda one: -one[1]))


def _withheld(run: Run, what: str) -> str:
    count = run.witness.outdated[what]
    return f"{_duration(run.witness.withheld[what])} ({count:,})" if count else "-"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
