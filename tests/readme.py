"""The tables of the README, made from the code. `python -m tests.readme` writes them into it."""

from __future__ import annotations

import math
import re
import tomllib
from pathlib import Path

import click

from proxy.cli import main
from proxy.metrics.table import PREFIX
from proxy.metrics.table import TABLE as METRICS
from proxy.rules import endpoints
from proxy.rules.endpoints import TABLE, Endpoint, Kind

ROOT = Path(__file__).parent.parent
_UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))


def endpoints_table() -> str:
    rows = ["| name | route | kind | ttl | stale | on error | 404 |", "|---|---|---|---|---|---|---|"]
    for row in TABLE:
        route = "<br>".join(f"`{_method(row)}{path}`" for path in row.paths)
        rows.append(f"| {row.name} | {route} | {row.kind} | {' | '.join(_times(row))} |")
    return "\n".join(rows)


def settings_table() -> str:
    """From default.toml: a key, its default, and the comment above it."""
    text = (ROOT / "config" / "default.toml").read_text()
    values = tomllib.loads(text)
    rows, section, meaning = ["| key | default | |", "|---|---|---|"], "", list[str]()
    for line in text.splitlines():
        if not line:
            meaning = []
        elif line.startswith("["):
            section = line.strip("[]")
        elif line.startswith("# "):
            meaning.append(line[2:])
        elif match := re.match(r"(\w+) = ", line):
            value = values[section][match[1]]
            shown = str(value).lower() if isinstance(value, bool) else str(value)
            rows.append(f"| `{section}.{match[1]}` | {f'`{shown}`' if shown else ''} | {' '.join(meaning)} |")
    return "\n".join(rows)


def metrics_table() -> str:
    rows = ["| metric | kind | labels | |", "|---|---|---|---|"]
    for row in METRICS:
        labels = ", ".join(f"`{label}`" for label in row.labels)
        rows.append(f"| `{PREFIX}{row.name}` | {row.kind} | {labels} | {row.help} |")
    return "\n".join(rows)


def commands_table() -> str:
    """From the command line itself: a command with its arguments, its own options, and what its help says in short."""
    rows = ["| command | options | does |", "|---|---|---|"]
    for name, command in main.commands.items():
        taken, options = [name], []
        for parameter in command.params:
            if isinstance(parameter, click.Argument):
                taken.append(parameter.make_metavar(click.Context(command)).replace("|", "\\|"))
            elif parameter.opts[0] != "--config":
                options.append(f"`{parameter.opts[0]}`")
        rows.append(f"| `{' '.join(taken)}` | {' '.join(options)} | {command.get_short_help_str(100)} |")
    return "\n".join(rows)


def written(text: str) -> str:
    """The README with its tables made anew."""
    tables = {
        "endpoints": endpoints_table(),
        "settings": settings_table(),
        "commands": commands_table(),
        "metrics": metrics_table(),
    }
    for name, table in tables.items():
        start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        before, _, rest = text.partition(start)
        text = f"{before}{start}{table}\n{end}{rest.partition(end)[2]}"
    return text


def _method(row: Endpoint) -> str:
    return {"GET": "", "*": "any other change "}.get(row.method, f"{row.method} ")


def _times(row: Endpoint) -> tuple[str, str, str, str]:
    if row.kind in (Kind.PRIVATE, Kind.CHANGE):
        return "never stored", "", "", ""
    if row.kind is Kind.TRANSPARENT:
        return "as upstream says", "", "", ""
    policy = endpoints.policy(row, ())
    ttl = _duration(policy.ttl or 0)
    if row.newest_ttl is not None:
        ttl += f"; {_duration(row.newest_ttl)} for the newest first"
    if row.kind is Kind.TARBALL:
        return ttl, "", "", _duration(policy.negative_ttl)
    return (
        ttl,
        _duration(policy.stale_while_revalidate),
        _duration(policy.stale_if_error),
        _duration(policy.negative_ttl),
    )


def _duration(seconds: float) -> str:
    if seconds == math.inf:
        return "for ever"
    for unit, size in _UNITS:
        if seconds and seconds % size == 0:
            return f"{seconds / size:.0f}{unit}"
    return "0" if seconds == 0 else f"{seconds}s"


if __name__ == "__main__":
    readme = ROOT / "README.md"
    readme.write_text(written(readme.read_text()))
