"""Archives as a stranger writes them: with nothing but Python's own tarfile, after `deploy/archive.md`."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

NOW = 1_700_000_000.0


@dataclass(frozen=True, slots=True)
class File:
    """A member and what it tells about itself. `sha256`: None for the right one."""

    name: str
    body: bytes
    about: dict[str, Any] = field(default_factory=dict)
    sha256: str | None = None
    kind: bytes = tarfile.REGTYPE

    @property
    def checksum(self) -> str:
        return self.sha256 or hashlib.sha256(self.body).hexdigest()


BEGINNING = File("crates-proxy-archive", b'{"format": "crates-proxy-archive", "version": 1}')


def tarball(name: str, version: str = "1.0.0", content: bytes = b"code") -> File:
    return File(f"crates/{name}/{name}-{version}.crate", name.encode() + b" " + content)


def index(name: str, tarballs: Iterable[File], at: float = NOW, **about: Any) -> File:
    """The index file of a crate with a name of at least four letters."""
    lines = [
        {"name": name, "vers": each.name.removesuffix(".crate").rpartition(f"{name}-")[2], "cksum": each.checksum}
        for each in tarballs
    ]
    body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    return File(f"index/{name[:2]}/{name[2:4]}/{name}", body, {"responded_at": at, **about})


def gzipped(file: File) -> File:
    return File(file.name + ".gz", gzip.compress(file.body, mtime=0), {"etag": '"of-gzip"'})


def packed(files: Iterable[File], *, manifest: bool = True, listed: Iterable[File] | None = None) -> bytes:
    """The archive, not compressed. `listed`: what the manifest says is in it."""
    files = [BEGINNING, *files]
    lines = [f"{each.checksum}  {each.name}\n" for each in (files if listed is None else [BEGINNING, *listed])]
    last = [File("MANIFEST", "".join(lines).encode())] if manifest else []
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for each in [*files, *last]:
            member = tarfile.TarInfo(each.name)
            member.size, member.type, member.linkname = len(each.body), each.kind, "/etc/passwd"
            about = {**each.about, "sha256": each.checksum}
            member.pax_headers = {"CRATESPROXY.about": json.dumps(about)}
            archive.addfile(member, io.BytesIO(each.body))
    return made.getvalue()


class Bytes:
    """A source: an archive in memory, given in pieces."""

    def __init__(self, data: bytes, piece: int = 1000) -> None:
        self._data = io.BytesIO(data)
        self._piece = piece

    async def read(self, size: int) -> bytes:
        return self._data.read(min(size, self._piece))
