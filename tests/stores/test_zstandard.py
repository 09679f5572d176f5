from __future__ import annotations

import io
import os
import subprocess
import sys

import pytest
from backports import zstd

from proxy.errors import Refused
from proxy.stores.zstandard import Packed, Unpacked

pytestmark = pytest.mark.anyio

CONTENT = os.urandom(700_000) + b"a" * 3_000_000


async def packed(content: bytes, piece: int) -> bytes:
    file = io.BytesIO()
    sink = Packed(file)
    for start in range(0, len(content), piece):
        await sink.write(content[start : start + piece])
    await sink.finish()
    assert sink.size == len(file.getvalue())
    return file.getvalue()


async def unpacked(data: bytes, piece: int = 100_000) -> bytes:
    source = Unpacked(io.BytesIO(data))
    found = []
    while got := await source.read(piece):
        assert len(got) <= piece
        found.append(got)
    return b"".join(found)


@pytest.mark.parametrize("piece", [1000, 262_144, 10**7])
async def test_what_is_packed_is_unpacked(piece: int) -> None:
    data = await packed(CONTENT, piece)
    assert len(data) < 720_000
    assert zstd.decompress(data) == CONTENT == await unpacked(data)


async def test_the_same_content_is_packed_the_same() -> None:
    assert await packed(CONTENT, 70_000) == await packed(CONTENT, 70_000)


async def test_nothing_is_packed_too() -> None:
    assert await unpacked(await packed(b"", 1)) == b""


async def test_several_frames_are_one_file_as_parallel_packers_write_them() -> None:
    assert await unpacked(zstd.compress(b"one") + zstd.compress(b"two")) == b"onetwo"


@pytest.mark.parametrize("cut", [1, 5, 1000, 300_000])
async def test_a_file_that_ends_too_early_is_told(cut: int) -> None:
    data = await packed(CONTENT, 10**6)
    with pytest.raises(Refused, match="ends too early"):
        await unpacked(data[:-cut])


async def test_damage_is_told() -> None:
    data = bytearray(await packed(CONTENT, 10**6))
    data[300_000] ^= 1
    with pytest.raises(Refused, match="damaged"):
        await unpacked(bytes(data))


async def test_what_is_no_zstd_is_told() -> None:
    with pytest.raises(Refused, match="no zstd file"):
        await unpacked(b"x" * 1000)


async def test_a_window_of_more_than_8_mib_is_not_held() -> None:
    options = {zstd.CompressionParameter.window_log: 27, zstd.CompressionParameter.compression_level: 1}
    maker = zstd.ZstdCompressor(options={int(key): value for key, value in options.items()})
    with pytest.raises(Refused, match="damaged"):
        await unpacked(maker.compress(bytes(2**20)) + maker.compress(bytes(2**20)) + maker.flush())


_FLAT = """
import asyncio, io, resource, sys
from backports import zstd
from proxy.stores.zstandard import Unpacked

async def main():
    source, size = Unpacked(io.BytesIO(bomb)), 0
    while piece := await source.read(2**20):
        size += len(piece)
    return size

bomb = zstd.compress(bytes(2**20)) * 1500
asyncio.run(main())
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
bomb = zstd.compress(bytes(2**28)) * 4
assert asyncio.run(main()) == 2**30
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


async def test_a_bomb_takes_no_more_memory_than_any_other_file() -> None:
    """A GiB of zeros, packed before into some 100 KB, in pieces."""
    script = _FLAT.replace("zstd.compress(bytes(2**28)) * 4", "BOMB")
    maker = "b''.join(zstd.compress(bytes(2**24)) for _ in range(64))"
    done = subprocess.run(
        [sys.executable, "-c", script.replace("BOMB", maker)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 48, "MiB more"
