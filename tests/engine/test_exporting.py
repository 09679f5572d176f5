"""What goes into an archive, and what it costs to make one and to read it."""

from __future__ import annotations

import hashlib
import io
import tarfile
import tracemalloc
from pathlib import Path

import pytest

from proxy.engine.inventory import Wanted
from proxy.model import Selection
from proxy.stores.base import Bytes as Piece
from proxy.stores.zstandard import Packed, Unpacked
from tests.archives import NOW, Bytes, gzipped, index, packed, tarball
from tests.engine.test_importing import answer, imported, lacking, machine

pytestmark = pytest.mark.anyio

CODE = tarball("serde")
INDEX = index("serde", [CODE], etag='"upstreams"', validated=True, requested_at=NOW - 1, lifetime=60)
ANSWERS = [answer("crate /api/v1/crates/serde"), answer("other /api/v1/new?x=%20 7", terms={"strict": True})]
ALL = [INDEX, gzipped(INDEX), CODE, *ANSWERS]


class Written:
    """A sink."""

    def __init__(self) -> None:
        self.data = bytearray()

    async def write(self, data: Piece) -> None:
        self.data += data


def names(data: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return archive.getnames()


async def test_all_of_a_cache_goes_and_comes_as_it_was(tmp_path: Path) -> None:
    first, second = Written(), Written()
    async with machine(tmp_path / "one") as proxy:
        await imported(proxy, packed(ALL))
        exported = await proxy.ready.exporting.everything(first, lambda size: None)
        assert (exported.copies, exported.tarballs, exported.unknown, exported.left_out) == (3, 1, 0, [])
    async with machine(tmp_path / "two") as proxy:
        made = await imported(proxy, bytes(first.data))
        assert (made.copies, made.tarballs, made.refused, made.broken) == (3, 1, [], "")
        await proxy.ready.exporting.everything(second, lambda size: None)
    assert first.data == second.data
    kinds = [name.partition("/")[0] for name in names(bytes(first.data))]
    assert kinds == ["crates-proxy-archive", "index", "index", "crates", "answers", "answers", "MANIFEST"]


async def test_for_lock_files_only_what_they_need_goes(tmp_path: Path) -> None:
    sink = Written()
    other = tarball("other")
    async with machine(tmp_path) as proxy:
        await imported(proxy, packed([*ALL, index("other", [other]), other]))
        wanted = [Wanted("serde", "1.0.0", CODE.checksum), Wanted("gone", "1.0.0"), Wanted("other", "9.0.0")]
        exported = await proxy.ready.exporting.needed(wanted, sink, lambda size: None)
    assert names(bytes(sink.data))[1:-1] == [
        "index/ot/he/other",
        "index/se/rd/serde",
        "index/se/rd/serde.gz",
        CODE.name,
    ]
    assert [line.partition(": it")[0] for line in exported.left_out[:1]] == ["gone 1.0.0: index"]
    assert {line.partition(":")[0] for line in exported.left_out} == {"gone 1.0.0", "other 9.0.0"}


async def test_damaged_tarballs_and_those_that_no_index_file_knows_are_left_out(tmp_path: Path) -> None:
    sink = Written()
    stray = tarball("stray")
    async with machine(tmp_path) as proxy:
        await imported(proxy, packed([index("stray", [stray]), stray]))
        await proxy.purging.purge(Selection(endpoint="index"))
        await imported(proxy, packed(ALL))
        path = tmp_path / "tarballs" / CODE.checksum[:2] / CODE.checksum[2:]
        path.write_bytes(CODE.body[:-1] + b"x")
        exported = await proxy.ready.exporting.everything(sink, lambda size: None)
    assert (exported.tarballs, exported.unknown) == (0, 1)
    assert exported.left_out == ["serde 1.0.0: tarball: its bytes are damaged"]
    assert not [name for name in names(bytes(sink.data)) if name.startswith("crates/")]


async def test_memory_stays_flat_however_large_the_cache_is(tmp_path: Path) -> None:
    """42 MB of tarballs, one of them of 32 MB, and 300 index files, against a bound of 8 MB."""
    large = tarball("large", content=bytes(range(256)) * 125_000)
    many = [tarball("many", f"1.0.{n}", hashlib.sha256(b"%d" % n).digest() * 10_000) for n in range(32)]
    small = [index(f"crate{n:05}", [tarball(f"crate{n:05}")]) for n in range(300)]
    data = packed([index("large", [large]), index("many", many), *small, large, *many])
    file = tmp_path / "cache.tar.zst"
    async with machine(tmp_path / "one", cache__memory=0) as proxy:
        made = await imported(proxy, data, 10**6)
        assert (made.tarballs, made.broken) == (33, "")
        del large, many, small, data, made
        tracemalloc.start()
        try:
            with file.open("wb") as target:
                sink = Packed(target)
                await proxy.ready.exporting.everything(sink, lambda size: None)
                await sink.finish()
            assert tracemalloc.get_traced_memory()[1] < 8_000_000
        finally:
            tracemalloc.stop()
    async with machine(tmp_path / "two", cache__memory=0) as proxy:
        tracemalloc.start()
        try:
            with file.open("rb") as source:
                again = await proxy.ready.importing.run(Unpacked(source), lambda size: None)
            assert (again.tarballs, again.copies, again.broken) == (33, 302, "")
            assert tracemalloc.get_traced_memory()[1] < 8_000_000
        finally:
            tracemalloc.stop()


async def test_what_was_purged_is_not_exported(tmp_path: Path) -> None:
    sink = Written()
    async with machine(tmp_path) as proxy:
        await imported(proxy, packed(ALL))
        await proxy.purging.purge(Selection())
        exported = await proxy.ready.exporting.everything(sink, lambda size: None)
    assert (exported.copies, exported.tarballs) == (0, 0)
    async with machine(tmp_path / "other") as proxy:
        made = await proxy.ready.importing.run(Bytes(bytes(sink.data)), lambda size: None)
        assert (made.copies, made.broken) == (0, "")
        assert await lacking(proxy, "serde") == ["serde index", "serde tarball"]
