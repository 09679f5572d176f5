"""Figures as people read them. Pure; what is not known is a dash."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from markupsafe import Markup, escape

DASH = "–"

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_TIMES = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))


def size(count: float | None) -> str:
    """Bytes with three figures or so."""
    if count is None:
        return DASH
    for unit in _UNITS[:-1]:
        if abs(count) < 1024:
            return f"{_rounded(count) if unit != 'B' else f'{count:,.0f}'} {unit}"
        count /= 1024
    return f"{_rounded(count)} {_UNITS[-1]}"


def number(count: float | None) -> str:
    return DASH if count is None else f"{count:,.0f}"


def rate(per_second: float) -> str:
    """Something a second; what is less than one is told by its minute."""
    if per_second >= 1:
        return f"{_rounded(per_second)}/s"
    return f"{per_second * 60:.0f}/min" if per_second else "0/s"


def share(ratio: float | None) -> str:
    """In per cent; never 100 % nor 0 % where it is only nearly so."""
    if ratio is None:
        return DASH
    if 0 < ratio < 0.001 or 0.999 < ratio < 1:
        return "< 0.1 %" if ratio < 0.5 else "> 99.9 %"
    return f"{ratio * 100:.0f} %" if ratio in (0, 1) else f"{ratio * 100:.1f} %"


def duration(seconds: float) -> str:
    """In its largest unit, or two of them where the larger is small."""
    if not math.isfinite(seconds):
        return "for ever"
    for place, (length, unit) in enumerate(_TIMES):
        if seconds >= length:
            whole = int(seconds // length)
            if whole < 3 and place + 1 < len(_TIMES) - 1:
                lower, name = _TIMES[place + 1]
                rest = int(seconds % length // lower)
                return f"{whole} {unit} {rest} {name}" if rest else f"{whole} {unit}"
            return f"{whole} {unit}"
    return "0 s"


def ago(seconds: float) -> str:
    return "just now" if seconds < 2 else f"{duration(seconds)} ago"


def latency(seconds: float) -> str:
    if seconds < 0.001:
        return "< 1 ms"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def date(at: str | None) -> str:
    """The day of an ISO time, as in 12 Nov 2026."""
    return "" if at is None else datetime.fromisoformat(at).strftime("%-d %b %Y")


def moment(at: float) -> str:
    """To the second, as machines and people in all places read it."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def coded(text: str) -> Markup:
    """A text whose `code` stands between backticks."""
    parts = [escape(part) for part in text.split("`")]
    if len(parts) % 2 == 0:  # one of them is no mark
        return Markup("`").join(parts)
    return Markup("").join(Markup("<code>{}</code>").format(part) if n % 2 else part for n, part in enumerate(parts))


def breakable(name: str) -> Markup:
    """A name that may go on in the next line behind each underscore."""
    return Markup("_<wbr>").join(escape(part) for part in name.split("_"))


def _rounded(count: float) -> str:
    return f"{count:,.1f}" if abs(count) < 100 else f"{count:,.0f}"
