"""What a Cargo.lock needs from crates.io, in every format that cargo has written so far (1 to 4).

What comes from git and other registries is none of this proxy's business.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass

from proxy.errors import Refused
from proxy.rules import names, sparse

# The git index's URL stays the registry's name in lock files even where the sparse index is used.
CRATES_IO = ("registry+https://github.com/rust-lang/crates.io-index", "sparse+https://index.crates.io/")

_FORMATS = range(1, 5)
_NO_CHECKSUM = "<none>"


@dataclass(frozen=True, slots=True)
class Locked:
    """One package of a lock file; `checksum` in lower case, None where the file tells none."""

    name: str
    version: str
    checksum: str | None


@dataclass(frozen=True, slots=True)
class Lock:
    """A lock file's packages from crates.io, in the order of the file, and the names of those that it has from git
    and from other registries. The workspace's own, and others from paths, are in neither."""

    packages: tuple[Locked, ...]
    elsewhere: tuple[str, ...]


def read(text: str) -> Lock:
    """Raises `Refused`, saying what is wrong with it."""
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise Refused(f"not a lock file: {error}") from None
    written = document.get("version", 1)
    if type(written) is not int or written not in _FORMATS:
        raise Refused(f"lock file version {written!r} is not known; versions 1 to 4 are")
    listed = document.get("package", [])
    if not isinstance(listed, list):
        raise Refused("not a lock file: `package` is no list")
    # Neither format 1 nor 2 tells its number; the first keeps its checksums in a table of their own.
    checksums = document.get("metadata", {})
    if not isinstance(checksums, dict):
        raise Refused("not a lock file: `metadata` is no table")
    found: list[Locked] = []
    elsewhere: list[str] = []
    for number, package in enumerate(listed, start=1):
        fields = package if isinstance(package, dict) else {}
        name, version, source = fields.get("name"), fields.get("version"), fields.get("source")
        if not (isinstance(name, str) and isinstance(version, str)):
            raise Refused(f"not a lock file: package {number} has no name or no version")
        if source in CRATES_IO:
            found.append(_locked(number, name, version, _checksum(fields, checksums)))
        elif source is not None:
            elsewhere.append(name)
    return Lock(tuple(found), tuple(elsewhere))


def _checksum(fields: Mapping[str, object], checksums: Mapping[str, object]) -> object:
    of_format_1 = f"checksum {fields['name']} {fields['version']} ({fields['source']})"
    return fields.get("checksum", checksums.get(of_format_1, _NO_CHECKSUM))


def _locked(number: int, name: str, version: str, checksum: object) -> Locked:
    if not names.is_name(name):
        raise Refused(f"package {number} of the lock file: {name!r} is no crate name")
    if not names.is_version(version):
        raise Refused(f"package {name} of the lock file: {version!r} is no version")
    if checksum == _NO_CHECKSUM:
        return Locked(name, version, None)
    if not isinstance(checksum, str) or not sparse.is_sha256(checksum):
        raise Refused(f"package {name} {version} of the lock file: {checksum!r} is no SHA-256 checksum")
    return Locked(name, version, checksum.lower())
