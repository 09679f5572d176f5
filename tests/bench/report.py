"""Results as tables for people and as JSON for programs."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from tests.bench import fetching
from tests.bench.cases import BY_NAME
from tests.bench.processes import ROOT, found
from tests.bench.samples import Rounds, middle, ratio, saving
from tests.bench.stage import NGINX, TUNED
from tests.bench.targets import Figure, Judged, judged


@dataclass(frozen=True, slots=True)
class Run:
    """A run and what it was made with. `units`: of each case that compares servers."""

    command: str
    when: str
    machine: str
    versions: str
    results: Mapping[str, Rounds]
    units: Mapping[str, str]
    figures: Mapping[str, Figure]

    @property
    def judged(self) -> list[Judged]:
        return judged(self.results, self.figures)

    def title(self, name: str) -> str:
        """Of a case or a figure."""
        if name in self.figures:
            return self.figures[name].title
        return fetching.TITLE if name == fetching.NAME else BY_NAME[name].title


def run(
    command: str, results: Mapping[str, Rounds], units: Mapping[str, str], figures: Sequence[Figure], programs: str
) -> Run:
    """`programs`: the versions of the peers and of the load generator."""
    commit = _first_line(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"])
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    versions = f"crates-proxy at {commit}, Python {platform.python_version()}, {programs}"
    return Run(command, when, _machine(), versions, results, units, {figure.name: figure for figure in figures})


def markdown(run: Run) -> str:
    lines = [f"`{run.command}`, {run.when}, on {run.machine}; {run.versions}.", ""]
    if run.results:
        lines += [*_summary(run), ""]
    for name, rounds in run.results.items():
        lines += [f"### {run.title(name)}", "", *_compared(rounds, run.units[name]), ""]
    if run.figures:
        lines += ["### Other figures", "", "| figure | value |", "|---|---|"]
        lines += [f"| {each.title} | {_number(each.value)} {each.unit} |" for each in run.figures.values()]
        lines.append("")
    if run.judged:
        lines += ["### Targets", "", "| what | beside | target | measured | by | holds |", "|---|---|---|---|---|---|"]
        lines += [_judged(run.title(each.target.case), each) for each in run.judged]
        lines.append("")
    return "\n".join(lines)


def written(run: Run, path: Path) -> None:
    """As `path`.json, with every sample, and as `path`.md."""
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = {
        "command": run.command,
        "when": run.when,
        "machine": run.machine,
        "versions": run.versions,
        "results": {
            name: {server: [asdict(sample) for sample in samples] for server, samples in rounds.items()}
            for name, rounds in run.results.items()
        },
        "units": dict(run.units),
        "figures": [asdict(figure) for figure in run.figures.values()],
        "targets": [
            {**asdict(each.target), "value": each.value, "by": each.by, "holds": each.holds} for each in run.judged
        ],
    }
    path.with_suffix(".json").write_text(json.dumps(whole, indent=1) + "\n")
    path.with_suffix(".md").write_text(markdown(run))


def _summary(run: Run) -> list[str]:
    """A line for each case: what each server did and, in brackets, its CPU microseconds a request."""
    columns = list(dict.fromkeys(server for rounds in run.results.values() for server in rounds))
    lines = [f"| | {' | '.join(columns)} | times nginx | times nginx tuned |", "|---" * (len(columns) + 3) + "|"]
    for name, rounds in run.results.items():
        middles = {server: middle(samples) for server, samples in rounds.items()}
        cells = [
            f"{_number(middles[server].value)} ({_number(middles[server].micros)})" if server in middles else ""
            for server in columns
        ]
        ours = next(iter(rounds))
        times = [f"{ratio(rounds, ours, theirs):.2f}" if theirs in rounds else "" for theirs in (NGINX, TUNED)]
        lines.append(f"| {run.title(name)}, {run.units[name]} | {' | '.join([*cells, *times])} |")
    return lines


def _compared(rounds: Rounds, unit: str) -> list[str]:
    ours = next(iter(rounds))
    lines = [
        f"| | {unit} | CPU us a request | its core | load's core | p99 ms | {ours}: times its value | times its CPU |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, samples in rounds.items():
        one = middle(samples)
        times = ("", "") if name == ours else (f"{ratio(rounds, ours, name):.2f}", f"{saving(rounds, ours, name):.2f}")
        cells = [name, _number(one.value), _number(one.micros), f"{one.busy:.0%}", f"{one.load:.0%}", _number(one.p99)]
        lines.append(f"| {' | '.join([*cells, *times])} |")
    return lines


def _judged(title: str, each: Judged) -> str:
    sign = "≥" if each.target.at_least else "≤"
    cells = [title, each.target.against, f"{sign} {each.target.bound:g}", _number(each.value)]
    return f"| {' | '.join([*cells, each.by, 'yes' if each.holds else '**no**'])} |"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _machine() -> str:
    cpus = Path("/proc/cpuinfo").read_text()
    names = [line.partition(": ")[2] for line in cpus.splitlines() if line.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else platform.machine()


def _first_line(command: Sequence[str]) -> str:
    """What a command says first, on either stream."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.stdout.partition("\n")[0]


def programs() -> str:
    """The versions of what takes part beside the proxy, as far as it is here."""
    nginx = _first_line([found("nginx", "nginx"), "-v"]).rpartition("/")[2]
    varnish = _first_line([found("varnishd", "varnish"), "-V"]).partition("(")[2].partition(" revision")[0]
    wrk = " ".join(_first_line([found("wrk", "wrk"), "-v"]).split()[:2])
    return f"nginx {nginx}, {varnish}, {wrk}"
