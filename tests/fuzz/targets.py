"""The places where this proxy reads what strangers wrote, each as a function of bytes that raises where something
happens that may not happen whatever they are: an exception that is none of ours, a 500, a hang, a wrong byte.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import io
import itertools
import json
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from proxy import settings, wiring
from proxy.engine import feed
from proxy.errors import Faulty, Refused
from proxy.fleet import messages
from proxy.metrics import incidents, slots
from proxy.model import Coded, Crate, Entry, Invalidation, Selection, Terms, Witness
from proxy.rules import archive, bodies, codings, keys, lockfile, names, paths, publish, routes, rss, sparse, tar
from proxy.rules.endpoints import TIMED, Kind, Policy
from proxy.stores import codec, envelope, ledger, zstandard
from proxy.stores.disk import DiskStore
from proxy.upstream import line as connections
from proxy.upstream.exchange import Sending
from tests import archives, virtual_time
from tests.fuzz import agreeing, whole
from tests.fuzz.whole import Fault

Try = Callable[[bytes], None]
"""Raises where something is wrong."""


@dataclass(frozen=True, slots=True)
class Target:
    """`opened` gives what is tried, and closes it in the end."""

    about: str
    opened: Callable[[], AbstractContextManager[Try]]
    seeds: Callable[[], Sequence[bytes]]


def _plain(function: Try) -> Callable[[], AbstractContextManager[Try]]:
    return lambda: contextlib.nullcontext(function)


# Requests.

HEADS = (
    b"GET /api/v1/crates/leaf HTTP/1.1\r\nHost: 127.0.0.1\r\n",
    b"GET /index/le/af/leaf HTTP/1.1\r\nHost: 127.0.0.1\r\naccept-encoding: gzip\r\ncargo-protocol: version=1\r\n",
    b"GET /index/config.json HTTP/1.1\r\nHost: localhost:80\r\nX-Forwarded-Host: a\r\n",
    b'GET /api/v1/crates/leaf/1.0.0/download HTTP/1.1\r\nHost: 127.0.0.1\r\nRange: bytes=0-9\r\nIf-Range: "a"\r\n',
    b'HEAD /files/crates/leaf/leaf-1.0.0.crate HTTP/1.1\r\nHost: 127.0.0.1\r\nIf-None-Match: "a", W/"b"\r\n',
    b"GET /api/v1/crates?q=a&page=2&sort=new HTTP/1.1\r\nHost: 127.0.0.1\r\nCache-Control: max-age=0, no-cache\r\n",
    b"GET /api/v1/crates/leaf/1.0.0/readme HTTP/1.0\r\nAccept: application/json\r\nConnection: keep-alive\r\n",
    b"GET /api/v1/me HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: cioAbc\r\nCookie: a=b\r\n",
    b"GET /api/v1/something/new HTTP/1.1\r\nHost: a\r\nCache-Control: only-if-cached, min-fresh=5\r\nVary: *\r\n",
    b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: application/openmetrics-text; version=1.0.0; q=0.5\r\n",
    b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\n",
    b"GET /?mode=a HTTP/1.1\r\nHost: 127.0.0.1\r\nHX-Request: true\r\n",
    b"GET /search?q=%3Cb%3Eleaf&page=2 HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/html\r\n",
    b"GET /crates/leaf HTTP/1.1\r\nHost: 127.0.0.1\r\n",
    b"GET /setup HTTP/1.1\r\nHost: localhost:8080\r\nX-Forwarded-Host: b\r\n",
    b"GET /history?days=7 HTTP/1.1\r\nHost: 127.0.0.1\r\n",
    b"GET /assets/dashboard.js HTTP/1.1\r\nHost: 127.0.0.1\r\nIf-None-Match: *\r\n",
    b"GET /-/stats HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Project: a\r\nX-Request-Id: 0123456789abcdef\r\n",
    b"OPTIONS /api/v1/crates/leaf HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://a\r\n",
    b"GET /api/v1/site_metadata HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: https\r\nX-Forwarded-For: 1.2.3.4\r\n",
)
OFFER = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n"
UPLOADS = (
    b"PUT /api/v1/crates/new HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 21\r\nExpect: 100-continue\r\n\r\n"
    b'\x0f\0\0\0{"name":"leaf"}\0\0',
    b"POST /-/purge HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer secret\r\nContent-Length: 17\r\n\r\n"
    b'{"crate": "leaf"}',
    b"DELETE /api/v1/crates/leaf/1.0.0/yank HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3;a=b\r\nabc\r\n0\r\nX-Trailer: a\r\n\r\n",
)


def _requests() -> Sequence[bytes]:
    heads = [head + b"\r\n" for head in HEADS]
    offers = [head + OFFER + b"\r\n" for head in HEADS[:3]]
    sent = (*heads, *offers, *UPLOADS, heads[0] * 3, heads[1] * 2 + UPLOADS[1], UPLOADS[2] + heads[0])
    return [bytes([number % 4]) + each for number, each in enumerate(sent)]


@contextlib.contextmanager
def _connection() -> Iterator[Try]:
    crates_io = whole.CratesIo()
    given: dict[str, object] = {
        "access__admin_token": "secret",
        "stats__client_header": "X-Project",
        "server__trusted_proxies": ["192.0.2.0/24"],
    }
    with whole.running(lambda _: crates_io, **given) as proxy:

        def tried(data: bytes) -> None:
            crates_io.asked.clear()
            # The first byte says in how many pieces the rest arrives.
            count = data[0] % 4 + 1 if data else 1
            size = max(1, -(-len(data) // count))
            answered(proxy.exchange(*(data[1:][at : at + size] for at in range(0, len(data), size))))
            for ask in crates_io.asked:
                if not _TARGET.fullmatch(ask.target) or ask.method not in {*routes.PASSED, "GET", "HEAD"}:
                    raise Fault(f"this went upstream: {ask.method} {ask.target}")

        yield tried


_TARGET = re.compile(r"(/[0-9A-Za-z!$&'()*+,=:@._~%-]+)+(\?[0-9A-Za-z._~%&=-]*)?")


def answered(wire: bytes) -> None:
    """Whether these are answers of HTTP/1.1, whole but for the last, none of them a 500 of this proxy's own."""
    left = wire
    while left:
        head, end, rest = left.partition(b"\r\n\r\n")
        match = re.fullmatch(rb"HTTP/1\.1 ([1-5][0-9]{2}) [^\r\n]*((?:\r\n[!-9;-~]+: ?[\t\x20-\x7e\x80-\xff]*)*)", head)
        if not end or match is None:
            raise Fault(f"this is no answer: {left[:2000]!r}")
        if match[1] == b"500" and b"\r\nx-cache: PASS" not in head:
            raise Fault(f"{match[0]!r} {rest[:2000]!r}")
        left = _behind(match[1], match[2].lower(), rest)


def _behind(status: bytes, fields: bytes, rest: bytes) -> bytes:
    """What follows this answer; nothing behind one to HEAD, of which there is no telling here where it ends."""
    length = re.search(rb"\r\ncontent-length: ([0-9]+)", fields)
    if status.startswith(b"1") or status in (b"204", b"304"):
        return rest
    if length is None or rest.startswith(b"HTTP/1.1 "):
        return b""
    return rest[int(length[1]) :]


# What upstream answers.


def _answers() -> Sequence[bytes]:
    made = []
    crates = (b"application/json", b'{"crate":{"id":"leaf","name":"leaf"},"versions":[]}')
    line = b'{"name":"leaf","vers":"1.0.0","deps":[],"cksum":"%b","features":{},"yanked":false}\n' % (b"0" * 64)
    for kind, body in (
        crates,
        (b"text/plain", line),
        (b"text/html", b"<p>hi</p>"),
        (b"application/gzip", b"\x1f\x8b" * 9),
    ):
        made.append(b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n%b" % (kind, len(body), body))
        made.append(
            b'HTTP/1.1 200 OK\r\ncontent-type: %b\r\ntransfer-encoding: chunked\r\netag: W/"a"\r\nage: 5\r\n'
            b'cache-control: public, max-age=60, stale-while-revalidate=5, no-cache="set-cookie"\r\nvary: accept\r\n'
            b"last-modified: Sun, 06 Nov 1994 08:49:37 GMT\r\nset-cookie: a=b\r\n\r\n%x\r\n%b\r\n0\r\n\r\n"
            % (kind, len(body), body)
        )
        packed = gzip.compress(body, mtime=0)
        made.append(
            b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n"
            b"cache-control: max-age=60\r\nexpires: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n%b"
            % (kind, len(packed), packed)
        )
    made += [
        b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" + made[0],
        b'HTTP/1.1 304 Not Modified\r\netag: "a"\r\ncache-control: max-age=5\r\n\r\n',
        b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/a\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 404 Not Found\r\ncontent-length: 40\r\ncache-control: max-age=9\r\n\r\n"
        b'{"errors":[{"detail":"does not exist"}]}',
        b"HTTP/1.1 429 Too Many\r\nretry-after: Sun, 06 Nov 1994 08:49:37 GMT\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 503 No\r\nretry-after: 5\r\nconnection: close\r\n\r\nbody up to the end",
        b"HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n{}",
    ]
    return made


def _exchange(data: bytes) -> None:
    """The first bytes say to what it is an answer, whether the connection ended with it, and where it is cut."""
    if len(data) > 4:
        method = b"HEAD" if data[0] % 4 == 1 else b"GET"
        cuts = sorted({0, *(each % (len(data) - 3) for each in data[1:3]), len(data) - 3})
        try:
            agreeing.agreed(method, [data[3:][one:other] for one, other in itertools.pairwise(cuts)], data[0] >= 128)
        except AssertionError as error:
            raise Fault(str(error)) from error


def _exchanges() -> Sequence[bytes]:
    return [bytes([number % 256, number * 7 % 256, 9]) + seed for number, seed in enumerate([*agreeing.seeds()] * 2)]


ASKED = (
    "/api/v1/crates/leaf",
    "/index/le/af/leaf",
    "/api/v1/something/new",
    "/api/v1/me",
    "/files/readmes/leaf/leaf-1.0.0.html",
    "/files/crates/leaf/leaf-1.0.0.crate",
    "/api/v1/site_metadata",
)


@contextlib.contextmanager
def _upstream() -> Iterator[Try]:
    saying = whole.Saying()
    with whole.running(saying.reach, access__admin_token="secret", upstream__renew_ceiling=0) as proxy:

        def tried(data: bytes) -> None:
            size = max(1, len(data) // 2)
            saying.pieces = [data[at : at + size] for at in range(0, len(data), size)]
            for path in ASKED:
                head = b"GET %b HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept-Encoding: gzip\r\n\r\n" % path.encode()
                wire = proxy.exchange(head)
                if not wire:
                    raise Fault(f"no answer to {path}")
                answered(wire)
            body = b'{"all": true}'
            proxy.exchange(
                b"POST /-/purge HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer secret\r\nContent-Length: %d\r\n\r\n%b"
                % (len(body), body)
            )

        yield tried


# What is stored.


def _entries() -> Sequence[bytes]:
    plain = Entry(
        key="search /api/v1/crates",
        status=200,
        headers=((b"content-type", b"application/json"), (b"link", b"</a>"), (b"date", b"today")),
        body=b'{"crates":[]}' * 100,
        etag='"a"',
        requested_at=virtual_time.EPOCH,
        responded_at=virtual_time.EPOCH,
    )
    packed = gzip.compress(plain.body, mtime=0)
    terms = Terms(5.0, 5.0, shared=True, vary=("accept",), variant="0" * 64)
    made = [
        plain,
        replace(plain, gzip=Coded(packed, 'W/"b"')),
        replace(plain, status=404, body=b'{"errors":[{"detail":"none"}]}'),
        replace(plain, lifetime=1e9, validated=True, initial_age=3.0, terms=Terms()),
        replace(plain, lifetime=1e9, status=301, headers=((b"location", b"https://crates.io/a"),)),
        replace(plain, lifetime=1e9, terms=terms, witness=Witness("le/af/leaf", '"c"', virtual_time.EPOCH)),
    ]
    return [codec.encoded(entry) for entry in made]


@contextlib.contextmanager
def _stored() -> Iterator[Try]:
    numbers = itertools.count()
    ttls = {f"endpoints__{name}__ttl": "365d" for name in ("search", "readme")}
    with whole.running(lambda _: whole.CratesIo(), **ttls) as proxy:
        store = proxy.store("json")

        def tried(data: bytes) -> None:
            number = next(numbers)
            readme = f"/files/readmes/leaf/leaf-1.0.{number}.html"
            places = {
                f"search /api/v1/crates?n={number}": f"/api/v1/crates?n={number}",
                f"other /api/v1/something/new?n={number}": f"/api/v1/something/new?n={number}",
                f"readme {readme.removeprefix('/files')}": readme,
            }
            for key, path in places.items():
                proxy.run(store.put(key, data, tag="", keep=None))
                for _ in range(2):  # the second time from memory, the short way
                    head = b"GET %b HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept-Encoding: gzip\r\n\r\n" % path.encode()
                    answered(proxy.exchange(head))
                proxy.run(store.delete(key))

        yield tried


def _frames() -> Sequence[bytes]:
    return [envelope.framed("key", value) for value in (b"", b"value", b"v" * 300)]


def _frame(data: bytes) -> None:
    value = envelope.unframed("key", data)
    if value is not None and envelope.framed("key", value) != data:
        raise Fault("two frames have one meaning")
    codec.decoded_time(data)


@contextlib.contextmanager
def _database() -> Iterator[Try]:
    """The file of an embedded store, as a disk that fails or somebody else leaves it."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:

        def tried(data: bytes) -> None:
            directory = Path(scratch, secrets.token_hex(8))
            (directory / "v1").mkdir(parents=True)
            (directory / "v1" / "cache.db").write_bytes(data)
            try:
                asyncio.run(_used(directory))
            except OSError:
                pass  # it cannot be opened, which is told at the start
            finally:
                shutil.rmtree(directory)

        yield tried


async def _used(directory: Path) -> None:
    store = DiskStore.opened(directory, "json", lambda what, happened: None, reserve=0)
    try:
        for key in ("crate /api/v1/crates/leaf", "index /le/af/leaf", "other /x"):
            await store.get(key)
        [key async for key in store.keys()]
        await store.held()
        await store.put("key", b"value", tag="leaf", keep=5.0)
        value = await store.get("key")
        if value not in (None, b"value"):
            raise Fault("another value than was put")
        await store.purge(Selection(crate="leaf"))
        await store.trim(1)
        await store.health()
    finally:
        await store.aclose()


def _databases() -> Sequence[bytes]:
    async def made(directory: Path) -> None:
        store = DiskStore.opened(directory, "json", lambda what, happened: None, reserve=0)
        for number, value in enumerate((b"small", *_entries()[:2])):
            await store.put(
                ("crate /api/v1/crates/leaf", "index /le/af/leaf", "other /x")[number], value, tag="leaf", keep=None
            )
        await store.aclose()

    with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
        asyncio.run(made(Path(scratch)))
        return [Path(scratch, "v1", "cache.db").read_bytes()]


# Files: the index, locks, the feed, archives.

LINE = json.dumps(
    {"name": "leaf", "vers": "1.0.0", "deps": [], "cksum": "0" * 64, "features": {}, "yanked": False, "v": 2}
).encode()


def _index(data: bytes) -> None:
    releases = list(sparse.releases(data))
    newest = sparse.newest(data)
    if (newest is None) is any(not release.yanked for release in releases):
        raise Fault("the newest is none of them")
    for release in releases:
        if not (names.is_name(release.name) and names.is_version(release.version) and sparse.is_sha256(release.sha256)):
            raise Fault(f"this is believed: {release}")
        found = sparse.release(data, release.version)
        if found is None or found.version != release.version:
            raise Fault(f"{release.version} is not found again")
    bodies.fault(Kind.INDEX, b"text/plain", data)
    bodies.fault(Kind.JSON, b"application/json", data)
    bodies.reason(data)
    sparse.name_of(data.decode("latin-1"))


def _lock(data: bytes) -> None:
    try:
        lock = lockfile.read(data.decode("utf-8", "replace"))
    except Refused as error:
        str(error.detail).encode()
        return
    for package in lock.packages:
        if not (names.is_name(package.name) and names.is_version(package.version)):
            raise Fault(f"this is believed: {package}")
        if package.checksum is not None and not sparse.is_sha256(package.checksum):
            raise Fault(f"this is believed: {package}")


def _locks() -> Sequence[bytes]:
    package = '[[package]]\nname = "leaf"\nversion = "1.0.0"\nsource = "registry+https://github.com/rust-lang/crates.io-index"\n'
    checksum = f'checksum = "{"0" * 64}"\n'
    own = '[[package]]\nname = "own"\nversion = "0.1.0"\ndependencies = [\n "leaf",\n]\n'
    of_format_1 = (
        '[metadata]\n"checksum leaf 1.0.0 (registry+https://github.com/rust-lang/crates.io-index)" = "<none>"\n'
    )
    made = [f"version = {number}\n\n{package}{checksum}\n{own}" for number in (3, 4)]
    return [text.encode() for text in (*made, package + own + of_format_1, 'version = 1e9\npackage = [{name = "a"}]')]


def _feed(data: bytes) -> None:
    try:
        items = rss.items(data)
    except Faulty:
        return
    rss.news(items, [item.identity for item in items[1:]])
    for item in items:
        if not (names.is_name(item.name) and names.is_version(item.version)):
            raise Fault(f"this is believed: {item}")


def _feeds() -> Sequence[bytes]:
    item = (
        "<item><title>leaf 1.0.0</title><pubDate>Sun, 06 Nov 1994 08:49:37 +0000</pubDate>"
        "<crates:name>leaf</crates:name><crates:version>1.0.0</crates:version></item>"
    )
    text = f'<rss version="2.0" xmlns:crates="https://crates.io/"><channel>{item * 2}</channel></rss>'
    begun = '<?xml version="1.0" encoding="UTF-8"?>'
    entity = '<!DOCTYPE a [<!ENTITY b "c"><!ENTITY d SYSTEM "file:///etc/passwd">]>'
    return [(begun + text).encode(), text.encode("utf-16"), (begun + entity + text).encode(), b"<rss></rss>"]


def _archives() -> Sequence[bytes]:
    code = archives.tarball("leaf")
    own = archives.index("leaf", [code])
    answer = archives.File(
        archive.copy_name("crate /api/v1/crates/leaf", _read("/api/v1/crates/leaf")),
        b'{"crate":{}}',
        {
            "key": "crate /api/v1/crates/leaf",
            "headers": [["content-type", "application/json"]],
            "responded_at": archives.NOW,
            "witness": ["le/af/leaf", '"a"', archives.NOW],
        },
    )
    other = archives.File(
        archive.copy_name("other /api/v1/x", _read("/api/v1/x")),
        b"x",
        {"key": "other /api/v1/x", "responded_at": archives.NOW, "terms": {"strict": True, "vary": []}, "lifetime": 5},
    )
    return [
        archives.packed([own, archives.gzipped(own), code, answer, other]),
        archives.packed([own, code]),
        archives.packed([code], manifest=False),
        archives.packed([]),
    ]


def _read(path: str) -> keys.Read:
    return keys.read(routes.match("GET", path, ()), Policy())


@contextlib.contextmanager
def _import() -> Iterator[Try]:
    with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch, virtual_time.running() as runner:
        directory = Path(scratch, "cache")

        async def tried(data: bytes) -> None:
            loaded = settings.load(
                {"cache.dir": str(directory), "cache.min_free": 0, "upstream.offline": True}, None, {}, endpoints=TIMED
            )
            async with wiring.opened(loaded.settings, directory, lambda: archives.NOW) as proxy:
                made = await proxy.ready.importing.run(archives.Bytes(data), lambda size: None)
                "".join([*made.refused, made.broken]).encode("utf-8", "replace")
            if [path.name for path in Path(scratch).iterdir()] != ["cache"]:
                raise Fault("something was written beside the cache")

        yield lambda data: runner.run(tried(data))


def _member(data: bytes) -> None:
    """What a member tells of itself, past its checksums, which bytes by chance never have."""
    name, _, rest = data.partition(b"\n")
    about, _, body = rest.partition(b"\n")
    with contextlib.suppress(Refused):
        told = archive.about({archive.ABOUT: about.decode("latin-1")})
        content = archive.content(name.decode("latin-1"), told)
        if isinstance(content, archive.Copy):
            entry = archive.entry(content, told, body, None, archives.NOW)
            if codec.decoded(codec.encoded(entry)) != entry:
                raise Fault("what was imported is not what will be read")
        elif isinstance(content, archive.Coding):
            archive.coded(told, body, b"code")
    with contextlib.suppress(Refused):
        tar.records(data)
    with contextlib.suppress(Refused):
        header = tar.parsed(data[:512].ljust(512, b"\0"))
        if header is not None:
            tar.described(header, {"size": about.decode("latin-1"), "path": "a"})


def _members() -> Sequence[bytes]:
    places = ["crate /api/v1/crates/leaf", "other /api/v1/x", "readme /readmes/leaf/leaf-1.0.0.html"]
    told = {
        "sha256": "0" * 64,
        "status": 200,
        "headers": [["content-type", "application/json"], ["link", "</a>"]],
        "etag": '"a"',
        "requested_at": archives.NOW,
        "responded_at": archives.NOW,
        "initial_age": 0,
        "lifetime": 5.5,
        "validated": True,
        "terms": {"stale_if_error": None, "vary": ["accept"], "variant": "0" * 64},
        "witness": ["le/af/leaf", '"a"', archives.NOW],
    }
    made = []
    for place in places:
        path = place.partition(" ")[2]
        read = _read("/files" + path if place.startswith("readme") else path)
        about = {**told, "key": place} if place.startswith("crate") else {**told, "key": place, "witness": None}
        made.append(f"{archive.copy_name(place, read)}\n{json.dumps(about)}\n{{}}".encode())
    made.append(b"index/le/af/leaf\n" + json.dumps({"sha256": "0" * 64, "responded_at": 5}).encode() + b"\n" + LINE)
    made.append(b"crates/leaf/leaf-1.0.0.crate.gz\n" + json.dumps({"sha256": "0" * 64}).encode() + b"\nx")
    made.append(b'30 CRATESPROXY.about={"a": "b"}\n11 size=12\n')
    made.append(tar.header("index/le/af/leaf", 5, {"CRATESPROXY.about": "{}"}))
    return made


def _zstd(data: bytes) -> None:
    async def read() -> None:
        unpacked, size = zstandard.Unpacked(io.BytesIO(data)), 0
        with contextlib.suppress(Refused):
            while piece := await unpacked.read(100_000):
                size += len(piece)
                if size > 64 * 2**20:
                    return

    asyncio.run(read())


def _zstds() -> Sequence[bytes]:
    async def made() -> bytes:
        file = io.BytesIO()
        packed = zstandard.Packed(file)
        await packed.write(b"what is in it " * 1000)
        await packed.finish()
        return file.getvalue()

    return [asyncio.run(made())]


def _upload(data: bytes) -> None:
    """The body of a publish; and the same bytes as gzip."""
    whole_, pieces = publish.NameReader(), publish.NameReader()
    whole_.feed(data)
    for at in range(0, len(data), 7):
        pieces.feed(data[at : at + 7])
    if whole_.name != pieces.name:
        raise Fault("it depends on how it comes")
    plain = codings.decoded(data, 1000)
    if plain is not None and len(plain) > 1000:
        raise Fault("more than was allowed")


def _target(data: bytes) -> None:
    """Two targets: those with one key have to mean one thing upstream, and be sent as they are meant."""
    found = [meant(raw) for raw in data.split(b" ")[:2]]
    one, other = found[0], found[-1]
    if one is not None and other is not None and (one[0] == other[0]) is not (one[1] == other[1]):
        raise Fault(f"{one} and {other}")


def meant(raw: bytes) -> tuple[str, tuple[str, bytes]] | None:
    """The key of a raw target, and what is sent upstream for it: the host, and what is behind it. None where it is
    refused."""
    path, _, query = raw.partition(b"?")
    try:
        found = routes.match("GET", paths.path(path), paths.query(query))
        read = keys.read(found, Policy())
    except Refused:
        return None
    written = connections.head(Sending(b"GET", read.target.encode(), ((b"Host", b"h"),), 1.0))
    if written != b"GET %b HTTP/1.1\r\nHost: h\r\n\r\n" % read.target.encode():
        raise Fault(f"{read.target} is sent as {written!r}")
    if read.endpoint.kind is Kind.TARBALL:  # these have no key but their checksum
        return None
    return read.key, (read.endpoint.host, written.split(b" ")[1])


def _targets() -> Sequence[bytes]:
    made = [head.split(b" ")[1] for head in HEADS]
    more = [b"/api/v1/crates/Leaf?a=1&b=%31&a=2", b"/api/v1/a%2Fb", b"/index/3/f/foo?x", b"/api/v1/x;y?a;b=1"]
    return [one + b" " + other for one in (*made, *more) for other in (one, more[0], b"/api/v1/crates/%6ceaf")]


def _row(data: bytes) -> None:
    """What this proxy writes down for itself, and what members of a fleet tell each other: read back from strangers."""
    more = {"leaf": {"requests": 1, "served": 5}}
    slots.unpacked(slots.added(data, more, slots.CRATES))
    incident = incidents.Incident("crate", "Faulty", 502, "it failed", 1.0, 2.0)
    for each in incidents.unpacked(incidents.added(data, [incident], 3.0)):
        f"{each.where} {each.detail} {each.first + each.last:.0f} {each.count:d}"
    feed._decoded(data).pause + feed._decoded(data).looked_at
    record = ledger._unpacked(data)
    f"{record and (record.crate, record.size + 1, record.stored + 1.0)}"
    message = messages.understood(data)
    messages.invalidation(message)
    json.dumps(message)


def _rows() -> Sequence[bytes]:
    change = Invalidation(Selection(crate="leaf"), soft=True, at=5.0)
    return [
        slots.added(b"", {"leaf": {"requests": 1}}, slots.CRATES),
        incidents.added(b"", [incidents.Incident("crate", "Faulty", 502, "it failed", 1.0, 2.0)], 3.0),
        feed._encoded(feed.Position(5.0, ("leaf 1.0.0 today",), '"a"', "today", 1, "it failed")),
        ledger._packed(ledger.Record(Crate("leaf", "1.0.0"), 5, 5.0)),
        messages.line("invalidation", **messages.of_invalidation(change)),
    ]


TARGETS = {
    "request": Target("what a client sends on a connection, through the whole proxy", _connection, _requests),
    "upstream": Target("what upstream answers, through the whole proxy", _upstream, _answers),
    "exchange": Target("what upstream answers, beside another reader of it", _plain(_exchange), _exchanges),
    "stored": Target("an entry in a store (a row, an index file, a value of Redis), served", _stored, _entries),
    "row": Target("what it writes down for itself, and messages of a fleet", _plain(_row), _rows),
    "frame": Target("the frame around what is stored", _plain(_frame), _frames),
    "database": Target("the file of an embedded store", _database, _databases),
    "target": Target("paths and queries: one key, one meaning", _plain(_target), _targets),
    "index": Target("index files and JSON", _plain(_index), lambda: [LINE, LINE + b"\n" + LINE, b'{"errors":[]}']),
    "lock": Target("Cargo.lock", _plain(_lock), _locks),
    "feed": Target("the feed of new versions", _plain(_feed), _feeds),
    "archive": Target("an archive to import, past its compression", _import, _archives),
    "member": Target("what a member of an archive tells of itself", _plain(_member), _members),
    "zstd": Target("the compression of an archive", _plain(_zstd), _zstds),
    "upload": Target("the body of a publish", _plain(_upload), lambda: [UPLOADS[0].partition(b"\r\n\r\n")[2]]),
}
