"""The log: to stderr, one line an event, as text or JSON. Never a header field, a body or a query of a client."""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime

import orjson

QUIET = 10.0
"""Seconds between two lines about one component."""


class JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        event = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            event["traceback"] = self.formatException(record.exc_info)
        return orjson.dumps(event).decode()


class TextLines(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")


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
