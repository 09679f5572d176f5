from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.model import Entry, Head, Headers, Terms
from proxy.rules import directives, storing

T = 784111777.0  # Sun, 06 Nov 1994 08:49:37 GMT
DATE = (b"date", b"Sun, 06 Nov 1994 08:49:37 GMT")
A_MINUTE_BEFORE = (b"date", b"Sun, 06 Nov 1994 08:48:37 GMT")
A_MINUTE_AFTER = (b"expires", b"Sun, 06 Nov 1994 08:50:37 GMT")
MODIFIED = (b"last-modified", b"Sun, 06 Nov 1994 08:00:00 GMT")
TAG = (b"etag", b'"a"')
CACHED = (b"cache-control", b"max-age=60")


def cc(value: bytes) -> tuple[bytes, bytes]:
    return b"cache-control", value


# What these say is about a request or its sender, not about what a URL holds.
OF_THE_REQUEST = (400, 401, 402, 403, 405, 406, 407, 408, 409, *range(411, 432))

# Status, fields -> may the answer to anybody be stored, and the answer to one with credentials?
STORABLE: list[tuple[int, Headers, bool, bool]] = [
    (200, (), False, False),
    (200, (CACHED,), True, False),
    (200, (CACHED, cc(b"public")), True, True),
    (200, (CACHED, cc(b"must-revalidate")), True, True),
    (200, (CACHED, cc(b"proxy-revalidate")), True, False),
    (200, (cc(b"s-maxage=60"),), True, True),
    (200, (cc(b"s-maxage=0, max-age=60"),), False, False),
    (200, (cc(b"max-age=0"),), False, False),
    (200, (cc(b"max-age=nonsense"),), False, False),
    (200, (cc(b"max-age=0"), TAG), True, False),
    (200, (TAG,), True, False),
    (200, (MODIFIED,), True, False),
    (200, (cc(b"public"),), False, False),
    (200, (CACHED, cc(b"no-store")), False, False),
    (200, (CACHED, cc(b"No-Store")), False, False),
    (200, (CACHED, cc(b"private")), False, False),
    (200, (CACHED, cc(b'private="x"')), True, False),
    (200, (CACHED, cc(b"no-cache")), False, False),
    (200, (CACHED, cc(b"no-cache"), TAG), True, False),
    (200, (CACHED, cc(b'no-cache="x"')), True, False),
    (200, (CACHED, cc(b"no-store, must-understand")), True, False),
    (299, (CACHED, cc(b"no-store, must-understand")), False, False),
    (299, (CACHED, cc(b"must-understand")), False, False),
    (200, (CACHED, cc(b"no-store"), (b"cdn-cache-control", b"max-age=60")), True, False),
    (200, (CACHED, (b"cdn-cache-control", b"no-store")), False, False),
    (200, (CACHED, (b"cdn-cache-control", b"private")), False, False),
    (200, (CACHED, (b"set-cookie", b"a=b")), False, False),
    (200, (CACHED, (b"vary", b"*")), False, False),
    (200, (CACHED, (b"vary", b"accept"), (b"vary", b" *")), False, False),
    (200, (CACHED, (b"vary", b"accept, cookie")), True, False),
    (200, (CACHED, (b"content-encoding", b"gzip")), True, False),
    (200, (DATE, A_MINUTE_AFTER), True, False),
    (200, (DATE, (b"expires", b"0")), False, False),
    *((status, (CACHED,), True, False) for status in (201, 203, 204, 299, 300, 301, 302, 303, 307, 308)),
    *((status, (CACHED, TAG, cc(b"public")), False, False) for status in (100, 103, 199, 206, 304)),
    *((status, (CACHED, TAG, cc(b"public")), False, False) for status in (*OF_THE_REQUEST, *range(500, 600))),
    # Of errors only an absence, and only with a lifetime of upstream's own.
    *((status, (CACHED,), True, False) for status in (404, 410, 451, 499)),
    *((status, (CACHED, cc(b"public")), True, True) for status in (404, 410)),
    (404, (DATE, A_MINUTE_AFTER), True, False),
    (404, (), False, False),
    (404, (TAG, MODIFIED, DATE, cc(b"public")), False, False),
    (404, (TAG, cc(b"max-age=0")), False, False),
    (404, (TAG, CACHED, cc(b"no-cache")), False, False),
    (404, (CACHED, cc(b"no-store")), False, False),
    (410, (CACHED, cc(b"must-understand")), False, False),
]

# Status, fields -> the lifetime that is computed when it is stored.
LIFETIMES: list[tuple[int, Headers, float]] = [
    (200, (CACHED,), 60.0),
    (200, (CACHED, cc(b"no-cache")), 0.0),
    (200, (CACHED, cc(b'no-cache="x"')), 60.0),
    (200, (DATE, (b"last-modified", A_MINUTE_BEFORE[1])), 6.0),
    (302, (DATE, (b"last-modified", A_MINUTE_BEFORE[1])), 0.0),
    (302, (DATE, (b"last-modified", A_MINUTE_BEFORE[1]), cc(b"public")), 6.0),
    (200, (DATE, (b"last-modified", A_MINUTE_BEFORE[1]), cc(b"max-age=0")), 0.0),
    (200, (TAG,), 0.0),
    (404, (CACHED,), 60.0),
    (404, (cc(b"max-age=61"),), 60.0),
    (404, (DATE, (b"last-modified", A_MINUTE_BEFORE[1]), cc(b"public")), 0.0),
]

# Fields of an answer that was requested at T - 2 and arrived at T -> its age then.
INITIAL_AGES: list[tuple[Headers, float]] = [
    ((), 2.0),
    (((b"age", b"10"),), 12.0),
    (((b"age", b"nonsense"),), 2.0),
    ((DATE,), 2.0),
    ((A_MINUTE_BEFORE,), 60.0),
    ((A_MINUTE_BEFORE, (b"age", b"10")), 60.0),
    ((A_MINUTE_BEFORE, (b"age", b"100")), 102.0),
    (((b"date", b"Sun, 06 Nov 1994 09:49:37 GMT"),), 2.0),
    (((b"date", b"nonsense"),), 2.0),
]

# Cache-Control -> the terms of its use.
TERMS: dict[bytes, Terms] = {
    b"max-age=60": Terms(),
    b"max-age=60, stale-while-revalidate=5": Terms(stale_while_revalidate=5.0),
    b"max-age=60, stale-if-error=7": Terms(stale_if_error=7.0),
    b"max-age=60, stale-if-error=x": Terms(stale_if_error=0.0),
    b"max-age=60, must-revalidate": Terms(strict=True, shared=True),
    b"max-age=60, proxy-revalidate": Terms(strict=True),
    b"s-maxage=60": Terms(strict=True, shared=True),
    b"no-cache": Terms(strict=True),
    b'max-age=60, no-cache="x"': Terms(),
    b"public": Terms(shared=True),
}

SINCE = (b"if-modified-since", MODIFIED[1])
# Fields of the stored answer -> the conditions of the next request for it.
VALIDATORS: list[tuple[Headers, Headers]] = [
    ((), ()),
    ((TAG,), ((b"if-none-match", b'"a"'),)),
    (((b"etag", b'W/"x"'),), ((b"if-none-match", b'W/"x"'),)),
    ((TAG, MODIFIED), ((b"if-none-match", b'"a"'), SINCE)),
    ((MODIFIED,), (SINCE,)),
]


def entry(*fields: tuple[bytes, bytes], body: bytes = b"body", sent: Headers = ()) -> Entry:
    return storing.stored("key", Head(200, fields), body, requested_at=T, responded_at=T, sent=sent)


@pytest.mark.parametrize(("status", "fields", "anybody", "authorized"), STORABLE)
def test_what_a_shared_cache_may_store(status: int, fields: Headers, anybody: bool, authorized: bool) -> None:
    head = Head(status, fields)
    assert storing.storable(head) is anybody
    assert storing.storable(head, authorized=True) is authorized
    assert not storing.storable(replace(head, framed=False))


@pytest.mark.parametrize(("status", "fields", "expected"), LIFETIMES)
def test_a_lifetime_is_computed_when_it_is_stored(status: int, fields: Headers, expected: float) -> None:
    found = storing.stored("key", Head(status, fields), b"", requested_at=T, responded_at=T)
    assert found.lifetime == expected


@pytest.mark.parametrize(("fields", "expected"), INITIAL_AGES)
def test_an_answer_arrives_with_an_age(fields: Headers, expected: float) -> None:
    found = storing.stored("key", Head(200, fields), b"", requested_at=T - 2, responded_at=T)
    assert found.initial_age == expected


@pytest.mark.parametrize("field", TERMS)
def test_what_upstream_says_about_its_use_is_kept(field: bytes) -> None:
    assert entry(cc(field)).terms == TERMS[field]


def test_an_absence_is_never_used_stale() -> None:
    field = cc(b"max-age=60, stale-if-error=99, stale-while-revalidate=99")
    found = storing.stored("key", Head(404, (field,)), b"", requested_at=T, responded_at=T)
    assert found.terms.strict


def test_an_answer_becomes_an_entry() -> None:
    fields = (
        (b"content-type", b"text/plain"),
        (b"etag", b'W/"x"'),
        (b"cache-control", b'max-age=600, private="a", no-cache="b, c"'),
        (b"age", b"7"),
        (b"a", b"1"),
        (b"b", b"1"),
        (b"d", b"1"),
        (b"content-length", b"4"),
        (b"vary", b"Foo"),
        (b"connection", b"e"),
        (b"e", b"1"),
        (b"server", b"s"),
    )
    found = entry(*fields, sent=((b"foo", b"1"),))
    assert found.headers == (fields[0], fields[2], (b"d", b"1"), (b"vary", b"Foo"), DATE)
    assert found.etag == 'W/"x"'
    assert found.validated
    assert found.terms.vary == ("foo",)
    assert found.terms.variant


@pytest.mark.parametrize(
    ("coding", "vary", "names"),
    [
        (b"gzip", b"", ("accept-encoding",)),
        (b"br", b"Foo", ("accept-encoding", "foo")),
        (b"zstd", b"Accept-Encoding", ("accept-encoding",)),
        (b"Identity", b"", ()),
    ],
)
def test_what_is_coded_is_for_those_who_take_the_coding(coding: bytes, vary: bytes, names: tuple[str, ...]) -> None:
    assert entry((b"content-encoding", coding), (b"vary", vary)).terms.vary == names


def test_an_answer_without_a_tag_gets_one_from_its_bytes() -> None:
    assert entry().etag == directives.entity_tag(b"body")
    assert not entry().validated


@pytest.mark.parametrize(("fields", "expected"), VALIDATORS)
def test_upstream_is_asked_by_its_own_validators_only(fields: Headers, expected: Headers) -> None:
    assert storing.validators(entry(*fields)) == expected


def test_a_304_renews_all_but_the_content() -> None:
    old = entry(TAG, DATE, CACHED, (b"x", b"old"), (b"y", b"old"), (b"vary", b"foo"), sent=((b"foo", b"1"),))
    told = (cc(b"max-age=90, must-revalidate"), (b"x", b"new"), (b"set-cookie", b"a=b"), (b"content-length", b"9"))
    found = storing.renewed(old, Head(304, told), requested_at=T + 100, responded_at=T + 101)
    assert found is not None
    assert found.headers == (
        (b"y", b"old"),
        (b"vary", b"foo"),
        cc(b"max-age=90, must-revalidate"),
        (b"x", b"new"),
        (b"date", b"Sun, 06 Nov 1994 08:51:18 GMT"),
    )
    assert (found.body, found.etag, found.lifetime, found.initial_age) == (b"body", '"a"', 90.0, 1.0)
    assert found.terms == replace(old.terms, strict=True, shared=True)
    assert found.validated


def test_a_304_that_says_nothing_leaves_the_lifetime_as_it_was() -> None:
    found = storing.renewed(entry(CACHED, MODIFIED), Head(304, (DATE,)), requested_at=T, responded_at=T)
    assert found is not None
    assert found.lifetime == 60.0
    assert storing.validators(found) == (SINCE,)


@pytest.mark.parametrize(
    ("stored", "told", "same"),
    [
        (b'"a"', b"", True),
        (b'"a"', b'"a"', True),
        (b'"a"', b'W/"a"', True),
        (b'W/"a"', b'"a"', True),
        (b'"a"', b'"b"', False),
        (b"", b'"b"', True),
    ],
)
def test_a_304_for_another_representation_renews_nothing(stored: bytes, told: bytes, same: bool) -> None:
    old = entry(*(((b"etag", stored),) if stored else ()))
    head = Head(304, ((b"etag", told),) if told else ())
    assert (storing.renewed(old, head, requested_at=T, responded_at=T) is not None) is same


# Fields of a 200 to HEAD, of a stored answer with MODIFIED and 4 bytes -> is it about the same?
HEADS: list[tuple[Headers, bool]] = [
    ((), True),
    (((b"content-length", b"4"), MODIFIED), True),
    (((b"content-length", b"5"), MODIFIED), False),
    (((b"content-length", b"4"), (b"last-modified", DATE[1])), False),
]


@pytest.mark.parametrize(("fields", "expected"), HEADS)
def test_an_answer_to_head_is_compared_with_what_is_stored(fields: Headers, expected: bool) -> None:
    assert storing.matches_head(entry(MODIFIED), Head(200, fields)) is expected
    assert not storing.matches_head(entry(MODIFIED), Head(203, fields))


FIELDS = st.lists(
    st.sampled_from(
        [
            CACHED,
            DATE,
            A_MINUTE_AFTER,
            TAG,
            MODIFIED,
            cc(b"no-store"),
            cc(b"private"),
            cc(b"x=1, No-Store"),
            cc(b"s-maxage=100"),
            cc(b"no-cache"),
            cc(b"public"),
            (b"set-cookie", b"a=b"),
            (b"vary", b"*"),
            (b"vary", b"accept-encoding"),
            (b"age", b"7"),
        ]
    ),
    max_size=6,
).map(tuple)


@given(st.integers(100, 599), FIELDS, st.booleans())
def test_what_is_storable_is_public_and_no_error(status: int, fields: Headers, authorized: bool) -> None:
    head = Head(status, fields)
    if storing.storable(head, authorized=authorized):
        said = b",".join(value for name, value in fields if name == b"cache-control").lower()
        assert 200 <= status < 500
        assert status not in OF_THE_REQUEST
        assert b"no-store" not in said
        assert b"private" not in said
        assert not any(name == b"set-cookie" or (name == b"vary" and b"*" in value) for name, value in fields)
        assert not authorized or b"public" in said or b"s-maxage" in said
        assert storing.storable(head)


@given(FIELDS.flatmap(lambda fields: st.tuples(st.just(fields), st.permutations(fields))))
def test_the_order_of_the_fields_decides_nothing(fields: tuple[Headers, list[tuple[bytes, bytes]]]) -> None:
    heads = [Head(200, tuple(order)) for order in fields]
    assert len({storing.storable(head) for head in heads}) == 1
    entries = [storing.stored("key", head, b"", requested_at=T, responded_at=T) for head in heads]
    assert len({(entry.lifetime, entry.initial_age, entry.terms, entry.validated) for entry in entries}) == 1
