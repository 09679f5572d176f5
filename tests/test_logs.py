from __future__ import annotations

import json
import logging
import sys

import pytest

from proxy import logs


def test_a_repeated_event_is_told_once_and_then_with_how_often_it_happened(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    calm = logs.Calm(lambda: now[0])
    calm("index", "one")
    calm("index", "two")
    calm("json", "other")
    calm("index", "three")
    now[0] = logs.QUIET
    calm("index", "four")
    assert [record.getMessage() for record in caplog.records] == [
        "index: one",
        "json: other",
        "index: four (and 2 like it before)",
    ]


def test_a_json_line_is_json_with_a_traceback_where_there_is_one() -> None:
    try:
        raise ValueError("wrong")
    except ValueError:
        record = logging.LogRecord("proxy", logging.ERROR, "", 0, "%s failed", ("it",), sys.exc_info())
    line = json.loads(logs.JsonLines().format(record))
    assert (line["level"], line["logger"], line["message"]) == ("error", "proxy", "it failed")
    assert "ValueError: wrong" in line["traceback"]
    assert "\n" not in logs.JsonLines().format(record)
