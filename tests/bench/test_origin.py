"""The origin and the clients of a run, on real sockets."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bench import asks, bulk, objects, processes, raw
from tests.bench.load import Failed
from tests.bench.processes import Running


@pytest.fixture(scope="module")
def origin() -> Iterator[Running]:
    with processes.announcing(["tests.bench.origin"]) as running:
        yield running


def index(origin: Running, name: str, *fields: str) -> raw.Answered:
    return raw.asked(("127.0.0.1", origin.ports[1]), raw.get(objects.index_target(name), "origin", *fields))


def test_any_cold_crate_is_there_under_its_own_name(origin: Running) -> None:
    first, second = index(origin, "cold-00000001"), index(origin, "cold-00000002")
    assert first.status == second.status == 200
    assert b'"name":"cold-00000001"' in first.body and b'"name":"cold-00000002"' in second.body
    assert len(first.body) == len(second.body)


def test_the_origin_knows_what_has_not_changed_and_what_is_not_there(origin: Running) -> None:
    answer = index(origin, objects.INDEXED[0])
    again = index(origin, objects.INDEXED[0], f"if-none-match: {answer.headers['etag']}")
    assert (again.status, again.body) == (304, b"")
    assert index(origin, "nobody").status == 404


def test_the_origin_counts_and_can_be_far_away(origin: Running) -> None:
    before = raw.asked(origin.address, raw.get("/-/asked", "origin")).body
    assert raw.asked(origin.address, raw.get("/-/delay/200", "origin")).status == 200
    begun = time.monotonic()
    index(origin, objects.INDEXED[1])
    assert time.monotonic() - begun >= 0.2
    assert raw.asked(origin.address, raw.get("/-/delay/0", "origin")).body != before


def test_bulk_takes_whole_answers_and_nothing_else(origin: Running) -> None:
    static = ("127.0.0.1", origin.ports[2])
    target = f"/crates/{objects.LARGE[0]}/{objects.LARGE[0]}-1.0.0.crate"
    size = len(raw.asked(static, raw.get(target, "origin")).whole)
    loaded = bulk.bulk(static, [raw.get(target, "origin")], 2, 0.2)
    assert loaded.requests > 0
    assert loaded.requests * size <= loaded.bytes <= (loaded.requests + 2) * size


def test_a_crowd_waits_for_the_last_of_it(origin: Running) -> None:
    static = ("127.0.0.1", origin.ports[2])
    target = f"/crates/{objects.SMALL[0]}/{objects.SMALL[0]}-1.0.0.crate"
    size = len(raw.asked(static, raw.get(target, "origin")).whole)
    loaded = bulk.crowd(static, raw.get(target, "origin"), 30)
    assert (loaded.requests, loaded.bytes) == (30, 30 * size)


def test_a_wrong_answer_ends_a_measurement(origin: Running) -> None:
    missing = raw.get("/crates/nobody/nobody-1.0.0.crate", "origin")
    with pytest.raises(Failed, match="403"):
        bulk.bulk(("127.0.0.1", origin.ports[2]), [missing], 1, 0.2)


def test_the_empty_protocol_says_what_it_was_given_whatever_it_is_asked(tmp_path: Path) -> None:
    prepared = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
    (tmp_path / "prepared").write_bytes(prepared)
    with processes.announcing(["tests.bench.ceiling", str(tmp_path / "prepared")]) as running:
        assert raw.asked(running.address, asks.config("anything")).whole == prepared
