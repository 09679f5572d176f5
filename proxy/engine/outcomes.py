"""How an answer that upstream's own headers govern was come by, told from what was found; nothing is done here."""

from __future__ import annotations

from dataclasses import replace

from proxy.engine.passing import Passage
from proxy.engine.shelf import Found
from proxy.model import Entry, Mark, Outcome, Verdict
from proxy.rules import headers, reuse


def outcome(verdict: Verdict, entry: Entry, mark: Mark, now: float, detail: str = "") -> Outcome:
    left = reuse.fresh_for(entry, now, mark.changed)
    return Outcome(verdict, entry, left, reuse.age(entry, now), detail=detail)


def stale_on_error(passage: Passage, found: Found, entry: Entry, now: float, status: int | None) -> Outcome:
    """What is stored, after upstream answered with `status`, or not at all (None)."""
    stale = outcome(Verdict.STALE, entry, found.mark, now, detail="stale-if-error")
    return replace(stale, forwarded=forwarded(passage, found, now), forwarded_status=status)


def forwarded(passage: Passage, found: Found, now: float) -> str:
    """Why upstream is asked, as RFC 9211 section 2.2 names it."""
    if found.entry is None and found.first is not None:  # another variant, or kept from who shows credentials
        return "miss" if authorized(passage) else "vary-miss"
    if found.entry is None:
        return "uri-miss"
    return "request" if reuse.fresh_for(found.entry, now, found.mark.changed) > 0 else "stale"


def may_be_shared(outcome: Outcome) -> bool:
    """What upstream has just answered is for others only where it could be stored for them."""
    return outcome.stored or outcome.verdict in (Verdict.HIT, Verdict.STALE)


def authorized(passage: Passage) -> bool:
    return headers.names_any(passage.headers, headers.CREDENTIALS)
