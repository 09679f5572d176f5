"""What is somebody's own is nobody else's: it never joins, never stays, and no trick of a URL makes it public."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Iterator

import pytest

from tests.attacks.stage import Stage
from tests.upstream import faults, samples
from tests.upstream.steps import Step
from tests.upstream.wire import Reply, Request

ME, FOLLOWING = "/api/v1/me", "/api/v1/crates?following=1"
OF_FERRIS, OF_CORRO = {"authorization": samples.TOKEN}, {"authorization": samples.OTHER_TOKEN}
# How somebody could make a cache take what is private for a file that may be kept.
DISGUISES = (
    "/api/v1/me/x.css",
    "/api/v1/me;x.css",
    "/api/v1/me%3Bx.css",
    "/api/v1/me%23x.css",
    "/api/v1/me%3Fx.css",
    "/api/v1/me?x.css",
    "/api/v1/me/%2e%2e/x.css",
    "/api/v1/x/..%2fme",
    "/api/v1//me",
    "/api/v1/me/",
    "/api/v1/ME",
    "/api/v1/%6de",
    "/api/v1/crates?%66ollowing=1",
    "/api/v1/crates?x=.css&following",
    "/api/v1/crates/leaf/following",
)


class Echo:
    """Upstream answers with who asks, and allows everybody to keep it, as a mistaken upstream might."""

    def __init__(self, *fields: tuple[str, str]) -> None:
        self._fields = fields
        self.seen: list[str] = []

    def __call__(self, request: Request) -> bool:
        self.seen.append(request.header("authorization") + request.header("cookie"))
        return request.host == "api"

    def status(self, reply: Reply) -> int:
        return 200

    def steps(self, reply: Reply) -> Iterator[Step]:
        body = f"for {self.seen[-1]}".encode()
        return faults.Status(200, (("content-type", "text/plain"), *self._fields), body).steps(reply)


def _both(stage: Stage, path: str, times: int) -> tuple[list[bytes], list[bytes]]:
    """What two people get who ask at the same time, again and again."""
    with concurrent.futures.ThreadPoolExecutor(2 * times) as pool:

        def ask(fields: dict[str, str]) -> bytes:
            return stage.got(path, fields)[2]

        ferris = [pool.submit(ask, OF_FERRIS) for _ in range(times)]
        corro = [pool.submit(ask, OF_CORRO) for _ in range(times)]
        return [each.result(60) for each in ferris], [each.result(60) for each in corro]


@pytest.mark.parametrize("path", [ME, FOLLOWING])
def test_two_who_ask_for_their_own_at_once_each_get_it(path: str, stage: Stage) -> None:
    own = {fields["authorization"]: stage.got(path, fields)[2] for fields in (OF_FERRIS, OF_CORRO)}
    stage.upstream.forget()
    stage.upstream.hold("api")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pending = pool.submit(_both, stage, path, 4)
        stage.upstream.wait_for(8, within=30)  # nobody waits for anybody
        stage.upstream.release()
        ferris, corro = pending.result(60)
    assert set(ferris) == {own[samples.TOKEN]}
    assert set(corro) == {own[samples.OTHER_TOKEN]}
    assert stage.got(path)[0] == 403, "who shows nothing gets nothing"


@pytest.mark.parametrize("path", [ME, "/api/v1/something/new", "/api/v1/crates/leaf/1.0.0/something"])
@pytest.mark.parametrize("fields", [(), (("cache-control", "max-age=600"),), (("set-cookie", "a=b"),)], ids=str)
def test_what_upstream_answers_to_a_token_goes_to_who_has_it(
    path: str, fields: tuple[tuple[str, str], ...], stage: Stage
) -> None:
    echo = Echo(*fields)
    stage.upstream.heal()
    stage.upstream.fault(echo, echo)
    for own in (OF_FERRIS, OF_CORRO, {"cookie": "cargo_session=somebody"}, {}):
        _, _, body = stage.got(path, own)
        assert body == f"for {''.join(own.values())}".encode()


def test_even_what_everybody_may_keep_is_kept_from_who_shows_credentials_only_where_upstream_says_so(
    stage: Stage,
) -> None:
    path, echo = "/api/v1/something/new", Echo(("cache-control", "max-age=600"))
    stage.upstream.heal()
    stage.upstream.fault(echo, echo)
    assert stage.got(path)[2] == b"for "
    assert stage.got(path, OF_FERRIS)[2] == f"for {samples.TOKEN}".encode()
    assert stage.got(path)[2] == b"for "


@pytest.mark.parametrize("path", DISGUISES)
def test_no_spelling_of_a_private_path_makes_it_public(path: str, stage: Stage) -> None:
    _, _, mine = stage.got(path, OF_FERRIS)
    status, _, body = stage.got(path)
    assert samples.OWNER.encode() not in body
    assert body != mine or status in (400, 403, 404)
    for fields in (OF_FERRIS, {}):
        assert stage.proxy.get(path, **fields).headers["x-cache"] in ("PASS", "MISS")


def test_credentials_go_to_the_api_alone_and_never_with_what_is_public(stage: Stage) -> None:
    for path in ("/api/v1/crates/leaf", "/index/le/af/leaf", "/api/v1/crates/leaf/1.0.0/download"):
        stage.got(path, {**OF_FERRIS, "cookie": "cargo_session=somebody"})
    assert stage.upstream.asked()
    assert {(asked.header("authorization"), asked.header("cookie")) for asked in stage.upstream.asked()} == {("", "")}
