"""Test of the suite -> why it is not passed: the rule of this project or the limit of its parts that wants it."""

from __future__ import annotations

NO_ERRORS = "errors are never stored on this row, so that an outage is not remembered as content"
NO_COOKIES = "an answer that sets a cookie is somebody's own: never stored"
NO_INTERIM = "the HTTP client and the server below have no 1xx answers"
NO_PARTS = "a part is never stored, only the whole; parts are served from it"

REASONS: dict[str, str] = {
    **{f"status-{status}-fresh": NO_ERRORS for status in (400, 404, 410, 499, 500, 502, 503, 504, 599)},
    **{f"status-{status}-stale": NO_ERRORS for status in (400, 404, 410, 499, 500, 502, 503, 504, 599)},
    **{f"heuristic-{status}-cached": NO_ERRORS for status in (404, 405, 410, 414, 501, 599)},
    "status-599-must-understand": NO_ERRORS,
    "headers-store-Set-Cookie": NO_COOKIES,
    "other-set-cookie": NO_COOKIES,
    "headers-store-Transfer-Encoding": "an unknown transfer coding is no HTTP/1.1 that can be framed: 502",
    "headers-store-X-Frame-Options": "said for upstream's own host, not for a mirror's: never passed down",
    **{f"interim-{name}": NO_INTERIM for name in ("102", "103", "not-cached", "no-header-reuse")},
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
    "a connection that the origin spoilt by sending more than it announced (another test's answer) was given up, "
    "and the request sent again: a matter of chance, not of caching"
)
"""For the result `retry`, which one test or another may come to in a run."""
