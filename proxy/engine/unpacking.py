"""The members of an archive, one after the other, as they come. It checks their frame and nothing of what they are.

Whatever is in an archive, what is held of it is one piece and the records of one file.
"""

from __future__ import annotations

from typing import Protocol

from proxy.engine.fill import PIECE
from proxy.errors import Refused
from proxy.rules import tar

LARGEST_MEMBER = 4 * 2**30
"""Bytes of one file. Whatever is larger is no tarball, and nobody waits until it has been passed over."""
_MOST_ZEROS = 2**20
"""Bytes that may follow the end: archives are filled up to a multiple of a record, which may be chosen."""
_MOST_BETWEEN = 1000
"""Headers between two files: directories and records, of which a file has one set."""


class Broken(Refused):
    """The archive itself is damaged: there is no telling what comes next."""


class Source(Protocol):
    async def read(self, size: int) -> bytes:
        """At most `size` bytes, none at the end only. Raises `Refused` where it is damaged."""
        ...


class Member:
    """One file of an archive. Its bytes are to be read by `piece` until there are none."""

    def __init__(self, name: str, size: int, records: dict[str, str], source: Source) -> None:
        self.name = name
        self.size = size
        self.records = records
        self._source = source
        self._left = size

    async def piece(self) -> bytes:
        """The next bytes, b"" at the end. Raises `Broken`."""
        if self._left == 0:
            return b""
        piece = await _read(self._source, min(self._left, PIECE))
        if not piece:
            raise Broken(f"it ends inside of {self.name!r}")
        self._left -= len(piece)
        return piece

    async def whole(self) -> bytes:
        """All bytes; only for a member whose `size` is known to be small."""
        pieces = []
        while piece := await self.piece():
            pieces.append(piece)
        return b"".join(pieces)


class Members:
    def __init__(self, source: Source) -> None:
        self._source = source
        self._member: Member | None = None

    async def next(self) -> Member | None:
        """The next file, past what was not read of the last one; None at the end of the archive.

        Raises `Broken`.
        """
        try:
            return await self._next()
        except Broken:
            raise
        except Refused as error:
            raise Broken(error.detail) from None

    async def _next(self) -> Member | None:
        if self._member is not None:
            while await self._member.piece():
                pass
            await self._exactly(tar.padding(self._member.size))
        records: dict[str, str] = {}
        for _ in range(_MOST_BETWEEN):
            header = tar.parsed(await self._exactly(tar.BLOCK))
            if header is None:
                await self._nothing_more()
                return None
            if header.kind is tar.Kind.FILE:
                described = tar.described(header, records)
                if described.size > LARGEST_MEMBER:
                    raise Broken(
                        f"{described.name[:200]!r} has {described.size} bytes, more than anything in an archive"
                    )
                self._member = Member(described.name, described.size, records, self._source)
                return self._member
            records = {}
            if header.size > tar.LONGEST_RECORDS:
                raise Broken(f"the records of a file have {header.size} bytes; {tar.LONGEST_RECORDS} are allowed")
            data = await self._exactly(header.size)
            await self._exactly(tar.padding(header.size))
            if header.kind is tar.Kind.RECORDS:
                records = tar.records(data)
        raise Broken("there is no end of headers without a file")

    async def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = await _read(self._source, size - len(data))
            if not piece:
                raise Broken("it ends too early")
            data += piece
        return data

    async def _nothing_more(self) -> None:
        zeros = 0
        while piece := await _read(self._source, PIECE):
            zeros += len(piece)
            if any(piece) or zeros > _MOST_ZEROS:
                raise Broken("something follows its end")


async def _read(source: Source, size: int) -> bytes:
    try:
        return await source.read(size)
    except Refused as error:
        raise Broken(error.detail) from None
