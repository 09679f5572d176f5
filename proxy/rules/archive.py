"""What lies in an archive of a cache, and what its members say of themselves. `deploy/archive.md` tells the format.

A member's name says what it is, never where anything is to be written. What a member says of itself is checked here
like what a stranger says; whether its bytes are right, the reader finds out.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from proxy.errors import Refused
from proxy.model import Coded, Crate, Entry, Headers, Terms, Witness
from proxy.rules import bodies, codings, directives, headers, keys, names, renewal, sparse
from proxy.rules.endpoints import Kind
from proxy.rules.keys import Read

FORMAT, VERSION = "crates-proxy-archive", 1
BEGINNING = json.dumps({"format": FORMAT, "version": VERSION}).encode() + b"\n"
"""The bytes of the first member, whose name is `FORMAT`."""
MANIFEST = "MANIFEST"
"""The name of the last member: the checksum and the name of each one before it, as sha256sum writes them."""
ABOUT = "CRATESPROXY.about"
"""The keyword of the pax record in which a member tells about itself, as a JSON object."""
CODED = ".gz"

_TARBALL = re.compile(r"crates/([^/]+)/\1-([^/]+)\.crate")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FIELD = re.compile(r"[!#$%&'*+\-.^_`|~0-9a-z]+")  # RFC 9110 section 5.6.2, lower-case
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_TAG = re.compile(r'(W/)?"[\x21\x23-\x7e\x80-\xff]*"')
_LATEST = 1e15  # seconds; some whole numbers of JSON are too large to become a float
_DEFAULTS: Mapping[str, Any] = {
    "status": 200,
    "headers": [],
    "etag": None,
    "requested_at": None,
    "initial_age": 0,
    "lifetime": None,
    "validated": False,
    "terms": {},
}


@dataclass(frozen=True, slots=True)
class Tarball:
    crate: Crate


@dataclass(frozen=True, slots=True)
class Copy:
    """A stored answer, an index file among them. `place`: the key under which it is stored."""

    place: str
    read: Read


@dataclass(frozen=True, slots=True)
class Coding:
    """The gzip form of the member right before it, whose name is `of`."""

    of: str


Content = Tarball | Copy | Coding


def tarball_name(crate: Crate) -> str:
    """As on the static host."""
    return f"crates/{crate.name}/{crate.name}-{crate.version}.crate"


def copy_name(place: str, read: Read) -> str:
    """An index file lies as in the index; for other answers there is no telling name."""
    if read.endpoint.kind is Kind.INDEX:
        return f"index{read.target}"
    return f"answers/{hashlib.sha256(place.encode()).hexdigest()}"


def carried(entry: Entry) -> bool:
    """Whether it goes into an archive: absences and errors do not."""
    return 200 <= entry.status < 400


def about_copy(place: str, read: Read, entry: Entry) -> dict[str, Any]:
    """What a member tells about the answer that it is, beside its checksum."""
    told: dict[str, Any] = {} if read.endpoint.kind is Kind.INDEX else {"key": place}
    told |= {
        "status": entry.status,
        "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in entry.headers],
        "etag": entry.etag,
        "requested_at": entry.requested_at,
        "responded_at": entry.responded_at,
        "initial_age": entry.initial_age,
        "lifetime": entry.lifetime,
        "validated": entry.validated,
    }
    if entry.witness is not None:
        told["witness"] = [entry.witness.path, entry.witness.validator, entry.witness.fetched_at]
    return told if entry.terms == Terms() else told | {"terms": asdict(entry.terms)}


def printed(about: Mapping[str, Any], sha256: str) -> str:
    return json.dumps({**about, "sha256": sha256}, sort_keys=True, allow_nan=False)


def about(records: Mapping[str, str]) -> dict[str, Any]:
    """What a member tells about itself. Raises `Refused` where it does not tell its checksum at least."""
    try:
        told = json.loads(records.get(ABOUT, ""))
    except (ValueError, RecursionError):
        told = None
    match told:
        case {"sha256": str(sha256)} if _SHA256.fullmatch(sha256):
            return dict(told)
    raise Refused(f"it does not tell its checksum: it has no record {ABOUT} with sha256")


def check_beginning(body: bytes) -> None:
    """Raises `Refused` where the first member is not what this release reads."""
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        told = None
    match told:
        case {"format": "crates-proxy-archive", "version": int(version)}:
            if version != VERSION:
                raise Refused(f"the archive has version {version} of its format; this release reads {VERSION}")
        case _:
            raise Refused("this is no archive that `crates-proxy export` made")


def content(name: str, told: Mapping[str, Any]) -> Content:
    """What a member is. Raises `Refused` for a name that means nothing here."""
    if name.endswith(CODED):
        return Coding(name.removesuffix(CODED))
    if found := _TARBALL.fullmatch(name):
        crate = Crate(found[1], found[2])
        if names.is_name(crate.name) and names.is_version(crate.version):
            return Tarball(crate)
    elif name.startswith("index/"):
        place = f"index {name.removeprefix('index')}"
        if (read := keys.of_place(place)) is not None:
            return Copy(place, read)
    elif isinstance(key := told.get("key"), str):
        read = keys.of_place(key)
        if read is not None and read.endpoint.kind is not Kind.INDEX and name == copy_name(key, read):
            return Copy(key, read)
    raise Refused("such a member is not known here")


def entry(copy: Copy, told: Mapping[str, Any], body: bytes, gzip: Coded | None, now: float) -> Entry:
    """The answer that a member is. Raises `Refused` where what it tells about itself cannot be."""
    match {**_DEFAULTS, **told}:
        case {
            "status": int(status),
            "headers": list(fields),
            "etag": str() | None as etag,
            "requested_at": int() | float() | None as requested_at,
            "responded_at": int() | float() as responded_at,
            "initial_age": int() | float() as initial_age,
            "lifetime": int() | float() | None as lifetime,
            "validated": bool(validated),
            "terms": dict(terms),
        }:
            pass
        case _:
            raise Refused("what it tells about itself is not complete or of a wrong type")
    # A clock that runs ahead where it was made must not make it newer than anything that will ever come.
    at = min(_finite(responded_at), now)
    sent = at if requested_at is None else min(_finite(requested_at), at)
    made = Entry(
        key=copy.read.key,
        status=status,
        headers=_kept(copy.read, fields),
        body=body,
        etag=_tag(directives.entity_tag(body) if etag is None else etag),
        requested_at=sent,
        responded_at=at,
        initial_age=_finite(initial_age),
        lifetime=None if lifetime is None else _finite(lifetime),
        validated=validated,
        terms=_terms(copy.read, terms),
        gzip=gzip,
        witness=_witness(copy.read, told.get("witness"), now),
    )
    _check(copy.read, made)
    return made


def coded(told: Mapping[str, Any], data: bytes, body: bytes) -> Coded:
    """The gzip form of `body` that a member is. Raises `Refused` where it is not that."""
    if codings.decoded(data, len(body)) != body:
        raise Refused("it is not the gzip form of the member before it")
    return Coded(data, _tag(told.get("etag", directives.entity_tag(data))))


def line(sha256: str, name: str) -> bytes:
    """A line of the manifest. A name with a backslash or a line feed has none (such are refused elsewhere)."""
    return f"{sha256}  {name}\n".encode()


def _check(read: Read, made: Entry) -> None:
    transparent = read.endpoint.kind is Kind.TRANSPARENT
    if not carried(made) or not (transparent or made.status == 200):
        raise Refused(f"an answer with status {made.status} is not stored")
    if transparent:
        return
    kind = headers.value(made.headers, b"content-type") or b""
    fault = bodies.fault(read.endpoint.kind, kind, made.body, read.tag)
    if fault is not None:
        raise Refused(f"its content is wrong: {fault}")
    if read.endpoint.kind is Kind.INDEX:
        own = sparse.name_of(read.target[1:])
        if any(release.name.lower() != own for release in sparse.releases(made.body)):
            raise Refused("its content is wrong: it tells of another crate")


def _kept(read: Read, fields: list[Any]) -> Headers:
    """The header fields that are stored of an answer of this row."""
    made: list[tuple[bytes, bytes]] = []
    for field in fields:
        match field:
            case [str(name), str(value)] if _FIELD.fullmatch(name) and _VALUE.fullmatch(value):
                made.append((name.encode("latin-1"), value.encode("latin-1")))
            case _:
                raise Refused("one of its header fields is none")
    if read.endpoint.kind is Kind.TRANSPARENT:
        return headers.kept_transparently(tuple(made))
    return tuple(item for item in headers.kept(tuple(made)) if item[0] != b"etag")


def _witness(read: Read, told: object, now: float) -> Witness | None:
    """The index file that may renew an answer: the crate's own, or none."""
    match told:
        case None:
            return None
        case [str(path), str(validator), int() | float() as fetched_at] if (
            read.endpoint.renewable and path in renewal.paths(read.name, read.tag)
        ):
            return Witness(path, validator, min(_finite(fetched_at), now))
    raise Refused("its witness is not the index file of its crate")


def _terms(read: Read, told: dict[Any, Any]) -> Terms:
    """Only where upstream's own headers govern there are any."""
    if read.endpoint.kind is not Kind.TRANSPARENT:
        return Terms()
    match {**asdict(Terms()), **told}:
        case {
            "stale_while_revalidate": int() | float() as window,
            "stale_if_error": int() | float() | None as on_error,
            "strict": bool(strict),
            "shared": bool(shared),
            "vary": list() | tuple() as vary,
            "variant": str(variant),
        } if all(isinstance(name, str) and _FIELD.fullmatch(name) for name in vary) and (
            _SHA256.fullmatch(variant) if vary else not variant
        ):
            tolerated = None if on_error is None else _finite(on_error)
            return Terms(_finite(window), tolerated, strict, shared, tuple(vary), variant)
    raise Refused("what it tells about its use is not complete or of a wrong type")


def _tag(text: object) -> str:
    if isinstance(text, str) and _TAG.fullmatch(text):
        return text
    raise Refused("its entity tag is none")


def _finite(number: float) -> float:
    if 0 <= number < _LATEST:
        return float(number)
    raise Refused("one of its times is none")
