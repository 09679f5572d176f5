"""The short form of the week, and that it would be noticed if a promise were broken."""

from __future__ import annotations

from dataclasses import replace

from tests.week import plan, real, report, simulation
from tests.week.books import Books
from tests.week.plan import DAY, HOUR, MINUTE
from tests.week.report import Bounds, Run
from tests.week.ways import NOTHING, Got
from tests.week.witness import Witness

SHORT = replace(plan.hours(20 * MINUTE, seed=1), jobs_an_hour=120.0)
BUSY = replace(
    plan.hours(HOUR, seed=1),
    crates=100,
    common=30,
    projects=2,
    jobs_an_hour=2.0,
    changes_a_day=2000.0,
    tool_every=12 * MINUTE,
    outages=(),
)
"""Many changes, and a tool that asks for more at once than the budget holds, then rests."""
OK = Got(200, {}, b"{}")


def test_all_is_served_within_the_budget_through_outages_and_limits() -> None:
    run = simulation.through_the_proxy(SHORT, lambda _: None, {})
    assert report.wrong(run, Bounds()) == []
    assert run.witness.total > 1000
    assert run.books.asked("api") > 300
    assert run.witness.verdicts["STALE"] > 0, "what crates.io refused in its bad hours was served all the same"


def test_without_the_proxy_the_same_clients_are_blocked() -> None:
    run = simulation.straight(SHORT, lambda _: None)
    assert run.books.refused_reads > 0
    assert run.witness.failures


def test_a_proxy_without_a_budget_is_found_out() -> None:
    without = {"upstream.requests_per_second": "100", "upstream.window_requests": "100000"}
    run = simulation.through_the_proxy(SHORT, lambda _: None, without)
    assert run.books.refused_reads > 0
    found = report.wrong(run, Bounds())
    assert f"crates.io answered {run.books.refused_reads} reads with 429" in found
    assert any("went to the API in ten minutes" in line for line in found)


def test_the_real_minutes_hold_for_some_seconds_too() -> None:
    planned = replace(plan.minutes(15.0, seed=1), crates=300, tool_at=0.5)
    run = real.run(planned, lambda _: None, {})
    assert report.wrong(run, Bounds()) == []
    assert run.books.asked("api") > 5 and run.books.asked("static") > 5
    assert run.witness.total > 30


def test_what_was_put_off_is_fetched_as_soon_as_the_budget_has_room() -> None:
    run = simulation.through_the_proxy(BUSY, lambda _: None, {"upstream.renew_ceiling": "10m"})
    assert report.wrong(run, Bounds(lacking=BUSY.lacking)) == []
    assert run.witness.details["index-unchanged"] > 100
    assert run.books.asked("api") < 0.5 * run.seconds


def test_a_version_that_is_hidden_although_there_is_room_is_found_out() -> None:
    now, asked = [100.0], [10]
    witness = Witness(lambda: now[0], lambda _: [50.0, 90.0], lambda: asked[0])
    witness.read("json", "crate", OK, 1)
    for later, more, found in ((DAY, 10, False), (1.0, 10, True), (0.0, int(DAY / 2), False)):
        now[0] += later
        asked[0] += more
        witness.read("json", "crate", OK, 1)
        witness.read("json", "another", OK, 1)
        lying = report.wrong(Run(DAY, 1, Books(), witness), Bounds())
        assert bool(lying) is found
        assert not found or lying == [
            "1 versions were hidden although the budget had room",
            "  json crate: 24.0 h, in which the API was asked 20 times",
        ]


def test_a_read_that_failed_although_it_had_been_had_is_found_out() -> None:
    witness = _witness()
    witness.saw("json", "GET", "http://p/a", NOTHING, 0.1)
    assert report.wrong(Run(60, 1, Books(), witness), Bounds()) == []
    witness.saw("json", "GET", "http://p/a", OK, 0.1)
    witness.saw("json", "GET", "http://p/a", Got(502, {}, b"no"), 0.1)
    assert report.wrong(Run(60, 1, Books(), witness), Bounds()) == [
        "1 requests failed for what had been had before",
        "  at 100: json http://p/a: 502 after 0.1 s no",
    ]


def test_an_answer_that_cargo_would_not_have_waited_for_is_a_failure() -> None:
    witness = _witness()
    for waited in (0.1, 31.0):
        witness.saw("index", "GET", "http://p/a", OK, waited)
    assert len(witness.failures) == 1


def test_a_429_that_does_not_say_for_how_long_is_found_out() -> None:
    witness = _witness()
    witness.saw("json", "GET", "http://p/a", Got(429, {"retry-after": "3"}), 0.1)
    assert report.wrong(Run(60, 1, Books(), witness), Bounds()) == []
    witness.saw("json", "GET", "http://p/b", Got(429, {}), 0.1)
    assert report.wrong(Run(60, 1, Books(), witness), Bounds())[0] == "1 answers did not keep their word"


def test_an_average_above_the_budget_is_found_out() -> None:
    books = Books()
    for at in range(0, 1300, 2):
        books.note("api", "GET", 200, float(at))
        books.note("index", "GET", 200, float(at))
    assert books.busiest_window == 300
    assert report.wrong(Run(1300, 1, books, _witness()), Bounds()) == []
    assert report.wrong(Run(600, 1, books, _witness()), Bounds()) == [
        "1.08 requests a second went to the API; 1.0 may",
    ]


def test_a_version_that_an_answer_does_not_show_is_reckoned_apart_where_the_answer_says_why() -> None:
    witness = _witness()
    witness.read("json", "crate", OK, 2)
    assert witness.withheld == {}
    witness.read("json", "crate", Got(200, {"cache-status": "crates-proxy; hit; ttl=-9; detail=stale-if-error"}), 1)
    assert witness.withheld == {"json, stale-if-error": 10.0}
    witness.read("json", "crate", OK, 1)
    assert (witness.withheld["json"], witness.outdated["json"]) == (10.0, 1)


def _witness() -> Witness:
    return Witness(lambda: 100.0, lambda _: [50.0, 90.0], lambda: 0)
