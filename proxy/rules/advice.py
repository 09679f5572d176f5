"""What to do about a trouble: one table for the errors that clients are told, one for what a component says.

It knows the words of neither: only who speaks, and the kind of an error.
"""

from __future__ import annotations

_PASSED = "crates.io's own answer, passed on as it came: see https://status.crates.io, and try again."

_HOST = (
    "What is stored is served meanwhile. See https://status.crates.io and the line of this machine; `crates-proxy "
    "doctor` tries each host."
)

# By the class of the error.
_ERRORS = {
    "Offline": "Fetch it while there is a line: `crates-proxy warm NAME@VERSION`, or carry it here with `export` and "
    "`import`.",
    "Throttled": "Nothing, where it passes: each client was told when to come again. Where it stays, clients read more "
    "of the web API than crates.io allows: longer times in [endpoints], `upstream.follow_feed`, or the index, which "
    "has no limit.",
    "Declined": "crates.io refused. Is `upstream.contact` set, so that it can tell you why?",
    "Faulty": "See https://status.crates.io and the line of this machine; `crates-proxy doctor` tries each host.",
    "Down": "The host failed again and again, and is tried again by itself. `crates-proxy doctor` tries each host.",
    "Dropped": "Nothing, where it is seldom: an idle connection was closed while a request was on its way. Else "
    "something between here and crates.io closes them early; `crates-proxy doctor` tries each host.",
    "Late": "The line or crates.io is slow: `crates-proxy doctor` measures each host. More patience: "
    "`upstream.read_timeout`.",
    "Busy": "More was asked of crates.io at once than this proxy has connections; another worker (`server.workers`) "
    "brings more.",
    "Error": "A fault of this program: the log of that time has a traceback, worth a report.",
    "Passed": _PASSED,
}

# By who says it; the first whose name begins so.
_COMPONENTS = {
    "redis": "Is the server up, reachable and within its memory? `crates-proxy doctor` asks it. Meanwhile each machine "
    "goes on by itself.",
    "cache": "Raise `cache.max_size`, or pin less (`cache.pinned`).",
    "tarballs": "Is there room on the disk (`cache.min_free`), and is it well? `crates-proxy verify` reads every "
    "tarball again.",
    "tarball": "It was not served as a whole, and is fetched anew when it is asked for. Where it comes again: "
    "`crates-proxy doctor`.",
    "api host": _HOST,
    "index host": _HOST,
    "static host": _HOST,
    "upstream": _HOST,
    "index": "Is there room on the disk below `cache.dir`, and is it well? What cannot be read is fetched anew.",
    "json": "Is there room on the disk below `cache.dir`, and is it well? What cannot be read is fetched anew.",
    "marks": "Is there room on the disk below `cache.dir`, and is it well?",
    "savings": "Is there room on the disk below `cache.dir`? What is counted meanwhile is written later.",
    "recent": "Is there room on the disk below `cache.dir`? This page may lack something meanwhile.",
    "feed": "Nothing: it is tried again by itself, and until then releases are seen when a ttl is over.",
    "pinned": "Is the lock file readable and right? `crates-proxy check` says what is missing.",
    "static": "It is fetched anew when it is asked for. `crates-proxy doctor` tries each host.",
}
_ANYTHING = "The log has more."


def of_error(kind: str, status: int = 0) -> str:
    """About an error of this class that a client was told. 429 means the same whoever has said it."""
    return _ERRORS.get("Throttled" if status == 429 else kind, _ANYTHING)


def of_component(name: str) -> str:
    """About what a component says."""
    return next((advice for start, advice in _COMPONENTS.items() if name.startswith(start)), _ANYTHING)


def trouble(happened: str) -> bool:
    """Whether what a component says is a trouble: that it works again is none, nor that it made room."""
    return not happened.endswith("works again") and not happened.startswith("evicted ")
