"""Pages of a list as crates.io cuts them: by `page`, or by `seek`, a key it made itself."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import TypeVar
from urllib.parse import urlencode

from tests.upstream.routes import Call
from tests.upstream.wire import Refusal

T = TypeVar("T")

PER_PAGE, MOST = 10, 100
LAST_PAGE = 200


def _number(call: Call, name: str) -> int | None:
    text = call.param(name)
    if text is None:
        return None
    if not text.isdigit():
        raise Refusal(400, f"Failed to deserialize query string: {name}: invalid digit found in string")
    if int(text) == 0:
        raise Refusal(
            400,
            f"Failed to deserialize query string: {name}: invalid value: integer `0`, expected a nonzero u32",
        )
    return int(text)


def _sought(text: str) -> int:
    try:
        return int(base64.urlsafe_b64decode(text.encode() + b"=="))
    except (binascii.Error, ValueError):
        raise Refusal(400, "invalid seek parameter") from None


def cut(
    call: Call, items: Sequence[T], *, pages: bool = True, seek: bool = True, limited: bool = False
) -> tuple[list[T], dict[str, str | int | None]]:
    """One page of `items`, and the `meta` that goes with it."""
    page, key, per_page = _number(call, "page"), call.param("seek"), _number(call, "per_page") or PER_PAGE
    if page is not None and key is not None:
        raise Refusal(400, "providing both ?page= and ?seek= is unsupported")
    if page is not None and not pages:
        raise Refusal(400, "?page= is not supported for this request")
    if key is not None and not seek:
        raise Refusal(400, "?seek= is not supported for this request")
    if page is not None and limited and page > LAST_PAGE:
        raise Refusal(
            400,
            f"Page {page} is unavailable for performance reasons. "
            "Please take a look at https://crates.io/data-access for alternatives.",
        )
    if per_page > MOST:
        raise Refusal(400, f"cannot request more than {MOST} items")
    start = _sought(key) if key else ((page or 1) - 1) * per_page
    shown = list(items[start : start + per_page])

    def link(name: str, value: object) -> str:
        others = [pair for pair in call.request.query if pair[0] not in ("page", "seek")]
        return "?" + urlencode([*others, (name, str(value))])

    after = None
    if len(shown) == per_page:
        if page is None and seek:
            place = base64.urlsafe_b64encode(str(start + per_page).encode()).decode().rstrip("=")
            after = link("seek", place)
        else:
            after = link("page", (page or 1) + 1)
    before = link("page", page - 1) if page is not None and page > 1 else None
    return shown, {"total": len(items), "next_page": after, "prev_page": before}
