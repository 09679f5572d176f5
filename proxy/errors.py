"""The error tree. Each error knows the HTTP status it becomes; only `web` turns one into a response.

Error
├── Refused            this proxy refuses the request: 400, 403, 404, 405 ...
├── Offline            nothing stored and nothing may be sent upstream: 504
├── Throttled          nothing stored and nothing may be sent upstream yet: 429
├── ClientGone         the client broke off while it was sending; nobody hears the answer
├── UpstreamError
│   ├── Declined       upstream's own refusal, told in its own words: 400, 403, 404, 405, 429 ...
│   ├── Faulty         upstream answered wrongly: refused, reset, truncated, 5xx, wrong checksum: 502
│   │   ├── Dropped    an idle connection was closed while the request was on its way, which may be sent again: 502
│   │   └── Down       it has failed so often that it is left alone for a moment: 502
│   └── Late           upstream did not answer in time: 504
│       └── Busy       this proxy has no connection to upstream free: 504
└── SettingsError      what the operator wrote cannot be used; every problem at once: exit 2
"""

from __future__ import annotations

from collections.abc import Sequence


class Error(Exception):
    """Base of everything this program raises on purpose.

    `detail` is one sentence that a person can act on; it never carries a token, a cookie or a body.
    """

    status = 500

    def __init__(self, detail: str, *, status: int | None = None, retry_after: int | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after = retry_after
        if status is not None:
            self.status = status


class Refused(Error):
    """The request itself is bad, or this proxy's own rules exclude it (`status` says which)."""

    status = 400


class Offline(Error):
    """Nothing is stored that could be served, and this proxy may not ask upstream."""

    status = 504


class Throttled(Error):
    """The budget is spent, or crates.io has asked to be left alone; `retry_after` says for how long."""

    status = 429


class ClientGone(Error):
    """The client broke off while it was sending its request."""

    status = 400


class UpstreamError(Error):
    """crates.io or one of its hosts did not give what was asked for.

    answered: its status, None for no answer. unsent: nothing of the request has reached it. forwarded: why it was
    asked, as in `Outcome`.
    """

    status = 502
    answered: int | None = None
    unsent = False
    forwarded = "uri-miss"


class Declined(UpstreamError):
    """Upstream refused; `status` and `detail` are upstream's own. Never stored."""


class Faulty(UpstreamError):
    """Connection refused or reset, body truncated, 5xx, wrong checksum."""


class Dropped(Faulty):
    """Upstream closed an idle connection while a read was on its way, which is safe to repeat. Whether it has been
    counted there nobody knows."""


class Down(Faulty):
    """It failed again and again and is left alone for a moment; `retry_after` says for how long."""

    unsent = True


class Late(UpstreamError):
    """No connection or no byte within the time allowed."""

    status = 504


class Busy(Late):
    """All connections that this proxy allows itself are taken; upstream knows nothing of it."""

    unsent = True


class SettingsError(Error):
    """Settings that cannot be used. `problems` holds one line for each, all of them at once."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)
