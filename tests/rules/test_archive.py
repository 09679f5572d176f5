from __future__ import annotations

import gzip
import hashlib
import json
import math
from dataclasses import replace
from typing import Any

import pytest

from proxy.errors import Refused
from proxy.model import Coded, Crate, Entry, Terms, Witness
from proxy.rules import archive, directives, keys, sparse
from proxy.rules.archive import Coding, Copy, Tarball

NOW = 1_700_000_000.0
SHA256 = "a" * 64
LINE = json.dumps({"name": "Serde", "vers": "1.0.0", "cksum": SHA256}).encode() + b"\n"
INDEX = "index /se/rd/serde"
CRATE = "crate /api/v1/crates/serde"
OTHER = "other /api/v1/whatever?x=1"


def copy(place: str) -> Copy:
    read = keys.of_place(place)
    assert read is not None, place
    return Copy(place, read)


def entry(place: str, **changes: Any) -> Entry:
    body = LINE if place.startswith("index") else b'{"a": 1}'
    made = Entry(
        key=copy(place).read.key,
        status=200,
        headers=((b"content-type", b"application/json"), (b"link", b"<\xe9>")),
        body=body,
        etag=directives.entity_tag(body),
        requested_at=NOW - 2,
        responded_at=NOW - 1,
        initial_age=0.5,
        lifetime=60.0,
        validated=True,
    )
    return replace(made, **changes)


def told(place: str, made: Entry) -> dict[str, Any]:
    """What a member says of itself, as it comes out of an archive."""
    text = archive.printed(archive.about_copy(place, copy(place).read, made), SHA256)
    return archive.about({archive.ABOUT: text})


CARRIED = {
    "index": (INDEX, entry(INDEX)),
    "json": (CRATE, entry(CRATE)),
    "renewable": (CRATE, entry(CRATE, witness=Witness("se/rd/serde", "a" * 64, NOW - 1))),
    "no lifetime": (CRATE, entry(CRATE, lifetime=None, validated=False)),
    "readme": ("readme /readmes/a/a-1.0.0%2Bb.html", entry("readme /readmes/a/a-1.0.0%2Bb.html")),
    "redirect": (OTHER, entry(OTHER, status=301)),
    "variant": (OTHER + " 3", entry(OTHER, terms=Terms(5.0, 6.0, True, True, ("accept",), "b" * 64))),
    "terms": (OTHER, entry(OTHER, terms=Terms(stale_while_revalidate=1.0))),
}


@pytest.mark.parametrize(("place", "made"), CARRIED.values(), ids=CARRIED.keys())
def test_an_answer_comes_out_as_it_went_in(place: str, made: Entry) -> None:
    about = told(place, made)
    content = archive.content(archive.copy_name(place, copy(place).read), about)
    assert content == copy(place)
    assert archive.entry(content, about, made.body, None, NOW) == made


def test_names_tell_what_a_member_is() -> None:
    assert archive.copy_name(INDEX, copy(INDEX).read) == "index/se/rd/serde"
    assert archive.copy_name(CRATE, copy(CRATE).read) == f"answers/{hashlib.sha256(CRATE.encode()).hexdigest()}"
    tarball = archive.tarball_name(Crate("a-b", "1.0.0+x"))
    assert tarball == "crates/a-b/a-b-1.0.0+x.crate"
    assert archive.content(tarball, {}) == Tarball(Crate("a-b", "1.0.0+x"))
    assert archive.content("index/se/rd/serde.gz", {}) == Coding("index/se/rd/serde")


@pytest.mark.parametrize(
    ("name", "about"),
    [
        ("../../etc/passwd", {}),
        ("/etc/passwd", {}),
        ("", {}),
        ("index/../../se/rd/serde", {}),
        ("index//etc/passwd", {}),
        ("index/se/rd/other", {}),
        ("index/config.json", {}),
        ("crates/a/b-1.0.0.crate", {}),
        ("crates/a/a-1.crate", {}),
        ("crates/../..-1.0.0.crate", {}),
        ("crates/-/--1.0.0.crate", {}),
        ("answers/x", {}),
        ("answers/" + SHA256, {"key": CRATE}),
        (archive.copy_name(CRATE, copy(CRATE).read), {"key": 1}),
        ("answers/" + hashlib.sha256(INDEX.encode()).hexdigest(), {"key": INDEX}),
        ("answers/" + hashlib.sha256(b"nonsense /x").hexdigest(), {"key": "nonsense /x"}),
    ],
)
def test_a_name_that_means_nothing_is_refused(name: str, about: dict[str, Any]) -> None:
    with pytest.raises(Refused, match="not known here"):
        archive.content(name, about)


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, "{}", '{"sha256": 1}', '{"sha256": "AB"}'])
def test_a_member_must_tell_its_checksum(text: str) -> None:
    with pytest.raises(Refused, match="does not tell its checksum"):
        archive.about({archive.ABOUT: text} if text else {})


def test_the_first_member_tells_the_format_and_its_version() -> None:
    archive.check_beginning(archive.BEGINNING)
    with pytest.raises(Refused, match="version 2 of its format; this release reads 1"):
        archive.check_beginning(b'{"format": "crates-proxy-archive", "version": 2}')
    for other in (b"", b"{}", b"[]", b"[" * 100_000, b'{"format": "x", "version": 1}', b"\xff"):
        with pytest.raises(Refused, match="no archive"):
            archive.check_beginning(other)


def test_a_stranger_need_not_tell_more_than_the_time() -> None:
    made = archive.entry(copy(INDEX), {"responded_at": NOW - 5}, LINE, None, NOW)
    assert made.etag == directives.entity_tag(LINE)
    assert (made.status, made.headers, made.requested_at, made.responded_at) == (200, (), NOW - 5, NOW - 5)
    assert (made.validated, made.lifetime, made.terms) == (False, None, Terms())


def test_what_comes_from_the_future_comes_from_now() -> None:
    made = archive.entry(copy(INDEX), {"responded_at": NOW + 5000, "requested_at": NOW + 4000}, LINE, None, NOW)
    assert (made.requested_at, made.responded_at) == (NOW, NOW)


WRONG = {
    "no time": ({"responded_at": None}, "not complete"),
    "a text as time": ({"responded_at": "1"}, "not complete"),
    "no number": ({"responded_at": math.nan}, "one of its times is none"),
    "for ever": ({"responded_at": math.inf}, "one of its times is none"),
    "before the epoch": ({"initial_age": -1}, "one of its times is none"),
    "a lifetime without end": ({"lifetime": math.inf}, "one of its times is none"),
    "an error": ({"status": 500}, "status 500 is not stored"),
    "a redirect of an index file": ({"status": 301}, "status 301 is not stored"),
    "a tag without quotes": ({"etag": "x"}, "its entity tag is none"),
    "a tag with a line feed": ({"etag": '"\n"'}, "its entity tag is none"),
    "a split header": ({"headers": [["link", "a\r\nset-cookie: b"]]}, "one of its header fields is none"),
    "a header's name": ({"headers": [["Link", "a"]]}, "one of its header fields is none"),
    "a header of three": ({"headers": [["link", "a", "b"]]}, "one of its header fields is none"),
    "a list as terms": ({"terms": []}, "not complete"),
    "a witness of what needs none": ({"witness": ["se/rd/serde", "x", NOW]}, "its witness"),
    "a witness that is none": ({"witness": "x"}, "its witness"),
}


@pytest.mark.parametrize(("changes", "why"), WRONG.values(), ids=WRONG.keys())
def test_what_cannot_be_is_refused(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(Refused, match=why):
        archive.entry(copy(INDEX), {**told(INDEX, entry(INDEX)), **changes}, LINE, None, NOW)


def test_the_witness_is_the_index_file_of_the_very_crate() -> None:
    said = told(CRATE, entry(CRATE)) | {"witness": ["li/bc/libc", "x", NOW]}
    with pytest.raises(Refused, match="its witness is not the index file of its crate"):
        archive.entry(copy(CRATE), said, b'{"a": 1}', None, NOW)


@pytest.mark.parametrize(
    "terms",
    [
        {"strict": 1},
        {"vary": ["A b"]},
        {"vary": [1]},
        {"vary": ["accept"], "variant": "x"},
        {"variant": "b" * 64},
        {"shared": None},
    ],
)
def test_terms_that_cannot_be_are_refused(terms: dict[str, Any]) -> None:
    with pytest.raises(Refused, match="about its use"):
        archive.entry(copy(OTHER), {"responded_at": NOW, "terms": terms}, b"{}", None, NOW)


def test_terms_that_have_no_place_are_dropped_and_so_are_fields_that_are_not_stored() -> None:
    fields = [["set-cookie", "a=b"], ["etag", '"x"'], ["content-type", "text/plain"], ["connection", "close"]]
    about = {"responded_at": NOW, "terms": {"strict": True}, "headers": fields}
    made = archive.entry(copy(INDEX), about, LINE, None, NOW)
    assert (made.terms, made.headers) == (Terms(), ((b"content-type", b"text/plain"),))


@pytest.mark.parametrize(
    ("place", "body", "why"),
    [
        (INDEX, b"<html>", "holds no line of an index file"),
        (INDEX, LINE + LINE.replace(b"Serde", b"other"), "tells of another crate"),
        (CRATE, b"<html>", "not JSON"),
        (CRATE, b'{"errors": [{"detail": "gone"}]}', "gone"),
    ],
)
def test_content_that_upstream_would_not_be_believed_is_not_believed_here(place: str, body: bytes, why: str) -> None:
    about = {"responded_at": NOW, "headers": [["content-type", "application/json"]]}
    with pytest.raises(Refused, match=why):
        archive.entry(copy(place), about, body, None, NOW)


def test_what_upstream_governs_may_be_anything() -> None:
    assert archive.entry(copy(OTHER), {"responded_at": NOW}, b"<html>", None, NOW).body == b"<html>"


def test_the_gzip_form_must_be_that_of_the_very_body() -> None:
    data = gzip.compress(LINE)
    assert archive.coded({"etag": '"x"'}, data, LINE) == Coded(data, '"x"')
    assert archive.coded({}, data, LINE) == Coded(data, directives.entity_tag(data))
    for wrong in (gzip.compress(LINE + b"x"), gzip.compress(LINE[:-1]), b"x", gzip.compress(bytes(10**7))):
        with pytest.raises(Refused, match="not the gzip form"):
            archive.coded({}, wrong, LINE)
    with pytest.raises(Refused, match="entity tag"):
        archive.coded({"etag": None}, data, LINE)


def test_a_line_of_the_manifest_is_one_of_sha256sum() -> None:
    assert archive.line(SHA256, "index/a") == b"a" * 64 + b"  index/a\n"


def test_absences_and_errors_are_not_carried() -> None:
    assert [archive.carried(entry(OTHER, status=status)) for status in (200, 301, 404, 500)] == [
        True,
        True,
        False,
        False,
    ]


PLACES = [INDEX, CRATE, OTHER, OTHER + " 15", "search /api/v1/crates?q=a%20b", "readme /readmes/a/a-1.0.0%2Bb.html"]


@pytest.mark.parametrize("place", PLACES)
def test_a_place_leads_back_to_the_read_that_is_stored_there(place: str) -> None:
    read = keys.of_place(place)
    assert read is not None and place in (read.key, f"{read.key} 15")


def test_a_place_tells_the_crate() -> None:
    read = keys.of_place("index /mi/xe/mixed_name-rs")
    assert read is not None and read.tag == "mixed-name-rs"
    assert read == keys.index_read(sparse.path("mixed_name-rs"))


@pytest.mark.parametrize(
    "place",
    [
        "",
        "crate",
        "nothing /api/v1/crates/serde",
        "download /crates/a/a-1.0.0.crate",
        "versions /api/v1/crates/serde",
        "crate /api/v1/crates/Serde_json",
        "crate /api/v1/crates/serde 3",
        "crate /api/v1/crates/serde?",
        "crate /api/v1/crates/serde/",
        "other /api/v1/whatever 16",
        "other /api/v1/whatever x",
        "other /api/v1/é",
        "search /api/v1/crates?b=1&a=1",
        "search /api/v1/crates?following=1",
        "index /config.json",
        "index /../x",
        "private /api/v1/me",
    ],
)
def test_a_place_that_is_never_made_leads_nowhere(place: str) -> None:
    assert keys.of_place(place) is None
