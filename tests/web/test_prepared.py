"""Answers in one piece are bounded, and as they were when they are in two again."""

from __future__ import annotations

import pytest

from proxy.web.answering import Reply
from proxy.web.prepared import JOINED, Joined, Prepared, Tally


def prepared(body: bytes, elsewhere: int | None = None) -> Prepared:
    reply = Reply(200, ((b"age", b"7"), (b"etag", b'"100%"'), (b"date", b"now")), body)
    unchanged = Reply(304, ((b"age", b"7"), (b"date", b"now")), b"")
    return Prepared.of(reply, unchanged, {b"age": b"%d"}, "leaf", (Tally(), Tally()), elsewhere)


def test_figures_are_written_anew_and_nothing_else() -> None:
    one = prepared(b"body")
    for joined in (True, False):
        one.write((8,), 1.0, 2.0, joined=joined)
        head = b'HTTP/1.1 200 OK\r\nage: 8\r\netag: "100%"\r\ndate: now\r\ncontent-length: 4\r\n\r\n'
        assert one.whole == (head, b"body", head + b"body" if joined else None)
        assert one.head == (head, b"", head)
        assert one.unchanged[0] == b"HTTP/1.1 304 Not Modified\r\nage: 8\r\ndate: now\r\n\r\n"


def test_what_was_given_is_counted_once() -> None:
    one = prepared(b"body")
    one.bodies, one.heads, one.sames = 3, 2, 1
    assert one.count() == (6, 12)
    assert one.count() == (0, 0)
    one.sames += 1
    assert one.count() == (1, 0)
    assert (one.count_whole, one.count_unchanged) == (Tally(5, 12), Tally(2, 0))


def test_what_is_elsewhere_has_a_head_alone() -> None:
    one = prepared(b"", elsewhere=12)
    one.write((8,), 1.0, 2.0, joined=False)
    assert one.whole is None and one.size == 12


def test_pieces_are_bounded_in_bytes() -> None:
    joined = Joined(10_000)
    every = [prepared(bytes(4000)) for _ in range(9)]
    for one in every:
        for _ in range(3):
            one.write((8,), 1.0, 2.0, joined=joined.takes(one))
            assert one.whole is not None and one.whole[2] is not None
        pieces = [each.whole[2] for each in every if each.whole is not None and each.whole[2] is not None]
        assert len(pieces) <= 2 and 0 <= joined.bytes - 4000 * len(pieces) < 1000


@pytest.mark.parametrize(("size", "bound"), [(JOINED + 1, 1 << 30), (100, 99), (1, 0)])
def test_what_is_too_large_stays_in_two(size: int, bound: int) -> None:
    assert not Joined(bound).takes(prepared(bytes(size)))
    assert not Joined(bound).takes(prepared(b"", elsewhere=size))
