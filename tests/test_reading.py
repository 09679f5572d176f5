"""Answers of HTTP/1.1 byte by byte: what is one, where it ends, and what of that depends on how it comes in pieces."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from httpcore import RemoteProtocolError
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.model import Headers
from proxy.upstream.reading import LONGEST, Reading
from tests.fuzz import agreeing

OK = b"HTTP/1.1 200 OK\r\n"
LENGTH = OK + b"Content-Length: 5\r\n\r\nhello"
CHUNKS = OK + b"Transfer-Encoding: chunked\r\n\r\n"
UNFRAMED = OK + b"\r\nhello"


def heard(data: bytes, method: bytes = b"GET", *, size: int = 0, ended: bool = False) -> tuple[Reading, bytes]:
    """What has been read of these bytes, in pieces of this size, and the body."""
    reading, body = Reading(method), b""
    size = size or len(data) or 1
    for at in range(0, len(data), size):
        reading.feed(data[at : at + size])
        while reading.pieces:
            body += reading.take()
    if ended:
        reading.end()
    assert reading.size == 0
    return reading, body


def refused(data: bytes, method: bytes = b"GET", *, ended: bool = False) -> bool:
    """Whether it is, in one piece and byte by byte."""
    found = set()
    for size in (0, 1):
        try:
            heard(data, method, size=size, ended=ended)
        except RemoteProtocolError:
            found.add(True)
        else:
            found.add(False)
    assert len(found) == 1
    return found.pop()


WHOLE = {
    "a length": (LENGTH, b"hello"),
    "no body": (OK + b"content-length: 0\r\n\r\n", b""),
    "zeros before a length": (OK + b"content-length: 005\r\n\r\nhello", b"hello"),
    "white space around a length": (OK + b"Content-Length:  5 \t\r\n\r\nhello", b"hello"),
    "a chunk": (CHUNKS + b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
    "chunks": (CHUNKS + b"2\r\nhe\r\n0003\r\nllo\r\n00\r\n\r\n", b"hello"),
    "capitals": (OK + b"TRANSFER-ENCODING: Chunked\r\n\r\nA\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
    "white space around the coding": (
        OK + b"transfer-encoding: \t chunked\t \r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"hello",
    ),
    "an extension": (CHUNKS + b'5;a=b;c="d;\\""\r\nhello\r\n0;e\r\n\r\n', b"hello"),
    "trailers": (CHUNKS + b"5\r\nhello\r\n0\r\nX-A: b\r\nX-B:\r\n\r\n", b"hello"),
    "no chunks": (CHUNKS + b"0\r\n\r\n", b""),
    "no words": (b"HTTP/1.1 200\r\ncontent-length: 0\r\n\r\n", b""),
    "words beyond ASCII": (b"HTTP/1.1 404 N\xe3o\r\ncontent-length: 0\r\n\r\n", b""),
    "an unused Upgrade": (OK + b"upgrade: h2c\r\nconnection: upgrade\r\ncontent-length: 5\r\n\r\nhello", b"hello"),
    "an interim answer": (b"HTTP/1.1 103 Early\r\nlink: </a>\r\n\r\n" + LENGTH, b"hello"),
    "one with a length, which it has not": (b"HTTP/1.1 102 P\r\ncontent-length: 7\r\n\r\n" + LENGTH, b"hello"),
    "interim answers": (b"HTTP/1.1 100 Continue\r\n\r\n" * 40 + LENGTH, b"hello"),
    "a redirect": (b"HTTP/1.1 302 Found\r\ncontent-length: 5\r\n\r\nhello", b"hello"),
    "an error": (b"HTTP/1.1 599 x\r\ncontent-length: 5\r\n\r\nhello", b"hello"),
}


@pytest.mark.parametrize("size", [0, 1, 2, 7])
@pytest.mark.parametrize(("data", "body"), WHOLE.values(), ids=WHOLE)
def test_a_whole_answer_is_read_however_it_comes(data: bytes, body: bytes, size: int) -> None:
    reading, found = heard(data, size=size)
    assert (reading.done, reading.surplus, reading.lasting, reading.framed) == (True, False, True, True)
    assert found == body


@pytest.mark.parametrize(("data", "body"), WHOLE.values(), ids=WHOLE)
def test_nothing_of_it_may_be_missing(data: bytes, body: bytes) -> None:
    for end in range(len(data)):
        reading, found = heard(data[:end])
        assert not reading.done and body.startswith(found)
        with pytest.raises(RemoteProtocolError):
            reading.end()


@pytest.mark.parametrize(
    "more", [b"H", b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil", b"\r", b"\r\n", b"\0", b"0"]
)
@pytest.mark.parametrize(("data", "body"), WHOLE.values(), ids=WHOLE)
def test_what_comes_behind_its_end_is_surplus_and_never_of_its_body(data: bytes, body: bytes, more: bytes) -> None:
    for cut in {0, 1, len(data) - 2, len(data) - 1, len(data)}:  # the last one: behind its end
        reading, found = Reading(b"GET"), b""
        for piece in (data[:cut], data[cut:] + more):
            reading.feed(piece)
        while reading.pieces:
            found += reading.take()
        assert (reading.done, reading.surplus) == (True, True)
        assert found == body


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"CONNECT"])
@pytest.mark.parametrize("status", [b"200", b"204", b"304"])
@pytest.mark.parametrize("fields", [b"", b"content-length: 5\r\n", b"transfer-encoding: chunked\r\n"])
def test_some_have_no_body_whatever_they_say(method: bytes, status: bytes, fields: bytes) -> None:
    if method == b"GET" and status == b"200" or method == b"CONNECT" and status == b"304":
        return
    for size in (0, 1):
        reading, body = heard(b"HTTP/1.1 " + status + b" x\r\n" + fields + b"\r\n", method, size=size)
        assert (reading.done, reading.surplus, reading.lasting, reading.framed, body) == (True, False, True, True, b"")
        for behind in (b"5", b"5\r\nhello\r\n0\r\n\r\n", b"\r\n", b"hello"):
            reading, body = heard(b"HTTP/1.1 " + status + b" x\r\n" + fields + b"\r\n" + behind, method, size=size)
            assert (reading.surplus, body) == (True, b"")


def test_a_refused_tunnel_has_a_body() -> None:
    reading, body = heard(b"HTTP/1.1 407 x\r\ncontent-length: 5\r\n\r\nhello", b"CONNECT")
    assert reading.done and body == b"hello"


def test_where_nothing_says_where_it_ends_the_connection_does() -> None:
    for size in (0, 1):
        reading, body = heard(UNFRAMED, size=size)
        assert (reading.done, reading.framed, body) == (False, False, b"hello")
        reading.end()
        assert (reading.done, reading.lasting) == (True, False)


@pytest.mark.parametrize(
    ("data", "lasting"),
    [
        (OK + b"content-length: 0\r\n\r\n", True),
        (OK + b"content-length: 0\r\nconnection: close\r\n\r\n", False),
        (OK + b"content-length: 0\r\nConnection: a, CLOSE\r\n\r\n", False),
        (OK + b"content-length: 0\r\nconnection: keep-alive\r\nconnection: close\r\n\r\n", False),
        (OK + b"content-length: 0\r\nconnection: closed\r\n\r\n", True),
        (CHUNKS[:-2] + b"connection: close\r\n\r\n0\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 0\r\nconnection: Keep-Alive\r\n\r\n", True),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 0\r\nconnection: keep-alive, close\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\nconnection: keep-alive\r\n\r\n0\r\n\r\n", False),
        (b"HTTP/1.0 304 x\r\n\r\n", False),
    ],
)
def test_whether_another_request_may_follow(data: bytes, lasting: bool) -> None:
    reading, _ = heard(data)
    assert (reading.done, reading.lasting) == (True, lasting)


NOT_HTTP = {
    "another protocol": b"SSH-2.0-OpenSSH_9.6\r\n",
    "another protocol's answer": b"RTSP/1.0 200 OK\r\n\r\n",
    "no version": b"200 OK\r\n\r\n",
    "HTTP/0.9": b"<html>",
    "HTTP/0.9 with a head": b"HTTP/0.9 200 OK\r\n\r\n",
    "HTTP/1.2": b"HTTP/1.2 200 OK\r\n\r\n",
    "HTTP/2": b"HTTP/2.0 200 OK\r\n\r\n",
    "lower case": b"http/1.1 200 OK\r\n\r\n",
    "an empty line before": b"\r\n" + LENGTH,
    "white space before": b" " + LENGTH,
    "two spaces": b"HTTP/1.1  200 OK\r\n\r\n",
    "a tab": b"HTTP/1.1\t200 OK\r\n\r\n",
    "no status": b"HTTP/1.1 OK\r\n\r\n",
    "a short status": b"HTTP/1.1 20 OK\r\n\r\n",
    "a long status": b"HTTP/1.1 2000 OK\r\n\r\n",
    "a status below": b"HTTP/1.1 099 OK\r\n\r\n",
    "a status above": b"HTTP/1.1 600 OK\r\n\r\n",
    "another protocol from here on": b"HTTP/1.1 101 Switching\r\nupgrade: a\r\nconnection: upgrade\r\n\r\n",
    "the same without a word": b"HTTP/1.1 101 Switching\r\n\r\n",
    "a control character in the words": b"HTTP/1.1 200 O\x01K\r\n\r\n",
    "a NUL in the words": b"HTTP/1.1 200 O\0K\r\n\r\n",
    "bare line feeds": b"HTTP/1.1 200 OK\ncontent-length: 0\n\n",
    "a bare line feed behind the status": b"HTTP/1.1 200 OK\ncontent-length: 0\r\n\r\n",
    "a bare line feed behind a field": OK + b"content-length: 0\n\r\n",
    "a bare line feed for the blank line": OK + b"content-length: 0\r\n\n",
    "a bare carriage return": OK + b"x-a: b\rset-cookie: a\r\ncontent-length: 0\r\n\r\n",
    "a carriage return behind the status": b"HTTP/1.1 200 OK\r\r\n\r\n",
    "an obsolete fold": OK + b"x-a: b\r\n c\r\ncontent-length: 0\r\n\r\n",
    "an obsolete fold at the start": OK + b" x-a: b\r\n\r\n",
    "an empty fold": OK + b"x-a: b\r\n \r\n\r\n",
    "no colon": OK + b"x-a\r\n\r\n",
    "no name": OK + b": b\r\n\r\n",
    "white space before the colon": OK + b"x-a : b\r\n\r\n",
    "white space in a name": OK + b"x a: b\r\n\r\n",
    "a name beyond ASCII": OK + b"x\xe9: b\r\n\r\n",
    "a separator in a name": OK + b"x(a): b\r\n\r\n",
    "a NUL in a value": OK + b"x-a: \0\r\n\r\n",
    "a control character in a value": OK + b"x-a: \x1f\r\n\r\n",
    "a DEL in a value": OK + b"x-a: \x7f\r\n\r\n",
    "a length and chunks": OK + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
    "chunks and a length": OK + b"transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n",
    "two lengths": OK + b"content-length: 5\r\ncontent-length: 6\r\n\r\n",
    "one length twice": OK + b"content-length: 5\r\ncontent-length: 5\r\n\r\n",
    "a list of lengths": OK + b"content-length: 5, 5\r\n\r\n",
    "an empty length": OK + b"content-length:\r\n\r\n",
    "a negative length": OK + b"content-length: -5\r\n\r\n",
    "a signed length": OK + b"content-length: +5\r\n\r\n",
    "a hexadecimal length": OK + b"content-length: 0x5\r\n\r\n",
    "a broken length": OK + b"content-length: 5.0\r\n\r\n",
    "digits of Python": OK + b"content-length: 1_0\r\n\r\n",
    "digits of others": OK + "content-length: \u0665\r\n\r\n".encode(),
    "a length in two": OK + b"content-length: 5 5\r\n\r\n",
    "a huge length": OK + b"content-length: 18446744073709551616\r\n\r\n",
    "a length of many zeros": OK + b"content-length: 000000000000000000005\r\n\r\n",
    "another coding": OK + b"transfer-encoding: gzip\r\n\r\n",
    "no coding": OK + b"transfer-encoding: identity\r\n\r\n",
    "an empty coding": OK + b"transfer-encoding:\r\n\r\n",
    "two codings": OK + b"transfer-encoding: gzip, chunked\r\n\r\n",
    "chunked twice": OK + b"transfer-encoding: chunked, chunked\r\n\r\n",
    "chunked in two fields": OK + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n",
    "chunked with a parameter": OK + b"transfer-encoding: chunked;a=b\r\n\r\n",
    "chunked in quotes": OK + b'transfer-encoding: "chunked"\r\n\r\n',
    "an interim answer with chunks": b"HTTP/1.1 103 x\r\ntransfer-encoding: chunked\r\n\r\n" + LENGTH,
    "an interim answer of another protocol": b"HTTP/1.1 103 x\n\n" + LENGTH,
    "no hexadecimal size": CHUNKS + b"g\r\n",
    "a negative size": CHUNKS + b"-5\r\nhello\r\n0\r\n\r\n",
    "a size with a prefix": CHUNKS + b"0x5\r\nhello\r\n0\r\n\r\n",
    "an empty size": CHUNKS + b"\r\nhello\r\n0\r\n\r\n",
    "a size with white space": CHUNKS + b"5 \r\nhello\r\n0\r\n\r\n",
    "a size with white space before": CHUNKS + b" 5\r\nhello\r\n0\r\n\r\n",
    "a huge size": CHUNKS + b"10000000000000000\r\nhello\r\n0\r\n\r\n",
    "a bare line feed behind a size": CHUNKS + b"5\nhello\r\n0\r\n\r\n",
    "a bare line feed behind a chunk": CHUNKS + b"5\r\nhello\n0\r\n\r\n",
    "a bare line feed in an extension": CHUNKS + b"5;a\nb\r\nhello\r\n0\r\n\r\n",
    "a bare line feed in a trailer": CHUNKS + b"0\r\nx-a: b\n\r\n",
    "a bare carriage return in an extension": CHUNKS + b"5;a\rb\r\nhello\r\n0\r\n\r\n",
    "a chunk that is longer": CHUNKS + b"4\r\nhello\r\n0\r\n\r\n",
    "a chunk that is shorter": CHUNKS + b"6\r\nhello\r\n0\r\n\r\n",
    "a trailer that is none": CHUNKS + b"0\r\nx-a\r\n\r\n",
    "a length in a trailer": CHUNKS + b"5\r\nhello\r\n0\r\ncontent-length: 9\r\n\r\n",
    "a coding in a trailer": CHUNKS + b"5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "a fold in a trailer": CHUNKS + b"0\r\nx-a: b\r\n c\r\n\r\n",
}


@pytest.mark.parametrize("data", NOT_HTTP.values(), ids=NOT_HTTP)
def test_what_could_mean_two_things_is_refused(data: bytes) -> None:
    assert refused(data)


@pytest.mark.parametrize(
    ("start", "piece", "allowed"),
    [
        (b"HTTP/1.1 200 ", b"O" * 1024, LONGEST),
        (OK, b"x-a: " + b"b" * 1017 + b"\r\n", LONGEST),
        (OK + b"x-", b"a" * 1024, LONGEST),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n", LONGEST),
        (b"", b"HTTP/1.1 103 Early Hints\r\nx-a: " + b"b" * 990 + b"\r\n\r\n", LONGEST),
        (CHUNKS + b"5;", b"a" * 1024, LONGEST),
        (CHUNKS + b"5;a=", b"a" * 1024, LONGEST),
        (CHUNKS, b"0" * 1024, LONGEST),
        (CHUNKS + b"0\r\n", b"x-a: " + b"b" * 1017 + b"\r\n", LONGEST),
        (CHUNKS + b"0\r\nx-a: ", b"b" * 1024, LONGEST),
    ],
)
def test_nothing_goes_on_without_end(start: bytes, piece: bytes, allowed: int) -> None:
    reading = Reading(b"GET")
    reading.feed(start)
    taken = 0
    with pytest.raises(RemoteProtocolError):
        while taken <= 2 * allowed:
            reading.feed(piece)
            taken += len(piece)
    assert taken <= allowed


def test_a_head_may_be_long_but_not_longer_than_that_in_one_piece_either() -> None:
    long = OK + b"content-length: 0\r\nx-a: " + b"b" * (LONGEST - 100) + b"\r\n\r\n"
    reading, _ = heard(long)
    assert reading.done and len(reading.fields) == 2
    with pytest.raises(RemoteProtocolError):
        heard(OK + b"content-length: 0\r\nx-a: " + b"b" * LONGEST + b"\r\n\r\n")


def test_small_chunks_that_come_together_are_one_piece() -> None:
    reading = Reading(b"GET")
    reading.feed(CHUNKS + b"1\r\nx\r\n" * 1000)
    assert (len(reading.pieces), reading.size) == (1, 1000)


def test_a_body_with_a_length_is_handed_on_as_it_came() -> None:
    reading, piece = Reading(b"GET"), b"x" * 1000
    reading.feed(OK + b"content-length: 3000\r\n\r\n")
    for _ in range(3):
        reading.feed(piece)
    assert reading.done and all(reading.take() is piece for _ in range(3))


def test_fields_come_in_order_with_their_names_in_lower_case() -> None:
    reading, _ = heard(OK + b"B:2\r\nA: \t1 \t\r\nb: \r\nContent-Length:0\r\nC: \xe9 x\r\n\r\n")
    assert reading.fields == ((b"b", b"2"), (b"a", b"1"), (b"b", b""), (b"content-length", b"0"), (b"c", b"\xe9 x"))


def test_interim_answers_are_told_but_not_those_of_the_hop_and_not_without_number() -> None:
    told: list[tuple[int, Headers]] = []
    reading = Reading(b"GET", lambda *each: told.append(each))
    reading.feed(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nA: b\r\n\r\n")
    reading.feed(b"HTTP/1.1 199\r\n\r\n" * 20 + LENGTH)
    assert told == [(103, ((b"a", b"b"),)), *[(199, ())] * 15]
    assert reading.done


PARTS = st.sampled_from(agreeing.LINES)
BYTES = st.binary(max_size=3)


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    """Something that is nearly an answer."""
    lines = [draw(st.sampled_from(agreeing.STATUSES)), *draw(st.lists(PARTS, max_size=3))]
    if draw(st.booleans()):
        lines = [b"HTTP/1.1 103 x", draw(PARTS), b"", *lines]
    ends = draw(st.lists(st.sampled_from([b"\n", b"\r", b"\r\r\n"]), max_size=1))
    data = b"\r\n".join(lines) + b"".join(ends or [b"\r\n"]) + b"\r\n" + draw(st.sampled_from(agreeing.BODIES))
    at, strange = draw(st.integers(0, len(data))), draw(st.just(b"") | st.just(b"") | BYTES)
    return data[:at] + strange + data[at + draw(st.integers(0, 1)) * len(strange) :]


def _cut(data: bytes, at: Iterable[int]) -> list[bytes]:
    places = sorted({0, len(data), *(place % (len(data) + 1) for place in at)})
    return [data[one:other] for one, other in zip(places, places[1:], strict=False)]


@settings(max_examples=400)
@given(answers(), st.sampled_from([b"GET", b"GET", b"HEAD"]), st.lists(st.integers(0, 500), max_size=3), st.booleans())
def test_what_is_read_another_library_reads_as_well_and_in_whatever_pieces(
    data: bytes, method: bytes, at: list[int], ended: bool
) -> None:
    agreeing.agreed(method, _cut(data, at), ended)
