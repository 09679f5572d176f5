from __future__ import annotations

import io
import ipaddress
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from starlette.routing import Route

from proxy import logs, settings
from proxy.metrics.counting import Counters
from proxy.model import Verdict
from proxy.rules.endpoints import TIMED
from proxy.rules.labels import Labels
from proxy.web.app import App
from proxy.web.edge import LABELS, OTHERS, Edge, Seen, request_id
from proxy.web.messages import Message, Receive, Scope, Send


def scope(path: str = "/", **fields: str) -> dict[str, Any]:
    headers = [(name.replace("_", "-").encode(), value.encode()) for name, value in fields.items()]
    return {
        "type": "http",
        "method": "GET",
        "scheme": "http",
        "raw_path": path.encode(),
        "path": path,
        "query_string": b"",
        "headers": headers,
        "client": ("192.0.2.1", 1),
        "extensions": {},
    }


def seen(endpoint: str = "crate", status: int = 200) -> Seen:
    found = Seen()
    found.client = ipaddress.ip_address("192.0.2.1")
    found.endpoint, found.status, found.path, found.verdict = endpoint, status, "/api/v1/crates/leaf", Verdict.HIT
    return found


@pytest.mark.parametrize("given", ["0123456789abcdef0123456789ABCDEF", "01234567-89ab-cdef-0123-456789abcdef"])
def test_the_id_of_a_front_server_is_taken_over(given: str) -> None:
    assert request_id(scope(x_request_id=given)) == given


@pytest.mark.parametrize(
    "given", ["", "short", "cioSecretTokenOfSomebody01234567", "a" * 65, "0123456789 abcdef", "0\r\n1234567"]
)
def test_what_may_be_a_secret_is_no_id(given: str) -> None:
    one, other = request_id(scope(x_request_id=given)), request_id(scope())
    assert given not in one or not given
    assert one != other


def test_labels_are_bounded_each_day() -> None:
    now, counters = [86400.0], Counters()
    edge = Edge(counters, Labels.of("X-Project", {}), None, lambda: now[0])

    def clients(first: int) -> set[str]:
        for number in range(first, first + LABELS + 10):
            edge(scope(x_project=f"project-{number}"), seen(), 0.001)
        return {item.name for item in counters.take().savings if item.subject == "client"}

    assert clients(0) == {f"project-{number}" for number in range(LABELS)} | {OTHERS}
    now[0] += 86400
    assert clients(1000) == {f"project-{number}" for number in range(1000, 1000 + LABELS)} | {OTHERS}


def test_an_answer_that_nobody_heard_is_not_counted() -> None:
    counters = Counters()
    Edge(counters, Labels(), None)(scope(), seen(status=0), 1.0)
    assert counters.take().counts == {}


@pytest.mark.parametrize("json_lines", [True, False])
def test_an_access_line_says_what_became_of_a_request_and_stays_one_line(json_lines: bool) -> None:
    stream = io.StringIO()
    lines = logs.AccessLines(json_lines=json_lines, stream=stream, clock=lambda: 1_700_000_000.25)
    edge = Edge(Counters(), Labels(), lines)
    edge(scope(x_request_id="01234567"), seen(), 0.00125)
    (line,) = stream.getvalue().splitlines()
    if not json_lines:
        assert line.endswith(
            ",250 INFO request=01234567 client=192.0.2.1 method=GET path=/api/v1/crates/leaf status=200 verdict=hit "
            "endpoint=crate bytes=0 ms=1.25"
        )
        return
    assert json.loads(line) == {
        "time": "2023-11-14T22:13:20.250+00:00",
        "level": "info",
        "logger": "proxy.access",
        "message": "request",
        "request": "01234567",
        "client": "192.0.2.1",
        "method": "GET",
        "path": "/api/v1/crates/leaf",
        "status": 200,
        "verdict": "hit",
        "endpoint": "crate",
        "bytes": 0,
        "ms": 1.25,
    }


def test_a_log_that_cannot_be_written_stops_nobody() -> None:
    stream = io.StringIO()
    stream.close()
    logs.AccessLines(json_lines=True, stream=stream)({"status": 200})


@pytest.mark.anyio
async def test_a_failure_of_ours_goes_by_the_name_that_the_log_has_for_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app = App(settings.load({}, None, {}, endpoints=TIMED).settings, tmp_path)
    sent: list[Message] = []

    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise ZeroDivisionError

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request"}

    class Broken:
        __call__ = staticmethod(broken)

    app._router.routes.append(Route("/broken", Broken()))
    await app(scope("/broken", x_request_id="0123456789"), receive, send)
    assert sent[0]["status"] == 500
    assert b"of request 0123456789" in sent[1]["body"]
    (record,) = caplog.records
    event: Mapping[str, object] = record.__dict__["event"]
    assert event == {"request": "0123456789", "method": "GET", "path": "/broken"}
    text = logs.TextLines().format(record)
    assert text.splitlines()[0].endswith(
        "ERROR a request failed inside this proxy request=0123456789 method=GET path=/broken"
    )
    assert json.loads(logs.JsonLines().format(record))["request"] == "0123456789"
    assert logging.ERROR == record.levelno
