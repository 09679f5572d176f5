"""Test of the suite -> why it is not passed: the rule of this project or the limit of its parts that wants it."""

from __future__ import annotations

NO_OUTAGE = "an outage (5xx) is never remembered as content, whatever its headers say"
NO_REFUSAL = "a refusal of one request is never the answer to another, whatever its headers say"
NO_GUESS = "of errors only an absence is stored, and only for a time that upstream itself gives"
NO_COOKIES = "an answer that sets a cookie is somebody's own: never stored"
NO_PARTS = "a part is never stored, only the whole; parts are served from it"

REASONS: dict[str, str] = {
    **{f"status-{status}-{age}": NO_OUTAGE for status in (500, 502, 503, 504, 599) for age in ("fresh", "stale")},
    **{f"status-400-{age}": NO_REFUSAL for age in ("fresh", "stale")},
    **{f"heuristic-{status}-cached": NO_OUTAGE for status in (501, 599)},
    **{f"heuristic-{status}-cached": NO_REFUSAL for status in (405, 414)},
    **{f"heuristic-{status}-cached": NO_GUESS for status in (404, 410)},
    "status-599-must-understand": NO_OUTAGE,
    "headers-store-Set-Cookie": NO_COOKIES,
    "other-set-cookie": NO_COOKIES,
    "headers-store-Transfer-Encoding": "an unknown transfer coding is no HTTP/1.1 that can be framed: 502",
    "headers-store-X-Frame-Options": "said for upstream's own host, not for a mirror's: never passed down",
    "method-POST": "what a change answers is never stored",
    "vary-normalise-lang-select": "which language an origin would choose is not guessed",
    "conditional-lm-fresh-no-lm": "If-Modified-Since is compared with Last-Modified; the Date is later than it anyway",
    **{
        f"partial-store-partial-{name}": NO_PARTS
        for name in (
            "reuse-partial",
            "reuse-partial-byterange",
            "reuse-partial-absent",
            "reuse-partial-suffix",
            "complete",
        )
    },
}

RETRIED = (
    "bytes that the origin sent behind an answer came so late that the next request was on that connection already and "
    "had to be sent again: a matter of chance, not of caching"
)
"""For the result `retry`, which one test or another may come to in a run."""
