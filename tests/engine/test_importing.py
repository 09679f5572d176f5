"""What comes in an archive, from friends and from others."""

from __future__ import annotations

import contextlib
import hashlib
import tarfile
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from proxy import settings, wiring
from proxy.engine import importing
from proxy.engine.importing import Imported
from proxy.engine.inventory import Wanted
from proxy.model import Selection
from proxy.rules import keys
from proxy.rules.endpoints import TIMED
from tests.archives import NOW, Bytes, File, gzipped, index, packed, tarball
from tests.proxied import ManualClock

pytestmark = pytest.mark.anyio

CODE = tarball("serde")
INDEX = index("serde", [CODE])
OTHER = tarball("other")
OTHER_INDEX = index("other", [OTHER])
ALL = [INDEX, OTHER_INDEX, CODE, OTHER]


@contextlib.asynccontextmanager
async def machine(directory: Path, clock: ManualClock | None = None, **given: object) -> AsyncIterator[wiring.Proxy]:
    """A proxy that may ask nobody."""
    overrides = {
        "cache.dir": str(directory),
        "cache.min_free": 0,
        "upstream.offline": True,
        **{name.replace("__", "."): value for name, value in given.items()},
    }
    loaded = settings.load(overrides, None, {}, endpoints=TIMED)
    async with wiring.opened(loaded.settings, directory, clock or ManualClock()) as proxy:
        yield proxy


async def imported(proxy: wiring.Proxy, data: bytes, piece: int = 1000) -> Imported:
    return await proxy.ready.importing.run(Bytes(data, piece), lambda size: None)


async def lacking(proxy: wiring.Proxy, *names: str) -> list[str]:
    found = []
    for name in names or ("serde", "other"):
        lacks = await proxy.ready.inventory.lacks(Wanted(name, "1.0.0"), hashed=True)
        found += [f"{lack.name} {lack.what}" for lack in lacks]
    return found


async def test_what_a_stranger_has_written_is_imported_and_served(tmp_path: Path) -> None:
    async with machine(tmp_path) as proxy:
        made = await imported(proxy, packed([*ALL[:1], gzipped(INDEX), *ALL[1:]]))
        assert (made.copies, made.tarballs, made.refused, made.broken) == (2, 2, [], "")
        assert await lacking(proxy) == []
        outcome = await proxy.answers.get(keys.index_read("se/rd/serde"))
        assert outcome.entry.body == INDEX.body
        assert outcome.entry.gzip is not None and outcome.entry.gzip.etag == '"of-gzip"'
        again = await imported(proxy, packed(ALL))
        assert (again.copies, again.tarballs, again.there, again.refused, again.broken) == (0, 0, 4, [], "")


@pytest.mark.parametrize("piece", [1, 511, 512, 513, 10**6])
async def test_it_does_not_matter_in_what_pieces_it_comes(piece: int, tmp_path: Path) -> None:
    async with machine(tmp_path) as proxy:
        assert (await imported(proxy, packed(ALL), piece)).broken == ""
        assert await lacking(proxy) == []


REFUSED = {
    "other bytes": (replace(CODE, sha256=CODE.checksum, body=CODE.body[:-1] + b"x"), "do not have the checksum"),
    "fewer bytes": (replace(CODE, sha256=CODE.checksum, body=CODE.body[:-1]), "do not have the checksum"),
    "another file of that version": (tarball("serde", content=b"evil"), "another checksum"),
    "another index file": (replace(INDEX, sha256="0" * 64), "do not have the checksum"),
    "a file outside": (File("../../../tmp/evil", b"x"), "not known here"),
    "a file of the machine": (File("/etc/passwd", b"x"), "not known here"),
    "a hidden way out": (File("crates/../../x/x-1.0.0.crate", b"x"), "not known here"),
    "a tarball without an index file": (tarball("stray"), "no index file of this crate"),
    "gzip of something else": (gzipped(INDEX), "the member before it"),
    "an index file of another": (replace(OTHER_INDEX, name="index/se/rd/serde"), "tells of another crate"),
    "a page as index file": (File("index/pa/ge/page", b"<html>", {"responded_at": NOW}), "no line of an index file"),
    "no time": (replace(index("time", []), about={}), "not complete"),
}


@pytest.mark.parametrize(("bad", "why"), REFUSED.values(), ids=REFUSED.keys())
async def test_what_is_wrong_is_refused_by_name_and_the_rest_goes_on(bad: File, why: str, tmp_path: Path) -> None:
    async with machine(tmp_path / "cache") as proxy:
        made = await imported(proxy, packed([*ALL[:2], bad, *ALL[2:]]))
        assert made.broken == "" and len(made.refused) == 1
        assert made.refused[0].startswith(bad.name) and why in made.refused[0]
        assert await lacking(proxy) == []
    assert {path.name for path in tmp_path.iterdir()} == {"cache"}, "nothing is written elsewhere"


async def test_wrong_bytes_of_what_is_stored_already_are_refused_too(tmp_path: Path) -> None:
    async with machine(tmp_path) as proxy:
        await imported(proxy, packed(ALL))
        bad = replace(CODE, sha256=CODE.checksum, body=CODE.body[:-1] + b"x")
        made = await imported(proxy, packed([INDEX, bad]))
        assert len(made.refused) == 1 and await lacking(proxy) == []


async def test_a_file_larger_than_is_kept_is_refused(tmp_path: Path) -> None:
    async with machine(tmp_path, cache__max_object=20) as proxy:
        large = tarball("large", content=b"x" * 100)
        made = await imported(proxy, packed([index("large", [large]), large, *ALL]))
        assert len(made.refused) == 1 and "cache.max_object" in made.refused[0]
        assert await lacking(proxy) == []


BROKEN = {
    "nothing": (b"", "ends too early"),
    "no archive": (packed([])[512:], "no header of a tar archive"),
    "another tar": (bytes(1024), "no archive that"),
    "garbage": (b"x" * 5000, "no header of a tar archive"),
    "no end": (packed(ALL)[:-10240], "ends too early"),
    "no manifest": (packed(ALL, manifest=False), "no manifest"),
    "a manifest that lists more": (packed(ALL[:3], listed=ALL), "its manifest does not list"),
    "a manifest that lists less": (packed(ALL, listed=ALL[:3]), "its manifest does not list"),
    "another order": (packed(ALL, listed=[INDEX, OTHER_INDEX, OTHER, CODE]), "its manifest does not list"),
    "more behind it": (packed(ALL) + b"x", "something follows its end"),
    "zeros without end": (packed(ALL) + bytes(2**21), "something follows its end"),
    "a symbolic link": (packed([File("index/se/rd/serde", b"", kind=tarfile.SYMTYPE)]), "is a link"),
    "a hard link": (packed([File("index/se/rd/serde", b"", kind=tarfile.LNKTYPE)]), "is a link"),
    "a device": (packed([File("index/se/rd/serde", b"", kind=tarfile.CHRTYPE)]), "a device"),
    "records without end": (packed([replace(INDEX, about={"x": "x" * 300_000})]), "the records of a file have"),
    "directories without end": (
        packed([File("index", b"", kind=tarfile.DIRTYPE) for _ in range(600)]),
        "no end of headers",
    ),
    "much that is wrong": (packed([File(f"x{n}", b"") for n in range(1100)]), "too much of it is wrong"),
}


@pytest.mark.parametrize(("data", "why"), BROKEN.values(), ids=BROKEN.keys())
async def test_an_archive_that_is_damaged_or_made_to_harm_is_told(data: bytes, why: str, tmp_path: Path) -> None:
    async with machine(tmp_path) as proxy:
        made = await imported(proxy, data)
        assert why in made.broken
        assert len(made.refused) <= importing.MOST_REFUSED


async def test_a_file_of_absurd_size_is_not_waited_for(tmp_path: Path) -> None:
    data = packed(ALL)
    info = tarfile.TarInfo("crates/huge/huge-1.0.0.crate")
    info.size = 2**50
    huge = info.tobuf(tarfile.PAX_FORMAT)
    begun = data.index(b"index/se/rd/serde")
    begun -= begun % 512
    async with machine(tmp_path) as proxy:
        made = await imported(proxy, data[:begun] + huge + bytes(10**6))
        assert "has 1125899906842624 bytes" in made.broken


async def test_where_it_breaks_off_what_came_is_right_and_the_next_run_completes_it(tmp_path: Path) -> None:
    data = packed([*ALL[:1], gzipped(INDEX), *ALL[1:]])
    for number, cut in enumerate(range(0, len(data) - 10240, 700)):
        async with machine(tmp_path / str(number)) as proxy:
            first = await imported(proxy, data[:cut])
            assert first.broken and first.refused == []
            second = await imported(proxy, data)
            assert (second.broken, second.refused) == ("", [])
            assert second.there == first.copies + first.tarballs
            assert await lacking(proxy) == []


async def test_what_is_newer_stays(tmp_path: Path) -> None:
    newer = index("serde", [CODE, tarball("serde", "2.0.0")], at=NOW - 10)
    async with machine(tmp_path) as proxy:
        await imported(proxy, packed([index("serde", [CODE], at=NOW - 20)]))
        assert (await imported(proxy, packed([newer]))).copies == 1
        made = await imported(proxy, packed([index("serde", [CODE], at=NOW - 15), CODE]))
        assert (made.copies, made.there, made.tarballs) == (0, 1, 1)
        outcome = await proxy.answers.get(keys.index_read("se/rd/serde"))
        assert outcome.entry.body == newer.body


async def test_a_tarball_that_the_newer_index_no_longer_knows_is_left(tmp_path: Path) -> None:
    async with machine(tmp_path) as proxy:
        await imported(proxy, packed([index("serde", [tarball("serde", "2.0.0")], at=NOW)]))
        made = await imported(proxy, packed([index("serde", [CODE], at=NOW - 5), CODE]))
        assert (made.outdated, made.tarballs, made.refused, made.broken) == (1, 0, [], "")


async def test_an_import_after_a_purge_brings_back_what_is_older_than_the_purge(tmp_path: Path) -> None:
    async with machine(tmp_path) as proxy:
        await imported(proxy, packed(ALL))
        assert await proxy.purging.purge(Selection()) == 4
        assert len(await lacking(proxy)) == 4
        made = await imported(proxy, packed([index("serde", [CODE], at=NOW - 1000), OTHER_INDEX, CODE, OTHER]))
        assert (made.copies, made.tarballs) == (2, 2)
        assert await lacking(proxy) == []
        assert (await imported(proxy, packed(ALL[1:2]))).there == 1


def answer(place: str, body: bytes = b'{"a": 1}', at: float = NOW, **about: object) -> File:
    name = f"answers/{hashlib.sha256(place.encode()).hexdigest()}"
    fields = [["content-type", "application/json"]]
    return File(name, body, {"key": place, "responded_at": at, "headers": fields, **about})


async def test_answers_of_the_web_api_are_imported_for_as_long_as_they_are_kept(tmp_path: Path) -> None:
    clock = ManualClock(NOW + 1000)
    async with machine(tmp_path, clock, cache__keep="1h") as proxy:
        old = answer("crate /api/v1/crates/old", at=NOW - 3000)
        made = await imported(proxy, packed([answer("crate /api/v1/crates/serde"), old]))
        assert (made.copies, made.outdated, made.refused) == (1, 1, [])
        read = keys.of_place("crate /api/v1/crates/serde")
        assert read is not None
        assert (await proxy.answers.get(read)).entry.body == b'{"a": 1}'
        assert await proxy.purging.purge(Selection(crate="serde")) == 1, "it has the tag of its crate"


async def test_a_full_cache_makes_room_and_says_so(tmp_path: Path) -> None:
    tarballs = [tarball(f"crate{n}", content=b"x" * 100_000) for n in range(30)]
    async with machine(tmp_path, cache__max_size=2_000_000, cache__max_object=1_000_000) as proxy:
        made = await imported(
            proxy, packed([*(index(f"crate{n}", [each]) for n, each in enumerate(tarballs)), *tarballs])
        )
        assert made.tarballs == 30 and made.evicted >= 1_000_000
