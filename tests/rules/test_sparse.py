from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.model import Crate
from proxy.rules import sparse
from proxy.rules.sparse import Release

A, B = "a" * 64, "b" * 64

PATHS = {
    "a": "1/a",
    "ab": "2/ab",
    "abc": "3/a/abc",
    "abcd": "ab/cd/abcd",
    "serde_json": "se/rd/serde_json",
    "a-_b": "a-/_b/a-_b",
}

NO_PATHS = (
    "",
    "a",
    "1/ab",
    "2/a",
    "3/b/abc",
    "ab/cd/abce",
    "Ab/cd/Abcd",
    "AB/CD/ABCD",
    "1/A",
    "1/9",
    "1/",
    "/1/a",
    "1/a/",
    "3/a/abc/",
    "ab/cd/abcd/x",
    "ab/cd/ab.d",
    "config.json",
    "../1/a",
)


def line(version: str = "1.0.0", name: str = "foo", cksum: str = A, **more: object) -> bytes:
    return json.dumps({"name": name, "vers": version, "deps": [], "cksum": cksum, **more}).encode()


def file(*lines: bytes) -> bytes:
    return b"".join(each + b"\n" for each in lines)


BAD_LINES = {
    "empty": b"",
    "no JSON": b"{1.0.0",
    "no object": b'["1.0.0"]',
    "not UTF-8": line().replace(b"foo", b"f\xff"),
    "nested beyond reason": b'{"vers": "1.0.0", "deps": ' + b"[" * 100_000,
    "a number beyond reason": b'{"vers": "1.0.0", "v": ' + b"9" * 5000 + b"}",
    "no name": line().replace(b'"name"', b'"nome"'),
    "no version": line().replace(b'"vers"', b'"version"'),
    "no checksum": line().replace(b'"cksum"', b'"sum"'),
    "name of another type": line().replace(b'"foo"', b"1"),
    "no crate name": line(name="../foo"),
    "no version number": line("1.0"),
    "short checksum": line(cksum=A[1:]),
    "long checksum": line(cksum=A + "a"),
    "checksum with a line end": line(cksum=A[1:] + "\n"),
    "no hexadecimal checksum": line(cksum="g" * 64),
    "yanked of another type": line(yanked="no"),
}


@pytest.mark.parametrize(("name", "expected"), PATHS.items())
def test_each_name_has_its_path_and_back(name: str, expected: str) -> None:
    assert sparse.path(name) == sparse.path(name.upper()) == expected
    assert sparse.name_of(expected) == name


@pytest.mark.parametrize("path", NO_PATHS)
def test_other_paths_belong_to_no_name(path: str) -> None:
    assert sparse.name_of(path) is None


@given(st.from_regex(r"[a-z][a-z0-9_-]{0,63}", fullmatch=True))
def test_the_path_of_any_name_leads_back_to_it(name: str) -> None:
    assert sparse.name_of(sparse.path(name)) == name


def test_config_names_this_proxy_and_carries_the_checksum() -> None:
    assert sparse.config("http://h:8080") == (
        b'{"dl": "http://h:8080/files/crates/{crate}/{version}/{sha256-checksum}/download", "api": "http://h:8080"}'
    )


def test_a_release_is_found_by_its_exact_version() -> None:
    content = file(
        line("1.0.0", name="Foo_Bar", cksum=A.upper()),
        line("11.0.0", yanked=True),
        line("1.0.0-a", yanked=False),
        line("1.0.0+b", yanked=None),
    )
    assert sparse.release(content, "1.0.0") == Release("Foo_Bar", "1.0.0", A, False)
    assert sparse.release(content, "11.0.0") == Release("foo", "11.0.0", A, True)
    assert sparse.release(content, "1.0.0-a") == Release("foo", "1.0.0-a", A, False)
    assert sparse.release(content, "1.0.0+b") == Release("foo", "1.0.0+b", A, False)
    assert sparse.release(content, "1.0") is None
    assert sparse.release(content, "1.0.0+c") is None
    assert sparse.release(b"", "1.0.0") is None


def test_a_release_knows_its_crate() -> None:
    assert Release("Foo", "1.0.0", A, False).crate == Crate("Foo", "1.0.0")


def test_a_version_elsewhere_in_a_line_is_not_that_lines_version() -> None:
    content = file(line("1.0.0"), line("2.0.0", cksum=B, deps=[{"name": "x", "req": "=1.0.0"}]))
    assert sparse.release(content, "1.0.0") == Release("foo", "1.0.0", A, False)


def test_an_escaped_version_is_found_too() -> None:
    content = line("1.0.0+b").replace(b"+", rb"\u002b")
    assert sparse.release(content, "1.0.0+b") == Release("foo", "1.0.0+b", A, False)


def test_of_several_lines_with_one_version_the_last_counts() -> None:
    content = file(line(cksum=A), line(cksum=B), BAD_LINES["short checksum"])
    assert sparse.release(content, "1.0.0") == Release("foo", "1.0.0", B, False)


def test_a_missing_line_end_and_carriage_returns_do_no_harm() -> None:
    assert [each.version for each in sparse.releases(line("1.0.0") + b"\r\n" + line("2.0.0"))] == [
        "1.0.0",
        "2.0.0",
    ]


@pytest.mark.parametrize("bad", BAD_LINES.values(), ids=BAD_LINES.keys())
def test_a_bad_line_is_skipped(bad: bytes) -> None:
    content = file(bad, line("2.0.0"))
    assert list(sparse.releases(content)) == [Release("foo", "2.0.0", A, False)]
    assert sparse.release(content, "1.0.0") is None
    assert sparse.release(content, "2.0.0") == Release("foo", "2.0.0", A, False)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], None),
        (["1.0.0"], "1.0.0"),
        (["1.10.0", "1.9.0"], "1.10.0"),
        (["1.0.0", "2.0.0 yanked"], "1.0.0"),
        (["1.0.0 yanked"], None),
        (["1.0.0", "2.0.0-rc.1"], "1.0.0"),
        (["1.0.0 yanked", "2.0.0-rc.2", "2.0.0-rc.10"], "2.0.0-rc.10"),
    ],
)
def test_the_newest_is_stable_and_not_yanked(lines: list[str], expected: str | None) -> None:
    content = file(*(line(each.split()[0], yanked=each.endswith(" yanked")) for each in lines))
    newest = sparse.newest(content)
    assert (newest and newest.version) == expected


@given(st.binary())
def test_no_bytes_can_upset_the_reader(content: bytes) -> None:
    assert sparse.release(content, "1.0.0") is None
    assert sparse.newest(content) is None
