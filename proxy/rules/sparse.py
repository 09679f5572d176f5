"""Cargo's sparse index: where the file of a name lies, what is in it, and this proxy's own config.json.

Index files are served byte for byte; what is read from them here is only ever used to decide.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from proxy.model import Crate
from proxy.rules import documents, names

_SHA256 = re.compile(r"[0-9A-Fa-f]{64}")


@dataclass(frozen=True, slots=True)
class Release:
    """One line of an index file: name and version as spelt there, the checksum in lower case."""

    name: str
    version: str
    sha256: str
    yanked: bool

    @property
    def crate(self) -> Crate:
        return Crate(self.name, self.version)


def path(name: str) -> str:
    """Where the index keeps the file of this (valid) name."""
    name = name.lower()
    match len(name):
        case 1 | 2 as size:
            return f"{size}/{name}"
        case 3:
            return f"3/{name[0]}/{name}"
        case _:
            return f"{name[:2]}/{name[2:4]}/{name}"


def name_of(index_path: str) -> str | None:
    """The name whose file lies at this path; None where no crate's file can lie there."""
    name = index_path.rpartition("/")[2]
    return name if names.is_name(name) and path(name) == index_path else None


def config(base: str) -> bytes:
    """config.json of this proxy. With the checksum in `dl`, one URL never names two different files."""
    dl = f"{base}/files/crates/{{crate}}/{{version}}/{{sha256-checksum}}/download"
    return json.dumps({"dl": dl, "api": base}).encode()


def release(index_file: bytes, version: str) -> Release | None:
    """The line of exactly this version. Where there are several, cargo goes by the last."""
    text = version.encode()
    found = None
    for line in index_file.split(b"\n"):
        # Parsing costs a hundred times more than looking; only an escape could hide the version from a look.
        if text in line or b"\\" in line:
            candidate = _parsed(line)
            if candidate is not None and candidate.version == version:
                found = candidate
    return found


def newest(index_file: bytes) -> Release | None:
    """The newest that is not yanked, a pre-release only where there is nothing else."""
    available = [candidate for candidate in releases(index_file) if not candidate.yanked]
    return max(available, key=_rank, default=None)


def releases(index_file: bytes) -> Iterator[Release]:
    """All that can be understood, in the order of the file. Like cargo, skip each line that cannot."""
    for line in index_file.split(b"\n"):
        if (candidate := _parsed(line)) is not None:
            yield candidate


def _rank(candidate: Release) -> tuple[bool, names.Precedence]:
    order = names.precedence(candidate.version)
    return order[1], order


def _parsed(line: bytes) -> Release | None:
    try:
        fields = documents.parsed(line)
    except ValueError:
        return None
    match fields:
        case {"name": str(name), "vers": str(version), "cksum": str(checksum)}:
            yanked = fields.get("yanked")
        case _:
            return None
    if not (names.is_name(name) and names.is_version(version) and is_sha256(checksum)):
        return None
    if not (yanked is None or isinstance(yanked, bool)):
        return None
    return Release(name, version, checksum.lower(), yanked is True)


def is_sha256(text: str) -> bool:
    """64 hexadecimal digits."""
    return _SHA256.fullmatch(text) is not None
