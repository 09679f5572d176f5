from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from proxy.rules.digest import Digest

NOTHING = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_nothing_has_a_digest_too() -> None:
    digest = Digest(NOTHING)
    assert digest.matches()
    assert digest.size == 0


def test_the_case_of_the_expected_digits_does_not_matter() -> None:
    assert Digest(NOTHING.upper()).matches()


@given(st.lists(st.binary()))
def test_pieces_match_where_the_whole_does(pieces: list[bytes]) -> None:
    digest = Digest(hashlib.sha256(b"".join(pieces)).hexdigest())
    for piece in pieces:
        digest.update(piece)
    assert digest.matches()
    assert digest.size == len(b"".join(pieces))
    digest.update(b"x")
    assert not digest.matches()
