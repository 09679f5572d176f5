"""Entries and times as bytes, for stores that keep bytes. It knows nothing of where they are kept.

What comes back is checked like what a stranger says: others may be able to write where it was kept.

The layout is part of the store's format version (`stores.envelope`): a change here is a new version there, but for
a fact that is written at the end and only where there is something to say: entries without it read as before.
"""

from __future__ import annotations

import math
import re
import struct

import orjson

from proxy.model import Coded, Entry, Terms, Witness

_LENGTH = struct.Struct("<I")
_TIME = struct.Struct("<d")
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")  # RFC 9110 section 5.6.2, lower-case
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


def encoded(entry: Entry) -> bytes:
    """An entry as bytes: the length of the facts, the facts as JSON, the body."""
    terms, witness = entry.terms, entry.witness
    facts = orjson.dumps(
        [
            entry.key,
            entry.status,
            [[name.decode("latin-1"), value.decode("latin-1")] for name, value in entry.headers],
            entry.etag,
            entry.requested_at,
            entry.responded_at,
            entry.initial_age,
            entry.lifetime,
            entry.validated,
            None if entry.gzip is None else [entry.gzip.etag, len(entry.body)],
            [
                terms.stale_while_revalidate,
                terms.stale_if_error,
                terms.strict,
                terms.shared,
                terms.vary,
                terms.variant,
            ],
            *([] if witness is None else [[witness.path, witness.validator, witness.fetched_at]]),
        ]
    )
    return b"".join((_LENGTH.pack(len(facts)), facts, entry.body, b"" if entry.gzip is None else entry.gzip.body))


def decoded(value: bytes) -> Entry | None:
    """The entry of `encoded`; None for anything else."""
    try:
        end = _LENGTH.size + _LENGTH.unpack_from(value)[0]
        key, status, fields, etag, *rest = orjson.loads(value[_LENGTH.size : end])
        requested_at, responded_at, initial_age, lifetime, validated, coded, terms, *witness = rest
        window, on_error, strict, shared, vary, variant = terms
        body, gzip = value[end:], None
        if coded is not None:
            tag, size = coded
            body, gzip = body[:size], Coded(body[size:], tag)
        entry = Entry(
            key=key,
            status=status,
            headers=tuple((name.encode("latin-1"), content.encode("latin-1")) for name, content in fields),
            body=body,
            etag=etag,
            requested_at=requested_at,
            responded_at=responded_at,
            initial_age=initial_age,
            lifetime=lifetime,
            validated=validated,
            terms=Terms(window, on_error, strict, shared, tuple(vary), variant),
            gzip=gzip,
            witness=Witness(*witness[0]) if witness else None,
        )
        return entry if _sound(entry) else None
    except (struct.error, ValueError, TypeError, AttributeError):
        return None


def _sound(entry: Entry) -> bool:
    """Whether every fact is of its type, and none would break the head of an answer."""
    terms, witness = entry.terms, entry.witness
    texts = [entry.key, terms.variant, *terms.vary, *(() if witness is None else (witness.path, witness.validator))]
    tags = [entry.etag] if entry.gzip is None else [entry.etag, entry.gzip.etag]
    numbers = [entry.requested_at, entry.responded_at, entry.initial_age, terms.stale_while_revalidate]
    numbers += [number for number in (entry.lifetime, terms.stale_if_error) if number is not None]
    numbers += [] if witness is None else [witness.fetched_at]
    return (
        type(entry.status) is int
        and 200 <= entry.status < 500  # errors are never stored
        and entry.status not in (206, 304)  # no answers of their own
        and not (entry.status == 204 and entry.body)
        and all(_NAME.fullmatch(name) and not _CONTROL.search(content) for name, content in entry.headers)
        and all(type(text) is str for text in texts)
        and not any(_CONTROL.search(tag.encode("latin-1")) for tag in tags)
        and all(type(number) in (int, float) for number in numbers)
        and all(type(flag) is bool for flag in (entry.validated, terms.strict, terms.shared))
    )


def responded_at(value: bytes) -> float:
    """The time at which upstream gave the entry of `encoded`; minus infinity for anything else."""
    entry = decoded(value)
    return -math.inf if entry is None else entry.responded_at


def encoded_time(at: float) -> bytes:
    return _TIME.pack(at)


def decoded_time(value: bytes) -> float:
    """The time of `encoded_time`; minus infinity for anything else."""
    return float(_TIME.unpack(value)[0]) if len(value) == _TIME.size else -math.inf
