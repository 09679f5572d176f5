from __future__ import annotations

import io
import tarfile

import pytest

from proxy.errors import Refused
from proxy.rules import tar
from proxy.rules.tar import Header, Kind

LONG = "crates/" + "n" * 64 + "/" + "n" * 64 + "-1.0.0-" + "p" * 200 + ".crate"


def taken_apart(head: bytes) -> tuple[Header, dict[str, str]]:
    """A header as `tar.header` makes it, read again."""
    records: dict[str, str] = {}
    header = tar.parsed(head[: tar.BLOCK])
    assert header is not None
    rest = head[tar.BLOCK :]
    if header.kind is Kind.RECORDS:
        records = tar.records(rest[: header.size])
        rest = rest[header.size + tar.padding(header.size) :]
        header = tar.parsed(rest[: tar.BLOCK])
        assert header is not None
        rest = rest[tar.BLOCK :]
    assert rest == b""
    return tar.described(header, records), records


@pytest.mark.parametrize("name", ["a", "index/se/rd/serde", "crates/é/é-1.crate", LONG])
@pytest.mark.parametrize("size", [0, 1, 511, 512, 2**33 + 1, 2**40])
def test_what_is_written_is_read_again(name: str, size: int) -> None:
    found, records = taken_apart(tar.header(name, size, {"X.about": '{"a": "é"}'}))
    assert found == Header(Kind.FILE, name, size)
    assert records["X.about"] == '{"a": "é"}'


def test_a_file_without_records_has_one_header() -> None:
    assert taken_apart(tar.header("a", 5, {})) == (Header(Kind.FILE, "a", 5), {})


def test_the_same_file_always_has_the_same_header() -> None:
    assert tar.header("a", 5, {"k": "v"}) == tar.header("a", 5, {"k": "v"})


def test_another_tar_reads_what_is_written() -> None:
    body = b"x" * 700
    data = tar.header(LONG, len(body), {"X.about": "é"}) + body + bytes(tar.padding(len(body))) + tar.END
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        (member,) = archive.getmembers()
        extracted = archive.extractfile(member)
        assert (member.name, member.pax_headers["X.about"]) == (LONG, "é")
        assert extracted is not None and extracted.read() == body


@pytest.mark.parametrize(("size", "zeros"), [(0, 0), (1, 511), (511, 1), (512, 0), (513, 511)])
def test_files_are_filled_up_to_whole_blocks(size: int, zeros: int) -> None:
    assert tar.padding(size) == zeros


def test_a_block_of_zeros_is_no_file() -> None:
    assert tar.parsed(bytes(tar.BLOCK)) is None


def typed(kind: bytes, name: str = "evil", size: int = 0) -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, "/etc/passwd", size
    return info.tobuf(tarfile.USTAR_FORMAT)[: tar.BLOCK]


@pytest.mark.parametrize("kind", [b"1", b"2", b"3", b"4", b"6", b"7", b"L", b"K", b"S", b"g", b"?"])
def test_links_devices_and_other_forms_are_refused_by_name(kind: bytes) -> None:
    with pytest.raises(Refused, match="'evil' is a link, a device or in a form that is not read here"):
        tar.parsed(typed(kind))


def test_directories_are_told() -> None:
    assert tar.parsed(typed(tarfile.DIRTYPE)) == Header(Kind.DIRECTORY, "evil", 0)


@pytest.mark.parametrize(
    "block",
    [b"x" * tar.BLOCK, b"x", b"", typed(b"0")[:-1] + b"x", bytes(tar.BLOCK - 1) + b"x"],
    ids=["garbage", "short", "empty", "bad sum", "nearly zeros"],
)
def test_what_is_no_header_is_refused(block: bytes) -> None:
    if not any(block):
        assert tar.parsed(block) is None
        return
    with pytest.raises(Refused, match="no header"):
        tar.parsed(block)


def test_a_name_that_is_not_utf8_is_refused() -> None:
    info = tarfile.TarInfo("\udcff")
    with pytest.raises(Refused, match="no header"):
        tar.parsed(info.tobuf(tarfile.USTAR_FORMAT, "utf-8", "surrogateescape"))


def test_a_size_below_zero_is_refused() -> None:
    info = tarfile.TarInfo("evil")
    info.size = -5
    with pytest.raises(Refused, match="less than no bytes"):
        tar.parsed(info.tobuf(tarfile.GNU_FORMAT))


def test_records_are_read_in_order_and_the_last_one_counts() -> None:
    assert tar.records(b"") == {}
    assert tar.records(b"6 a=b\n6 a=c\n13 path=x y=z\n"[:12] + b"14 path=x y=z\n"[:14]) == {"a": "c", "path": "x y=z"}


@pytest.mark.parametrize(
    "data",
    [
        b"x",
        b"6 a=b",
        b"7 a=b\n",
        b"5 a=b\n",
        b"0 a=b\n",
        b"-6 a=b\n",
        b"5 ab\n",
        b" a=b\n",
        b"9999999999999999 a=b\n",
        b"2 a=b\n",
    ],
)
def test_records_of_another_form_are_refused(data: bytes) -> None:
    with pytest.raises(Refused, match="cannot be read"):
        tar.records(data)


def test_records_that_are_not_utf8_are_refused() -> None:
    with pytest.raises(Refused, match="not UTF-8"):
        tar.records(b"6 a=\xff\n")


@pytest.mark.parametrize("size", ["-1", "x", "", "１", "9" * 17])
def test_a_size_in_a_record_must_be_a_number(size: str) -> None:
    with pytest.raises(Refused, match="'a' has a size that is no number"):
        tar.described(Header(Kind.FILE, "a", 1), {"size": size})
