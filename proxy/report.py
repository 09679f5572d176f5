"""Figures for people: what `stats` prints on a terminal. It knows the form of the figures, not their origin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def printed(stats: Mapping[str, Any], console: Console) -> None:
    """Print `stats` as tables, the largest first."""
    served, avoided = stats["bytes"]["served"], stats["bytes"]["avoided"]
    # A cache that was filled ahead has fetched more than it has served so far.
    spared = f"of which {size(avoided)} were not fetched" if avoided >= 0 else f"and {size(-avoided)} more were fetched"
    total = sum(stats["requests"].values())
    console.print(
        f"Since {stats['since']}: {total:,} requests, {stats['hit_ratio']:.1%} of what can be cached answered from the"
        f" cache.\n{size(served)} served, {spared} from crates.io;"
        f" {stats['upstream']['requests']:,} requests sent there, {stats['upstream']['avoided']:,} avoided.",
        highlight=False,
        soft_wrap=True,
    )
    for table in (
        _figures("endpoint", stats["endpoints"], by_served=True),
        _figures("day (UTC)", stats["days"], by_served=False),
        _figures("client", stats["clients"], by_served=True),
        _stores(stats["stores"]),
    ):
        if table.row_count:
            console.print()
            console.print(table)


def size(count: float | None) -> str:
    """Bytes for people; what is not known is a dash."""
    if count is None:
        return "-"
    for unit in _UNITS[:-1]:
        if abs(count) < 1024:
            return f"{count:,.0f} {unit}" if unit == "B" else f"{count:,.1f} {unit}"
        count /= 1024
    return f"{count:,.1f} {_UNITS[-1]}"


def _figures(what: str, rows: Mapping[str, Any], *, by_served: bool) -> Table:
    table = _table(what, "requests", "hit ratio", "served", "avoided", "upstream", "avoided")
    chosen = list(rows.items())
    if by_served:
        chosen.sort(key=lambda row: -row[1]["bytes"]["served"])
    for name, row in chosen:
        upstream = row["upstream"]
        table.add_row(
            name,
            f"{sum(row['requests'].values()):,}",
            f"{row['hit_ratio']:.1%}",
            size(row["bytes"]["served"]),
            size(row["bytes"]["avoided"]),
            f"{upstream['requests']:,}" if "requests" in upstream else "",  # nobody's in particular
            f"{upstream['avoided']:,}",
        )
    return table


def _stores(stores: list[Mapping[str, Any]]) -> Table:
    table = _table("store", "objects", "bytes", "of")
    for store in stores:
        entries = store["entries"]
        table.add_row(
            store["store"],
            "-" if entries is None else f"{entries:,}",
            size(store["bytes"]),
            size(store["max_bytes"]),
        )
    return table


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(first, no_wrap=True)
    for column in others:
        table.add_column(column, justify="right", no_wrap=True)
    return table
