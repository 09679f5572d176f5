from __future__ import annotations

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.errors import Refused
from proxy.rules import paths

# Raw path -> canonical path, or the status with which it is refused.
PATHS: dict[bytes, str | int] = {
    b"/": "/",
    b"/a": "/a",
    b"/a/b": "/a/b",
    b"/A": "/A",
    b"/%61": "/a",
    b"/a%2Db": "/a-b",
    b"/a%7eb": "/a~b",
    b"/a%20b": "/a%20b",
    b"/a%e2%82%ac": "/a%E2%82%AC",
    b"/%ff": "/%FF",
    b"/1.0.0+a": "/1.0.0+a",
    b"/1.0.0%2ba": "/1.0.0+a",
    b"/1.0.0%2Ba": "/1.0.0+a",
    b"/a%25b": "/a%25b",
    b"/a%2525b": "/a%2525b",
    b"/a%252fb": "/a%252fb",
    b"/%252e%252e": "/%252e%252e",
    b"/a%2500": "/a%2500",
    b"/a:b@c!$&'()*,=": "/a:b@c!$&'()*,=",
    b"/a;": "/a%3B",
    b"/a%3b": "/a%3B",
    b"/a%3fb": "/a%3Fb",
    b"/a%23b": "/a%23b",
    b"/a#b": "/a%23b",
    b"/a[b]|{c}^`": "/a%5Bb%5D%7C%7Bc%7D%5E%60",
    b"/...": "/...",
    b"/.a": "/.a",
    b"/a..": "/a..",
    b"/%0a": "/%0A",
    b"/%7f": "/%7F",
    b"": 400,
    b"a": 400,
    b"*": 400,
    b"http://evil/a": 400,
    b"//": 400,
    b"//evil/a": 400,
    b"/a//b": 400,
    b"/a//": 400,
    b"/./a": 400,
    b"/.": 400,
    b"/a/.": 400,
    b"/..": 400,
    b"/a/../b": 400,
    b"/%2e%2e/a": 400,
    b"/a/%2E": 400,
    b"/a/.%2e": 400,
    b"/%2e.": 400,
    b"/a%2fb": 400,
    b"/a%2Fb": 400,
    b"/a%5cb": 400,
    b"/a%5Cb": 400,
    b"/a\\b": 400,
    b"/a%00": 400,
    b"/a\0": 400,
    b"/a b": 400,
    b"/a\tb": 400,
    b"/a\r\nb": 400,
    b"/a\x7f": 400,
    b"/\xc3\xa9": 400,
    b"/%": 400,
    b"/%4": 400,
    b"/%zz": 400,
    b"/%u0061": 400,
    b"/a/": 404,
    b"/a/b/": 404,
}

# Raw query -> parameters, None where it is refused.
QUERIES: dict[bytes, paths.Query | None] = {
    b"": (),
    b"&&": (),
    b"a=1": (("a", "1"),),
    b"a": (("a", ""),),
    b"a=": (("a", ""),),
    b"=1": (("", "1"),),
    b"b=1&a=2": (("a", "2"), ("b", "1")),
    b"a=2&b=3&a=1": (("a", "2"), ("a", "1"), ("b", "3")),
    b"a=1&&b=2&": (("a", "1"), ("b", "2")),
    b"a=1;b=2": (("a", "1;b=2"),),
    b"a=b=c": (("a", "b=c"),),
    b"q=a+b": (("q", "a b"),),
    b"q=a%20b": (("q", "a b"),),
    b"q=a%2bb": (("q", "a+b"),),
    b"%61=%62": (("a", "b"),),
    b"a=%26b%3d": (("a", "&b="),),
    b"ids%5B%5D=1&ids[]=2": (("ids[]", "1"), ("ids[]", "2")),
    b"q=%e2%82%ac": (("q", "\xe2\x82\xac"),),
    b"q=%ff": (("q", "\xff"),),
    b"q=a/../b": (("q", "a/../b"),),
    b"?": (("?", ""),),
    b"%2500": (("%00", ""),),
    b"a=%00": None,
    b"a=\0": None,
    b"a=%": None,
    b"a=%f": None,
    b"a=%zz": None,
    b"a=b c": None,
    b"a=\r\n": None,
    b"a=\x7f": None,
    b"a=\xe9": None,
}

TARGETS: dict[tuple[str, paths.Query], str] = {
    ("/a", ()): "/a",
    ("/a", (("b", ""),)): "/a?b=",
    ("/a", (("b", "c d"), ("e[]", "+&=#%"))): "/a?b=c%20d&e%5B%5D=%2B%26%3D%23%25",
    ("/a", (("b", "\xe2\x82\xac"),)): "/a?b=%E2%82%AC",
    ("/a", (("-._~", "aZ0"),)): "/a?-._~=aZ0",
    ("/a", (("", ""),)): "/a?=",
}

SEGMENT = st.lists(
    st.sampled_from(
        [b"a", b"B", b"9", b"-", b".", b"+", b";", b":", b"@", b"*", b"%2e", b"%2F", b"%41", b"%c3", b"%3f"]
    )
    | st.binary(min_size=1, max_size=1),
    max_size=5,
).map(b"".join)
RAW_PATH = st.lists(SEGMENT, max_size=4).map(lambda segments: b"/" + b"/".join(segments)) | st.binary(max_size=20)
RAW_QUERY = st.lists(
    st.sampled_from([b"a", b"b", b"=", b"&", b"&", b"+", b"%20", b"%26", b"%3D", b";", b"%", b"[]", b"/", b"?", b"%ff"])
    | st.binary(min_size=1, max_size=1),
    max_size=12,
).map(b"".join)


def canonical(raw_path: bytes, raw_query: bytes) -> str | None:
    try:
        return paths.target(paths.path(raw_path), paths.query(raw_query))
    except Refused as error:
        assert error.status in (400, 404)
        return None


@pytest.mark.parametrize("raw", PATHS)
def test_a_path_has_one_spelling_or_is_refused(raw: bytes) -> None:
    expected = PATHS[raw]
    if isinstance(expected, int):
        with pytest.raises(Refused) as caught:
            paths.path(raw)
        assert caught.value.status == expected
    else:
        assert paths.path(raw) == expected


@pytest.mark.parametrize("raw", QUERIES)
def test_a_query_is_pairs_sorted_by_name_or_is_refused(raw: bytes) -> None:
    expected = QUERIES[raw]
    if expected is None:
        with pytest.raises(Refused) as caught:
            paths.query(raw)
        assert caught.value.status == 400
    else:
        assert paths.query(raw) == expected


@pytest.mark.parametrize(("path", "query"), TARGETS)
def test_a_target_has_one_encoding(path: str, query: paths.Query) -> None:
    assert paths.target(path, query) == TARGETS[path, query]


@given(RAW_PATH)
def test_the_canonical_path_stays_what_it_is(raw: bytes) -> None:
    try:
        found = paths.path(raw)
    except Refused as error:
        assert error.status in (400, 404)
    else:
        assert paths.path(found.encode("ascii")) == found


@given(RAW_QUERY)
def test_the_canonical_query_stays_what_it_is(raw: bytes) -> None:
    try:
        found = paths.query(raw)
    except Refused as error:
        assert error.status == 400
    else:
        assert [name for name, _ in found] == sorted(name for name, _ in found)
        encoded = paths.target("", found).removeprefix("?")
        assert paths.query(encoded.encode("ascii")) == found


@given(RAW_PATH, RAW_QUERY)
@example(b"/a;", b"")
@example(b"/;", b"b=;")
@example(b"/@:", b"=")
@example(b"/a", b"?")
def test_the_http_client_sends_the_canonical_target_unchanged(raw_path: bytes, raw_query: bytes) -> None:
    target = canonical(raw_path, raw_query)
    if target is not None:
        url = httpx.URL("http://h").join(target)
        assert (url.scheme, url.host, url.port) == ("http", "h", None)
        assert url.raw_path == target.encode("ascii")


@given(RAW_PATH)
def test_a_canonical_path_holds_nothing_that_can_be_read_in_two_ways(raw: bytes) -> None:
    target = canonical(raw, b"")
    if target is not None and target != "/":
        segments = target.split("/")[1:]
        assert not {"", ".", ".."} & set(segments)
        assert not set(target) & set("?#\\; \t\r\n\0")
        assert "%2F" not in target
        assert "%5C" not in target


@given(st.lists(st.tuples(st.sampled_from([b"a", b"b", b"c"]), st.sampled_from([b"1", b"2", b"%26", b""])), max_size=6))
def test_the_order_of_parameters_of_different_names_makes_no_difference(pairs: list[tuple[bytes, bytes]]) -> None:
    sent = [b"=".join(pair) for pair in pairs]
    regrouped = [parameter for name in b"cab" for parameter in sent if parameter[0] == name]
    assert paths.query(b"&".join(sent)) == paths.query(b"&".join(regrouped))


@given(RAW_QUERY, RAW_QUERY)
def test_two_queries_that_differ_in_a_parameter_never_share_a_target(one: bytes, other: bytes) -> None:
    first, second = canonical(b"/a", one), canonical(b"/a", other)
    if first is not None and first == second:
        assert paths.query(one) == paths.query(other)
