"""An answer as bytes, made once; only the figures in its head that change with the second are written anew."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from proxy.rules import conditional, headers
from proxy.server import fast
from proxy.web import messages
from proxy.web.answering import Reply

JOINED = 16 * 1024
"""Bytes of a body that is kept in one piece with its head: to copy it once a second is cheaper than a second piece in
every write."""


@dataclass(slots=True)
class Tally:
    """Answers of one endpoint with one status since the start, and the bytes of their bodies."""

    requests: int = 0
    bytes: int = 0


@dataclass(slots=True)
class Prepared:
    """One coding of what is kept, from `since` until `until`, when a figure changes. `head` and `whole` answer HEAD and
    GET, `unchanged` who has it already; `whole` is None where the content has to be looked for each time. `bodies`,
    `heads` and `sames`: how often each was given; of these `counted` are in the tallies."""

    tag: str
    same: frozenset[bytes]  # what a client that has it says in nearly every case
    modified: bytes | None
    body: bytes | None
    whole_form: bytes
    unchanged_form: bytes
    size: int
    crate: str
    count_whole: Tally
    count_unchanged: Tally
    bodies: int = 0
    heads: int = 0
    sames: int = 0
    counted: tuple[int, int, int] = (0, 0, 0)
    since: float = math.inf
    until: float = -math.inf
    head: fast.Answer = (b"", b"", b"")
    whole: fast.Answer | None = None
    unchanged: fast.Answer = (b"", b"", b"")

    @classmethod
    def of(
        cls,
        whole: Reply,
        unchanged: Reply,
        counting: Mapping[bytes, bytes],
        crate: str,
        counts: tuple[Tally, Tally],
        elsewhere: int | None = None,
    ) -> Prepared:
        """`counting`: the fields that hold figures, in the order in which they stand in a head. `elsewhere`: bytes of
        a content that is not in `whole`."""
        tag = headers.value(whole.headers, b"etag") or b""
        text = tag.decode("latin-1")
        return cls(
            text,
            frozenset([tag] if conditional.not_modified(tag, None, text, None) else ()),
            headers.value(whole.headers, b"last-modified"),
            whole.body if elsewhere is None else None,
            _form(whole, counting),
            _form(unchanged, counting),
            len(whole.body) if elsewhere is None else elsewhere,
            crate,
            *counts,
        )

    def write(self, figures: tuple[object, ...], since: float, until: float, *, joined: bool) -> None:
        head, unchanged = self.whole_form % figures, self.unchanged_form % figures
        self.head, self.unchanged = (head, b"", head), (unchanged, b"", unchanged)
        if self.body is not None:
            self.whole = head, self.body, head + self.body if joined else None
        self.since, self.until = since, until

    def count(self) -> tuple[int, int]:
        """Add what was given since the last time to the tallies; how many requests and bytes that was."""
        given = self.bodies, self.heads, self.sames
        bodies, heads, sames = (new - old for new, old in zip(given, self.counted, strict=True))
        self.counted = given
        self.count_whole.requests += bodies + heads
        self.count_whole.bytes += bodies * self.size
        self.count_unchanged.requests += sames
        return bodies + heads + sames, bodies * self.size

    def part(self) -> None:
        """Let go of what is in one piece."""
        if self.whole is not None:
            self.whole = *self.whole[:2], None

    def has(self, none_match: bytes | None, modified_since: bytes | None) -> bool:
        """Whether a client that asks on these conditions has it already."""
        return none_match in self.same or conditional.not_modified(none_match, modified_since, self.tag, self.modified)


@dataclass(slots=True)
class Joined:
    """What is in one piece: at most `bound` bytes of it, then all is let go of and made anew where it is wanted."""

    bound: int
    bytes: int = 0
    pieces: dict[int, Prepared] = field(default_factory=dict)

    def takes(self, prepared: Prepared) -> bool:
        """Whether this one is to be in one piece."""
        size = len(prepared.whole_form) + prepared.size
        if prepared.body is None or prepared.size > JOINED or size > self.bound:
            return False
        if id(prepared) not in self.pieces:
            if self.bytes + size > self.bound:
                for each in self.pieces.values():
                    each.part()
                self.pieces.clear()
                self.bytes = 0
            self.pieces[id(prepared)] = prepared
            self.bytes += size
        return True


def _form(answer: Reply, counting: Mapping[bytes, bytes]) -> bytes:
    """Its head, with a place for each figure."""
    fields = messages.sent(answer.status, messages.measured(answer.headers, answer.body))
    return fast.head(
        answer.status,
        tuple((name, counting.get(name) or value.replace(b"%", b"%%")) for name, value in fields),
    )
