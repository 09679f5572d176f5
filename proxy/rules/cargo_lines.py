"""The lines of cargo's configuration that make it use this proxy, and how they get into a file that has others.

It knows TOML and no file. What it adds is marked, so that a later run finds it again.
"""

from __future__ import annotations

import tomllib
from typing import Any

from proxy.errors import Refused

BEGIN = "# >>> crates-proxy setup --write >>>"
END = "# <<< crates-proxy setup --write <<<"


def lines(index: str) -> str:
    """`index`: the URL of the index, with `sparse+` and the slash at its end."""
    return f"""\
[source.crates-io]
replace-with = "mirror"
[source.mirror]
registry = "{index}"
[registries.mirror]  # for search, publish, yank and owner: cargo ... --registry mirror
index = "{index}"
"""


def added(text: str, index: str) -> str:
    """The text of a configuration with our lines; as it is where it says the same already.

    Raises `Refused`, which says what is in the way, where it is not TOML or says something else about these tables.
    """
    block = f"{BEGIN}\n{lines(index)}{END}\n"
    ours = tomllib.loads(lines(index))
    there = _read(text)
    if _contains(there, ours):
        return text
    before, begin, rest = text.partition(f"{BEGIN}\n")
    _, end, behind = rest.partition(f"{END}\n")
    if begin and end:  # where it is, since lines behind it may belong to its last table
        after = before + block + behind
    else:
        _free(there, ours, index)
        gap = "" if not text else "\n" if text.endswith("\n") else "\n\n"
        after = text + gap + block
    _read(after)  # such as inline tables, which nothing can be added to
    return after


def _free(there: dict[str, Any], ours: dict[str, Any], index: str) -> None:
    """Raises `Refused` where one of our tables is taken."""
    for section, tables in ours.items():
        for name in tables:
            if name in there.get(section, {}):
                why = f"[{section}.{name}] is there and says something else"
                raise Refused(f"{why}; remove it, or put in by hand:\n{lines(index)}")


def _read(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Refused(f"it is not TOML that lines can be added to ({error})") from None


def _contains(there: Any, ours: Any) -> bool:
    """Does it say all that we say?"""
    if isinstance(ours, dict):
        return isinstance(there, dict) and all(key in there and _contains(there[key], ours[key]) for key in ours)
    return bool(there == ours)
