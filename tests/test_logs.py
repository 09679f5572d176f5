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


@pytest.mark.parametrize(
    ("fields", "written"),
    [
        ({"status": 200, "ok": True}, " status=200 ok=true"),
        ({"changed": "a, b", "empty": "", "equal": "a=b"}, ' changed="a, b" empty="" equal="a=b"'),
        ({"broken": "a\nb"}, ' broken="a\\nb"'),
    ],
)
def test_fields_of_an_event_stand_behind_its_message(fields: dict[str, object], written: str) -> None:
    record = logging.makeLogRecord({"msg": "it is", "levelname": "INFO", "event": fields})
    assert logs.TextLines().format(record).endswith(f"INFO it is{written}")
    line = json.loads(logs.JsonLines().format(record))
    assert fields.items() <= line.items()


def test_words_of_others_make_no_lines_of_their_own_and_tell_no_token() -> None:
    record = logging.makeLogRecord({"msg": "said: %s", "args": ("no\r\nERROR forged cioAbcdefghijklmnopqrstuvwxyz",)})
    assert logs.TextLines().format(record).endswith("said: no\\x0d\\x0aERROR forged ***")
    assert json.loads(logs.JsonLines().format(record))["message"] == "said: no\r\nERROR forged ***"


def test_a_traceback_tells_no_token() -> None:
    try:
        raise ValueError("Bearer cioAbcdefghijklmnopqrstuvwxyz")
    except ValueError:
        record = logging.LogRecord("proxy", logging.ERROR, "", 0, "it failed", (), sys.exc_info())
    for form in (logs.TextLines(), logs.JsonLines()):
        assert "ValueError: Bearer ***" in form.format(record)
