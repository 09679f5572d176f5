"""It reaches its three hosts and no others, keeps no cookies, and unpacks nothing without bound."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from proxy.rules import codings
from tests.attacks.stage import OTHER, Stage
from tests.upstream import Upstream, faults, samples
from tests.upstream.wire import Reply, laid_out

ROWS = (
    "/api/v1/crates/leaf",
    "/index/le/af/leaf",
    "/files/readmes/leaf/leaf-1.0.0.html",
    "/files/crates/leaf/leaf-1.0.0.crate",
)


@pytest.fixture(scope="module")
def internal() -> Iterator[Upstream]:
    """Something on this machine that only this machine can reach."""
    with Upstream.running() as running:
        yield running


def _places(internal: Upstream) -> list[str]:
    port = internal.api.rpartition(":")[2]
    return [
        f"{internal.api}/api/v1/summary",
        f"//127.0.0.1:{port}/api/v1/summary",
        f"http://localhost:{port}/api/v1/summary",
        f"http://crates.io@127.0.0.1:{port}/api/v1/summary",
        f"http://[::ffff:127.0.0.1]:{port}/",
        f"http://2130706433:{port}/",
        "http://169.254.169.254/latest/meta-data/",
        "file:///etc/passwd",
        "gopher://127.0.0.1:6379/_FLUSHALL",
        f"\\\\127.0.0.1:{port}\\",
    ]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_upstream_sends_it_nowhere(status: int, stage: Stage, internal: Upstream) -> None:
    for number, place in enumerate(_places(internal)):
        for path in (*ROWS, "/api/v1/me", f"{OTHER}/{number}"):
            stage.upstream.heal()
            stage.upstream.fault(lambda _: True, faults.Status(status, (("location", place),), b""))
            got, fields, _ = stage.got(path, {"authorization": samples.TOKEN})
            if path in ROWS:
                assert got == 502
            else:
                assert (got, dict(fields)["location"]) == (status, place), "where it leads is its client's to judge"
    assert internal.asked() == []
    stage.upstream.heal()
    assert stage.got("/healthz")[0] == 200


def test_no_url_of_a_client_leads_anywhere_else(stage: Stage, internal: Upstream) -> None:
    port = internal.api.rpartition(":")[2].encode()
    targets = [
        b"http://127.0.0.1:%b/api/v1/summary" % port,
        b"//127.0.0.1:%b/api/v1/summary" % port,
        b"/http://127.0.0.1:%b/api/v1/summary" % port,
        b"/api/v1/crates/@127.0.0.1:%b" % port,
        b"/index/@127.0.0.1:%b/leaf" % port,
        b"/files/crates/leaf/leaf-1.0.0.crate?url=http://127.0.0.1:%b/" % port,
        b"/api/v1/..%%2f..%%2f127.0.0.1:%b" % port,
    ]
    for target in targets:
        ((status, _),) = stage.raw(b"GET %b HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n" % target)
        assert status in (200, 400, 404, 421)
    ((status, _),) = stage.raw(b"CONNECT 127.0.0.1:%b HTTP/1.1\r\nHost: 127.0.0.1:%b\r\n\r\n" % (port, port))
    assert status == 400
    assert internal.asked() == []
    assert {asked.header("host") for asked in stage.upstream.asked()} <= {
        url.removeprefix("http://") for url in (stage.upstream.api, stage.upstream.index, stage.upstream.static)
    }


def test_a_cookie_of_upstreams_is_nobodys(stage: Stage) -> None:
    cookie = (("set-cookie", "cargo_session=secret; Path=/"), ("cache-control", "max-age=60"))
    stage.upstream.heal()
    stage.upstream.fault("api", faults.Status(200, (("content-type", "application/json"), *cookie), b"{}"))
    for path in ("/api/v1/crates/leaf", OTHER, "/api/v1/me", "/api/v1/crates/abc"):
        for _ in range(2):
            _, fields, _ = stage.got(path)
            assert ("set-cookie" in dict(fields)) is (path in (OTHER, "/api/v1/me"))
    assert {asked.header("cookie") for asked in stage.upstream.asked()} == {""}
    assert len(stage.upstream.asked(contains=OTHER)) == len(stage.upstream.asked(contains="/me")) == 2, "none is stored"


@pytest.mark.parametrize(
    ("path", "other"),
    [
        ("/index/3/a/abc", "/index/le/af/leaf"),
        ("/api/v1/crates/abc", "/api/v1/crates/leaf"),
        ("/api/v1/crates/abc/1.0.0", "/api/v1/crates/leaf/1.0.0"),
        ("/files/crates/abc/abc-1.0.0.crate", "/files/crates/leaf/leaf-1.0.0.crate"),
    ],
)
def test_an_answer_that_came_too_late_for_its_own_question_answers_no_other(
    path: str, other: str, stage: Stage
) -> None:
    right = stage.got(path)
    _, fields, body = stage.got(other)
    stage.empty()
    late = laid_out(Reply(200, tuple(item for item in fields if item[0] == "content-type"), body))
    target = path.removeprefix("/index").removeprefix("/files")
    stage.upstream.fault(lambda asked: asked.target == target, faults.Interim((late,)), times=1)
    assert stage.got(path)[0] in (200, 502)  # a tarball's head has gone, and its end never comes
    assert stage.got(path) == right


def _bomb(size: int) -> bytes:
    maker, zeros = zlib.compressobj(9, zlib.DEFLATED, 31), bytes(2**20)
    return b"".join([*(maker.compress(zeros) for _ in range(size // 2**20)), maker.flush()])


def test_a_bomb_is_not_unpacked(stage: Stage) -> None:
    bomb = _bomb(200 * 2**20)
    assert len(bomb) < 300_000
    stage.upstream.heal()
    for body, rows in ((bomb, ROWS[:3]), (gzip.compress(bomb), ROWS[:2])):  # what is no JSON may be packed twice
        packed = (("content-type", "application/json"), ("content-encoding", "gzip"), ("cache-control", "max-age=60"))
        stage.upstream.fault(lambda _: True, faults.Status(200, packed, body))
        for path in rows:
            assert stage.got(path)[0] == 502
        with stage.proxy.client.stream("GET", stage.proxy.url + OTHER, headers={"accept-encoding": "gzip"}) as answer:
            assert b"".join(answer.iter_raw()) == body, "it is passed on as it came"
        stage.empty()
        stage.upstream.heal()


def test_unpacking_takes_no_more_than_it_is_allowed() -> None:
    bomb = _bomb(64 * 2**20)
    tracemalloc.start()
    try:
        assert codings.decoded(bomb, 2**20) is None
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()


SCRIPT = "<script>alert(1)</script>"
MARKUP = (SCRIPT, f"\"'>{SCRIPT}", f"</title>{SCRIPT}", "{{7*7}}", "javascript:alert(1)", f"'-alert(1)-'{SCRIPT}")


@pytest.mark.parametrize("text", MARKUP)
def test_nothing_of_a_url_becomes_markup_of_a_page(text: str, stage: Stage) -> None:
    said = quote(text, safe="")
    places = (
        f"/?{said}",
        f"/search?q={said}",
        f"/crates/{said}",
        f"/setup?{said}",
        f"/history?mode={said}",
        f"/{said}",
    )
    for path in places:
        for fields in ({}, {"host": f"127.0.0.1{text}"}, {"user-agent": text, "referer": text, "x-project": text}):
            _, told, body = stage.got(path, fields)
            if "html" in dict(told).get("content-type", ""):
                assert SCRIPT.encode() not in body and b'href="javascript:' not in body
                assert dict(told)["content-security-policy"].startswith("default-src 'none'; script-src 'self';")


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/crates/leaf%0d%0aset-cookie:%20a=b",
        "/api/v1/crates/leaf/1.0.0%0d%0aset-cookie:%20a=b/download",
        "/api/v1/crates?q=%0d%0aset-cookie:%20a=b&page=2",
        "/api/v1/something/%0d%0aset-cookie:%20a=b",
        "/index/le/af/leaf%0d%0aset-cookie:%20a=b",
        "/files/crates/leaf/leaf-1.0.0%0d%0aset-cookie:%20a=b.crate",
        "/files/readmes/leaf/leaf-1.0.0%0a.html",
    ],
)
def test_nothing_of_a_url_breaks_out_into_a_head(path: str, stage: Stage) -> None:
    for fields in ({}, {"accept": "application/json"}):
        _, told, _ = stage.got(path, fields)
        assert "set-cookie" not in dict(told)
    for asked in stage.upstream.asked():
        assert asked.header("set-cookie") == "" and "\r" not in asked.target and "\n" not in asked.target
