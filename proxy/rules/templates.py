"""Path templates as regular expressions: `{name}` is one segment, `{name*}` the rest of the path."""

from __future__ import annotations

import re


def pattern(template: str) -> re.Pattern[str]:
    """The expression of a template. A name that stands twice must match the same text twice; `{sha256}` is 64
    lower-case hex digits."""
    expression, seen = "", set[str]()
    for text, name, rest in re.findall(r"([^{]*)(?:\{(\w+)(\*?)\})?", template):
        expression += re.escape(text)
        if name and name in seen:
            expression += f"(?P={name})"
        elif name == "sha256":
            expression += "(?P<sha256>[0-9a-f]{64})"
        elif name:
            expression += f"(?P<{name}>.+)" if rest else f"(?P<{name}>[^/]+)"
        seen.add(name)
    return re.compile(expression)
