from __future__ import annotations

from proxy.metrics import savings
from proxy.metrics.savings import Field, Item, Subject

BEGUN = 1_700_000_000.0


def rows(day: str, subject: Subject, name: str, **fields: int) -> dict[tuple[str, Item], int]:
    return {(day, Item(subject, name, Field(field))): value for field, value in fields.items()}


def test_what_was_avoided_is_what_was_answered_less_what_was_asked_for() -> None:
    book = {
        **rows("2023-11-14", Subject.ENDPOINT, "index", hit=8, miss=2, served=1000, fetched=200, answered=10, asked=2),
        **rows("2023-11-15", Subject.ENDPOINT, "index", stale=1, revalidated=1, served=200, answered=2, asked=1),
        **rows("2023-11-15", Subject.ENDPOINT, "private", served=5, fetched=5, answered=1, asked=1),
        **rows("2023-11-15", Subject.ENDPOINT, "private", **{"pass": 1}),
    }
    told = savings.report(BEGUN, book)
    assert told["since"] == "2023-11-14T22:13:20Z"
    assert told["requests"] == {"hit": 8, "stale": 1, "revalidated": 1, "miss": 2, "pass": 1}
    assert told["hit_ratio"] == 0.75  # of 12 that can be cached 9 were answered without asking
    assert told["bytes"] == {"served": 1205, "fetched": 205, "avoided": 1000}
    assert told["upstream"] == {"requests": 4, "avoided": 9}
    assert list(told["endpoints"]) == ["index", "private"]
    assert told["endpoints"]["private"]["bytes"]["avoided"] == 0
    assert told["days"]["2023-11-15"]["upstream"] == {"requests": 2, "avoided": 1}
    assert told["days"]["2023-11-15"]["endpoints"]["index"]["bytes"] == {"served": 200, "fetched": 0, "avoided": 200}


def test_what_was_fetched_in_vain_counts_against_the_savings() -> None:
    told = savings.report(BEGUN, rows("2023-11-14", Subject.ENDPOINT, "download", fetched=500, asked=3))
    assert (told["bytes"]["avoided"], told["upstream"]["avoided"]) == (-500, -3)


def test_clients_are_apart_from_endpoints_and_those_beyond_a_bound_are_one() -> None:
    book = rows("2023-11-14", Subject.ENDPOINT, "index", hit=1, served=10, answered=1)
    for number in range(savings.CLIENTS + 3):
        fields = {"hit": 1, "served": 10_000 - number, "spared": 1, "spared_bytes": 10}
        book |= rows("2023-11-14", Subject.CLIENT, f"client {number:03}", **fields)
    book |= rows("2023-11-14", Subject.CLIENT, savings.OTHERS, hit=5, served=1)
    told = savings.report(BEGUN, book)
    assert told["bytes"]["served"] == 10
    assert len(told["clients"]) == savings.CLIENTS + 1
    assert told["clients"]["client 000"]["bytes"] == {"served": 10_000, "avoided": 10}
    assert told["clients"]["client 000"]["upstream"] == {"avoided": 1}
    assert told["clients"][savings.OTHERS]["requests"]["hit"] == 8


def test_the_last_days_are_told_one_by_one_and_all_are_in_the_sum() -> None:
    book: dict[tuple[str, Item], int] = {}
    for number in range(40):
        book |= rows(savings.day(BEGUN + number * 86400), Subject.ENDPOINT, "index", served=1)
    told = savings.report(BEGUN, book)
    assert told["bytes"]["served"] == 40
    assert list(told["days"]) == [savings.day(BEGUN + number * 86400) for number in range(9, 40)]


def test_a_book_that_cannot_be_read_has_no_beginning() -> None:
    told = savings.report(0.0, {})
    assert (told["since"], told["hit_ratio"], told["endpoints"]) == (None, 0.0, {})
