"""What does not exist takes no room from what does, and who was answered, or has left, takes none at all."""

from __future__ import annotations

import gc
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from proxy.errors import Error
from proxy.server.fast import Fast
from tests.proxied import proxied
from tests.upstream import Upstream
from tests.waiting import until

CRATE, INDEX = "/api/v1/crates/leaf", "/index/le/af/leaf"


@pytest.mark.parametrize("form", ["/api/v1/crates/n{0:07}", "/index/n0/00/n0{0:05}"])
def test_unknown_names_push_nothing_out(form: str, upstream: Upstream, tmp_path: Path) -> None:
    # Two hundred absences weigh twice as much as may be in memory here.
    with proxied(upstream, tmp_path, both_ways=False, cache__memory="256KiB") as proxy:
        for path in (CRATE, INDEX):
            assert proxy.get(path).headers["x-cache"] == "MISS"
        for number in range(200):
            assert proxy.get(form.format(number)).status_code == 404
        proxy.clock.now += 1
        before = len(upstream.asked())
        assert [proxy.get(path).headers["x-cache"] for path in (CRATE, INDEX)] == ["HIT", "HIT"]
        assert len(upstream.asked()) == before
        assert 'crates_proxy_evictions_total{store="memory"} 0.0' in proxy.get("/metrics").text.splitlines()
        stores = {store["store"]: store["entries"] for store in proxy.get("/-/stats").json()["stores"]}
        assert (stores["json"], stores["index"]) == (1, 1), "an absence is not written down"


@pytest.fixture
def uncollected() -> Iterator[None]:
    """The collector of Python's does not come by, as it seldom does where much is under way."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize(
    "path",
    ["/nothing", "/a//b", "/healthz", CRATE, "/api/v1/crates/nothing", "/api/v1/me", "/api/v1/something", "/-/purge"],
)
def test_who_was_answered_leaves_nothing_to_be_collected(
    path: str, upstream: Upstream, tmp_path: Path, uncollected: None
) -> None:
    with proxied(upstream, tmp_path, both_ways=False) as proxy:
        before = _left()
        for _ in range(20):
            assert proxy.get(path, x_any="a").status_code in (200, 400, 403, 404, 405)
        assert _left() <= before + 4, "a connection, and the newest request of each"


@pytest.mark.parametrize("reset", [False, True], ids=["leaves", "breaks off"])
@pytest.mark.parametrize("requests", [0, 1, 300])
def test_who_has_left_leaves_nothing_to_be_collected(
    requests: int, reset: bool, upstream: Upstream, tmp_path: Path, uncollected: None
) -> None:
    with proxied(upstream, tmp_path, both_ways=False) as proxy:
        host, _, port = proxy.url.removeprefix("http://").rpartition(":")
        before = _left()
        for _ in range(10):
            with socket.create_connection((host, int(port))) as client:
                client.sendall(b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n" * requests)
                if requests:
                    client.recv(1)
                if reset:
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        until(lambda: _left() <= before)


def _left() -> int:
    return sum(isinstance(each, Fast | RequestResponseCycle | Error) for each in gc.get_objects())
