from __future__ import annotations

import time

import pytest

from proxy.rules import secrets

TOKEN = "cioAbCdEfGhIjKlMnOpQrStUvWxYz012345"
TRUSTED = "cio_tp_AbCdEfGhIjKlMnOpQrStUvWxYz0123456789"


@pytest.mark.parametrize(
    ("path", "written"),
    [
        ("/api/v1/me/crate_owner_invitations/accept/s3cret", "/api/v1/me/crate_owner_invitations/accept/***"),
        ("/api/v1/me/crate_owner_invitations/accept/s3cret/more", "/api/v1/me/crate_owner_invitations/accept/***"),
        ("/api/v1/confirm/s3cret", "/api/v1/confirm/***"),
        ("/api/v1/CONFIRM/s3cret", "/api/v1/CONFIRM/***"),
        ("/api/v1/confirm", "/api/v1/confirm"),
        (f"/api/v1/crates/{TOKEN}/x", "/api/v1/crates/***/x"),
        (f"/api/v1/crates/{TRUSTED}", "/api/v1/crates/***"),
        ("/api/v1/crates/cio-utils/1.0.0", "/api/v1/crates/cio-utils/1.0.0"),
        ("/index/se/rd/serde", "/index/se/rd/serde"),
        ("/", "/"),
    ],
)
def test_a_path_is_written_without_its_secrets(path: str, written: str) -> None:
    assert secrets.path(path) == written


@pytest.mark.parametrize(
    ("words", "there"),
    [
        (TOKEN, True),
        (f"/api/v1/crates/{TOKEN}", True),
        (f"Bearer {TOKEN}", True),
        (f"token={TRUSTED}&x", True),
        (TOKEN[:-1], False),
        (TOKEN + "x", False),
        (f"so{TOKEN}", False),
        ("/index/so/ci/socioeconomic-data-of-many-countries-and-years", False),
        ("/api/v1/crates/cio-abcdefghijklmnopqrstuvwxyz012345", False),
        ("cioabcdefghijklmnopqrstuvwxyz", False),
        ("", False),
    ],
)
def test_a_token_is_known_by_its_looks(words: str, there: bool) -> None:
    assert secrets.token_in(words) is there


@pytest.mark.parametrize(
    ("text", "written"),
    [
        (f"failed with {TOKEN}!", "failed with ***!"),
        (f"b'{TRUSTED}'", "b'***'"),
        (f"Authorization: Bearer {TOKEN}", "Authorization: Bearer ***"),
        ("authorization: bearer eyJhbGciOi.J9.x, then", "authorization: bearer ***, then"),
        ("Basic dXNlcjpwYXNz", "Basic ***"),
        (
            "crates.io answered /api/v1/crates?q=mine&page=2 with status 500",
            "crates.io answered /api/v1/crates?*** with status 500",
        ),
        ("did it answer /api/v1/crates? yes", "did it answer /api/v1/crates? yes"),
        ("/api/v1/api/v1/a?b=c /api/v1/d?e", "/api/v1/api/v1/a?*** /api/v1/d?***"),
        ("it has no /api/v1/confirm/s3cret?a=b: none", "it has no /api/v1/confirm/***?*** none"),
        ("it has no `/api/v1/me/accept/s3cret`; try", "it has no `/api/v1/me/accept/*** try"),
        ("the basics", "the basics"),
    ],
)
def test_a_text_is_written_without_what_looks_like_a_secret(text: str, written: str) -> None:
    assert secrets.text(text) == written


@pytest.mark.parametrize("part", ["/api/v1", "/api/v1/", "/api/v1/x?", "cio", "cio_", "bearer ", "Basic  "])
def test_a_long_text_takes_no_more_time_than_its_length(part: str) -> None:
    """A client's path may be in it. With the square of its length this would take minutes."""
    began = time.process_time()
    secrets.text(part * (500_000 // len(part)))
    assert time.process_time() - began < 10
