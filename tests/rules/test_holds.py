from __future__ import annotations

import pytest

from proxy.model import Host
from proxy.rules import holds
from proxy.rules.holds import BLOCK, LONGEST, POLICY, UNTOLD, Said, Why

API, INDEX, STATIC = Host.API, Host.INDEX, Host.STATIC
SAME_IP = "too many requests from the same IP"
BLOCKED = "This usually means that you are in violation of our API data access policy (https://crates.io/data-access)."


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        # Of an answer to a read of our own:
        (Said(API, 429, 7, "", True), (7.0, Why.TOLD)),
        (Said(INDEX, 503, 120, "", True), (120.0, Why.TOLD)),
        (Said(STATIC, 429, 10**9, "", True), (LONGEST, Why.TOLD)),
        (Said(API, 429, None, SAME_IP, True), (BLOCK, Why.LIMITED)),
        (Said(API, 429, 0, "", True), (BLOCK, Why.LIMITED)),
        (Said(INDEX, 429, None, "", True), (UNTOLD, Why.LIMITED)),
        (Said(API, 503, None, "", True), None),
        (Said(API, 500, 60, "", True), None),
        (Said(API, 403, None, BLOCKED, True), (POLICY, Why.BLOCKED)),
        (Said(API, 403, 5, "see https://crates.io/data-access", True), (POLICY, Why.BLOCKED)),
        (Said(API, 403, None, "this action requires authentication", True), None),
        (Said(STATIC, 403, None, BLOCKED, True), None),
        (Said(API, 200, 60, BLOCKED, True), None),
        # Of an answer to a caller's own request:
        (Said(API, 429, 600, "You have published too many crates", False), None),
        (Said(API, 429, None, SAME_IP, False), (BLOCK, Why.LIMITED)),
        (Said(API, 429, 30, SAME_IP, False), (30.0, Why.LIMITED)),
        (Said(API, 403, None, BLOCKED, False), None),
        (Said(API, 503, 60, "read-only", False), None),
        (Said(STATIC, 429, None, SAME_IP, False), None),
    ],
    ids=str,
)
def test_what_an_answer_means_for_the_next_request(said: Said, meant: tuple[float, Why] | None) -> None:
    assert holds.meant(said) == meant


@pytest.mark.parametrize(
    ("host", "status", "own", "wordy"),
    [
        (API, 429, True, True),
        (API, 429, False, True),
        (API, 403, True, True),
        (API, 403, False, False),
        (STATIC, 403, True, False),
        (INDEX, 429, True, False),
        (API, 200, True, False),
    ],
)
def test_only_refusals_that_may_mean_more_are_read(host: Host, status: int, own: bool, wordy: bool) -> None:
    assert holds.wordy(host, status, own=own) is wordy
