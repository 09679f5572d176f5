"""Does the client already have it? Conditional requests (RFC 9110 section 13) and the dates that they carry.

Knows no clock: two-digit years, whose century the RFC makes depend on today, are read as POSIX reads them.
"""

from __future__ import annotations

import re
from calendar import timegm
from datetime import date

# RFC 9110 section 8.8.3, on the value as latin-1 text. There is no way to escape a quotation mark.
_TAG = re.compile(r'(W/)?("[\x21\x23-\x7e\x80-\xff]*")[ \t]*(?:,|\Z)')
_BETWEEN = " \t,"

_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_TIME = r"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
_MONTH = rf"(?P<month>{'|'.join(_MONTHS)})"
_LONG_DAY = rf"(?:{'|'.join(_DAYS)})"
_SHORT_DAY = rf"(?:{'|'.join(day[:3] for day in _DAYS)})"

# RFC 9110 section 5.6.7: what is sent today, and two obsolete forms that recipients must still accept. Neither the
# case of letters nor the day of the week, which the rest implies, is a reason to think a date unknown.
_FORMS = (
    re.compile(rf"{_SHORT_DAY}, (?P<day>[0-9]{{2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_TIME} GMT", re.IGNORECASE),
    re.compile(rf"{_LONG_DAY}, (?P<day>[0-9]{{2}})-{_MONTH}-(?P<year>[0-9]{{2}}) {_TIME} GMT", re.IGNORECASE),
    re.compile(rf"{_SHORT_DAY} {_MONTH} (?P<day>[0-9]{{2}}| [0-9]) {_TIME} (?P<year>[0-9]{{4}})", re.IGNORECASE),
)
_CENTURY_TURN = 69  # POSIX strptime, %y: 69 to 99 are 1969 to 1999


def not_modified(
    if_none_match: bytes | None, if_modified_since: bytes | None, etag: str, last_modified: bytes | None
) -> bool:
    """Whether a GET or HEAD of this representation is answered 304.

    A field that makes no sense counts for nothing; but If-None-Match, whatever it says, silences
    If-Modified-Since (section 13.2.2).
    """
    if if_none_match is not None:
        return _names(if_none_match, etag)
    if if_modified_since is None or last_modified is None:
        return False
    since, modified = http_date(if_modified_since), http_date(last_modified)
    return since is not None and modified is not None and modified <= since


def _names(if_none_match: bytes, etag: str) -> bool:
    """Weak comparison (RFC 9110 section 8.8.3.2): `W/` makes no difference."""
    text = if_none_match.decode("latin-1").strip(_BETWEEN)
    if text == "*":
        return True
    wanted = etag.removeprefix("W/")
    position, found = 0, False
    while position < len(text):
        if text[position] in _BETWEEN:
            position += 1
        elif tag := _TAG.match(text, position):
            position, found = tag.end(), found or tag[2] == wanted
        else:
            return False
    return found


def http_date(value: bytes) -> int | None:
    """Seconds since the epoch, or None for what is no HTTP-date."""
    text = value.decode("latin-1")
    for form in _FORMS:
        if match := form.fullmatch(text):
            return _instant(match.groupdict())
    return None


def _instant(parts: dict[str, str]) -> int | None:
    year = int(parts["year"])
    if len(parts["year"]) == 2:
        year += 1900 if year >= _CENTURY_TURN else 2000
    hour, minute, second = int(parts["hour"]), int(parts["minute"]), int(parts["second"])
    if hour > 23 or minute > 59 or second > 60:  # 60 is a leap second
        return None
    try:
        day = date(year, _MONTHS.index(parts["month"].capitalize()) + 1, int(parts["day"]))
    except ValueError:
        return None
    return timegm((day.year, day.month, day.day, hour, minute, second))
