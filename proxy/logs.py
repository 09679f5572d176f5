"""The log: to stderr, one line an event, as text or JSON. Never a header field, a body or a query of a client.

What a line says beside its message are fields, given as `extra={"event": {...}}`: in JSON beside the message, in text
behind it. Whatever looks like a token is masked, wherever it comes from: the last guard, not the only one.
"""

from __future__ import annotations

import contextlib
import logging
import math
import re
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

import orjson

from proxy.rules import secrets

_PLAIN = re.compile(r"[^\s\"=\x00-\x1f]+")
_CONTROLS = {number: f"\\x{number:02x}" for number in (*range(32), 127)}

QUIET = 10.0
"""Seconds between two lines about one component."""


class JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        event = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": secrets.text(record.getMessage()),
            **_fields(record),
        }
        if record.exc_info:
            event["traceback"] = secrets.text(self.formatException(record.exc_info))
        return _json(event)


class TextLines(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {name}={_shown(value)}" for name, value in _fields(record).items())
        # A line break in upstream's words would be a line of its own, that says what it likes.
        record.message = secrets.text(record.message + fields).translate(_CONTROLS)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:
        return secrets.text(super().formatException(ei))


class AccessLines:
    """The access log: a line for each request, written without what makes `logging` slow."""

    def __init__(self, *, json_lines: bool, stream: TextIO | None = None, clock: Callable[[], float] = time.time):
        self._stream = stream or sys.stderr
        self._written = self._as_json if json_lines else self._as_text
        self._clock = clock
        self._second = -1
        self._begun = ""

    def __call__(self, fields: Mapping[str, object]) -> None:
        """Write what a request came to. A log that cannot be written stops nobody."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(self._written(fields) + "\n")
            self._stream.flush()

    def _as_json(self, fields: Mapping[str, object]) -> str:
        time = datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="milliseconds")
        return _json({"time": time, "level": "info", "logger": "proxy.access", "message": "request", **fields})

    def _as_text(self, fields: Mapping[str, object]) -> str:
        now = self._clock()
        if int(now) != self._second:  # to write it out takes as long as all the rest
            self._second = int(now)
            self._begun = datetime.fromtimestamp(now).strftime("%Y-%m-%d %H:%M:%S")
        line = " ".join(f"{name}={_shown(value)}" for name, value in fields.items())
        return f"{self._begun},{int(now % 1 * 1000):03} INFO {line}"


def configure(*, level: str, json_lines: bool) -> None:
    """Send everything to stderr. `level` governs this program; libraries speak from `warning` on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if json_lines else TextLines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("proxy").setLevel(level.upper())


class Calm:
    """An observer that tells each thing once in a while, with how often it happened meanwhile: an outage is one
    line now and then, not one for every request."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told: dict[str, float] = {}
        self._untold: dict[str, int] = {}

    def __call__(self, what: str, happened: str) -> None:
        now = self._clock()
        if now - self._told.get(what, -math.inf) < QUIET:
            self._untold[what] = self._untold.get(what, 0) + 1
            return
        self._told[what] = now
        more = self._untold.pop(what, 0)
        suffix = f" (and {more} like it before)" if more else ""
        logging.getLogger("proxy").warning("%s: %s%s", what, happened, suffix)


def _fields(record: logging.LogRecord) -> dict[str, object]:
    event = getattr(record, "event", None)
    return {name: value for name, value in event.items()} if isinstance(event, dict) else {}


def _shown(value: object) -> str:
    """A field's value in a line of text: quoted where it could be taken for more than one."""
    if isinstance(value, str):
        return value if _PLAIN.fullmatch(value) else orjson.dumps(value).decode()
    return orjson.dumps(value, default=str).decode()


def _json(event: Mapping[str, object]) -> str:
    return orjson.dumps(event, default=str).decode()
