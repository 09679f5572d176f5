"""The kinds of values that settings have: how each is read, what is allowed, how it is printed.

Knows no setting and no source.
"""

from __future__ import annotations

import ipaddress
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

MASK = "****"


class Wrong(ValueError):
    """Carries what to tell the operator instead of what the kind allows."""


_NUMBER = r"([0-9]{1,18}(?:\.[0-9]{1,9})?)"
_DURATION = re.compile(rf"{_NUMBER} *(ms|s|m|h|d)?")
_SIZE = re.compile(rf"{_NUMBER} *([KMGT]i?B|B)?", re.ASCII | re.IGNORECASE)
_MILLISECONDS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
_BYTES = {
    f"{prefix}{base}": factor**power
    for power, prefix in ((4, "T"), (3, "G"), (2, "M"), (1, "K"))
    for base, factor in (("iB", 1024), ("B", 1000))
} | {"B": 1}
_FOLDED_BYTES = {unit.lower(): factor for unit, factor in _BYTES.items()}
_CENTURY = 36_500 * 86_400.0
MAX_SIZE = 2**63 - 1  # what file sizes and Redis counters hold
_FLAGS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}

_LONGEST_LABEL = 64
_MAX_SOCKET_PATH = 107  # sun_path of unix(7), less its final NUL


def _same(value: Any) -> Any:
    return value


@dataclass(frozen=True, slots=True)
class Kind:
    """`read` takes what TOML gives; `text` makes that of a text from the environment or the command line, and
    leaves it alone where it cannot. `show` makes of a value read what TOML would have to say.

    `read` raises `Wrong` where it has something special to say, else any ValueError: then `allowed` says it all.
    """

    allowed: str
    read: Callable[[object], object]
    text: Callable[[str], object] = _same
    show: Callable[[Any], object] = _same
    secret: bool = False
    url_with_password: bool = False

    def shown(self, value: object) -> str:
        """As TOML, on one line, without secrets."""
        text = str(value)
        # What is no URL at all cannot be taken apart, so all of it goes.
        if (self.secret and text) or (self.url_with_password and "@" in text and "://" not in text):
            value = MASK
        text = _toml(masked(value))
        return text.encode(errors="backslashreplace").decode()


def _toml(value: object) -> str:
    if isinstance(value, dict):
        pairs = (f"{json.dumps(str(key), ensure_ascii=False)} = {_toml(each)}" for key, each in value.items())
        return f"{{{', '.join(pairs)}}}"
    return json.dumps(value, ensure_ascii=False, default=str)


def masked(value: object) -> object:
    """The same without the passwords that URLs in it carry."""
    match value:
        case str():
            return _masked_url(value)
        case list() | tuple():
            return [masked(each) for each in value]
        case dict():
            return {key: masked(each) for key, each in value.items()}
        case _:
            return value


def _masked_url(text: str) -> str:
    # Greedy on purpose: whoever forgets to escape an @ or a / in a password must not find it in a log.
    scheme, separator, rest = text.partition("://")
    if separator and "@" in rest:
        info, _, rest = rest.rpartition("@")
        user, colon, _ = info.partition(":")
        text = f"{scheme}://{user}:{MASK}@{rest}" if colon else f"{scheme}://{MASK}@{rest}"
    return re.sub(r"(?i)(password=)[^&#]*", rf"\1{MASK}", text)


# --- numbers, durations, sizes


def whole(low: int, high: int) -> Kind:
    def read(value: object) -> int:
        if type(value) is not int or not low <= value <= high:
            raise ValueError
        return value

    def text(value: str) -> object:
        return int(value) if re.fullmatch(r"[0-9]{1,18}", value) else value

    return Kind(f"a whole number, {low} to {high}", read, text)


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise ValueError
    return float(value)


def _number_text(text: str) -> object:
    return float(text) if re.fullmatch(_NUMBER, text) else text


def _duration(value: object) -> float:
    if isinstance(value, str) and (match := _DURATION.fullmatch(value)):
        value = float(Fraction(match[1]) * _MILLISECONDS[match[2] or "s"] / 1000)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= _CENTURY:
        raise ValueError
    return float(value)


def _timeout(value: object) -> float:
    if (seconds := _duration(value)) == 0:
        raise ValueError
    return seconds


def _duration_or_unlimited(value: object) -> float:
    return math.inf if value == "unlimited" else _duration(value)


def _show_duration(seconds: float) -> object:
    if seconds == math.inf:
        return "unlimited"
    for unit, milliseconds in _MILLISECONDS.items():
        count = round(seconds * 1000 / milliseconds)
        if count and _duration(f"{count}{unit}") == seconds:
            return f"{count}{unit}"
    return seconds or "0s"


def _size(value: object) -> int:
    if isinstance(value, str) and (match := _SIZE.fullmatch(value)):
        size = Fraction(match[1]) * _FOLDED_BYTES[(match[2] or "B").lower()]
        value = int(size) if size.denominator == 1 else None
    if type(value) is not int or not 0 <= value <= MAX_SIZE:
        raise ValueError
    return value


def _show_size(size: int) -> object:
    for unit, factor in sorted(_BYTES.items(), key=lambda row: -row[1]):
        if factor > 1 and size and size % factor == 0:
            return f"{size // factor}{unit}"
    return size


def _rate(value: object) -> int:
    return _size(value.removesuffix("/s") if isinstance(value, str) else value)


def _show_rate(rate: int) -> object:
    size = _show_size(rate)
    return f"{size}/s" if isinstance(size, str) else f"{size}B/s"


_SAMPLES = 'such as "250ms", "90s", "5m", "1h", "7d", or a number of seconds'
NUMBER = Kind("a number above 0", _number, _number_text)
DURATION = Kind(f"a duration {_SAMPLES}", _duration, show=_show_duration)
TIMEOUT = Kind(f"a duration above 0 {_SAMPLES}", _timeout, show=_show_duration)
DURATION_OR_UNLIMITED = Kind(f'"unlimited" or a duration {_SAMPLES}', _duration_or_unlimited, show=_show_duration)
SIZE = Kind('a size such as "512MiB", "50GiB", "1GB", or a number of bytes', _size, show=_show_size)
RATE = Kind('a rate such as "1KiB/s", or a number of bytes per second', _rate, show=_show_rate)


# --- texts


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


def _flag_text(text: str) -> object:
    return _FLAGS.get(text.lower(), text)


def _printable(value: object) -> str:
    if not isinstance(value, str) or not value.isprintable():
        raise ValueError
    return value


def matching(pattern: str, allowed: str, *, secret: bool = False) -> Kind:
    def read(value: object) -> str:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise ValueError
        return value

    return Kind(allowed, read, secret=secret)


def choice(*words: str) -> Kind:
    def read(value: object) -> str:
        if not isinstance(value, str) or value.lower() not in words:
            raise ValueError
        return value.lower()

    return Kind(f"one of {', '.join(words)}", read)


def _socket(value: object) -> str:
    if len((path := _printable(value)).encode()) > _MAX_SOCKET_PATH:
        raise ValueError
    return path


FLAG = Kind("true or false", _flag, _flag_text)
PATH = Kind('a path, or "" for none', _printable)
SOCKET = Kind(f'a path of at most {_MAX_SOCKET_PATH} bytes, or "" for none', _socket)


# --- lists and tables


def _list_text(text: str) -> object:
    if text.lstrip().startswith("[") and isinstance(value := _json(text), list):
        return value
    return [part for part in (piece.strip() for piece in text.split(",")) if part]


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def several(kind: Kind, allowed: str) -> Kind:
    def read(value: object) -> tuple[object, ...]:
        if not isinstance(value, (list, tuple)):
            raise ValueError
        return tuple(kind.read(each) for each in value)

    return Kind(allowed, read, _list_text, list)


def _network(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError
    network = ipaddress.ip_network(value)
    if isinstance(network, ipaddress.IPv6Network) and network.network_address.ipv4_mapped:
        raise ValueError  # clients whose address is written so are known by their IPv4 address
    return str(network)


def _labels(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ValueError
    return {_network(network): _label(label) for network, label in value.items()}


def _label(value: object) -> str:
    if not 0 < len(label := _printable(value)) <= _LONGEST_LABEL:
        raise ValueError
    return label


_NETWORK = Kind("a network", _network)
NETWORKS = several(_NETWORK, 'a list of networks such as ["10.0.0.0/8", "fd00::/8"]')
LABELS = Kind('a table of networks and labels (1 to 64 characters) such as {"10.0.0.0/8" = "office"}', _labels, _json)
